/** Class folders of texts: `dir/neg/1.txt`, `dir/pos/2.txt`, read when they are asked for. */
import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expectOptions } from '../check.js';
import type { Tensor } from '../tensor.js';
import { collate } from './collate.js';
import { IterableDataset } from './iterable.js';
import { SampleDataset } from './samples.js';

/** A text and the number of its class. */
export interface LabelledText {
  text: string;
  label: number;
}

export interface TextFolderOptions {
  /** The classes, in the order of their numbers; the folders by name where left out. */
  classes?: readonly string[];
}

const readAhead = 64;

/**
 * Texts in class folders (.txt, UTF-8): batches of an array of strings and labels int64 [B].
 * @example
 * const reviews = new TextFolder('aclImdb/train', { classes: ['neg', 'pos'] });
 * const words = reviews.stream().map(({ text }) => tokenize(cleanText(text)));
 * const vocabulary = await Vocabulary.build(words, { maxSize: 25_000 });
 */
export class TextFolder extends SampleDataset<LabelledText, { text: string[]; label: Tensor }> {
  readonly length: number;
  readonly classes: readonly string[];
  readonly files: readonly string[];
  readonly labels: readonly number[];

  constructor(dir: string, options: TextFolderOptions = {}) {
    super();
    const op = 'TextFolder';
    if (typeof dir !== 'string') {
      throw new TypeError(`${op}: the folder must be a path, got ${describe(dir)}`);
    }
    const { classes } = expectOptions(op, options, ['classes']);
    if (classes !== undefined && !Array.isArray(classes)) {
      throw new TypeError(`${op}: classes must be an array of names, got ${describe(classes)}`);
    }
    const list = (folder: string) => {
      try {
        return readdirSync(folder, { withFileTypes: true });
      } catch (error) {
        throw new Error(`${op}: cannot read ${folder}: ${(error as Error).message}`, {
          cause: error,
        });
      }
    };
    const folders = () =>
      list(dir)
        .filter((entry) => !entry.isFile() && !entry.name.startsWith('.'))
        .map(({ name }) => name)
        .sort();
    this.classes = classes ?? folders();
    const perClass = this.classes.map((name) => {
      const found = list(path.join(dir, name))
        .filter((entry) => !entry.isDirectory() && entry.name.endsWith('.txt'))
        .map((entry) => path.join(dir, name, entry.name));
      if (found.length > 0) return found.sort((a, b) => (a < b ? -1 : 1));
      throw new Error(`${op}: the class ${path.join(dir, name)} must have .txt files, got none`);
    });
    this.files = perClass.flat();
    this.labels = perClass.flatMap((files, label) => files.map(() => label));
    this.length = this.files.length;
    if (this.length === 0) {
      throw new Error(`${op}: ${dir} must have folders of .txt files, got none`);
    }
  }

  override async get(index: number): Promise<LabelledText> {
    const file = this.files[index] as string;
    try {
      return { text: await readFile(file, 'utf8'), label: this.labels[index] as number };
    } catch (error) {
      throw new Error(`TextFolder: cannot read ${file}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  override collate(samples: LabelledText[]): { text: string[]; label: Tensor } {
    return collate(samples, { label: 'int64' });
  }

  /** The texts in the order of their files, some read ahead. */
  stream(): IterableDataset<LabelledText> {
    const { length } = this;
    const get = (index: number) => this.get(index);
    return new IterableDataset(
      async function* () {
        for (let at = 0; at < length; at += readAhead) {
          const count = Math.min(readAhead, length - at);
          yield* await Promise.all(Array.from({ length: count }, (_, i) => get(at + i)));
        }
      },
      { dtypes: { label: 'int64' } },
    );
  }
}
