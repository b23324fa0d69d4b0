/**
 * Pretrained word vectors in GloVe's text format (a word and its numbers per line, separated by
 * spaces; plain, gzipped, or in a zip), read line by line. A first line of two numbers, as word2vec
 * writes it, is skipped.
 */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { pipeline, type Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { describe, expectOptions } from '../check.js';
import { cpu, type DeviceLike } from '../device.js';
import { to } from '../ops/copy.js';
import { tensor } from '../ops/fill.js';
import { type Generator, randn } from '../ops/random.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { openInZip } from './archive.js';
import { Vocabulary } from './text.js';

export interface VectorsOptions {
  /** Which file of a zip: its name, or how it ends; the only one where left out. */
  member?: string;
  /** Draws the rows of words without a vector; the default generator where left out. */
  generator?: Generator;
  device?: DeviceLike;
}

export interface WordVectors {
  /** float32 [vocabulary.size, width]: for nn.Embedding.fromPretrained. */
  weight: Tensor;
  /** How many words of the vocabulary have a vector. */
  found: number;
  /** The words without one, specials apart. */
  missing: string[];
}

async function textOf(op: string, file: string, member: string | undefined): Promise<Readable> {
  let head: Buffer;
  try {
    const handle = await open(file, 'r');
    try {
      head = (await handle.read(Buffer.alloc(4), 0, 4, 0)).buffer;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw new Error(`${op}: cannot read ${file}: ${(error as Error).message}`, { cause: error });
  }
  if (head.toString('latin1', 0, 2) === 'PK') return openInZip(op, file, member);
  const source = createReadStream(file);
  if (head[0] !== 0x1f || head[1] !== 0x8b) return source;
  const unzipped = createGunzip();
  pipeline(source, unzipped, () => {});
  return unzipped;
}

/**
 * An embedding table for a vocabulary from pretrained vectors: a row for each word that has one,
 * zeros for padding, and normal numbers with the spread of the found vectors for all others.
 * @throws Error naming file and line where the vectors are damaged or differ in width
 * @example
 * const { weight, found } = await loadVectors('glove.6B.zip', vocabulary, { member: '100d.txt' });
 * const words = nn.Embedding.fromPretrained(weight, { paddingIdx: 0, freeze: false });
 */
export async function loadVectors(
  file: string,
  vocabulary: Vocabulary,
  options: VectorsOptions = {},
): Promise<WordVectors> {
  const op = 'loadVectors';
  if (typeof file !== 'string') {
    throw new TypeError(`${op}: the file must be a path, got ${describe(file)}`);
  }
  if (!(vocabulary instanceof Vocabulary)) {
    throw new TypeError(`${op}: needs a Vocabulary, got ${describe(vocabulary)}`);
  }
  const { member, generator, device } = expectOptions(op, options, [
    'member',
    'generator',
    'device',
  ]);
  let width = 0;
  let table = new Float32Array(0);
  const seen = new Uint8Array(vocabulary.size);
  let line = 0;
  const input = await textOf(op, file, member);
  const damaged = (what: string) => new Error(`${op}: ${file} line ${line} ${what}`);
  const take = (text: string): Error | null => {
    const parts = text.trimEnd().split(' ');
    if (width === 0) {
      if (parts.length === 2 && parts.every((part) => /^\d+$/.test(part))) return null;
      width = parts.length - 1;
      if (width < 1) return damaged(`must hold a word and its numbers, got ${describe(text)}`);
      table = new Float32Array(vocabulary.size * width);
    }
    if (parts.length < width + 1) {
      return damaged(`must hold a word and ${width} numbers, got ${parts.length - 1}`);
    }
    // A few tokens of GloVe's larger files hold spaces themselves: the numbers are the last ones.
    const word = parts.slice(0, parts.length - width).join(' ');
    if (!vocabulary.has(word)) return null;
    const row = vocabulary.index(word);
    for (let i = 0; i < width; ++i) {
      const value = Number(parts[parts.length - width + i]);
      if (Number.isNaN(value))
        return damaged(`must hold numbers, got ${describe(parts.at(i - width))}`);
      table[row * width + i] = value;
    }
    seen[row] = 1;
    return null;
  };
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
  let refused: Error | null = null;
  try {
    for await (const text of lines) {
      ++line;
      if (text === '') continue;
      refused = take(text);
      if (refused) break;
    }
  } catch (error) {
    throw new Error(`${op}: ${file} is damaged: ${(error as Error).message}`, { cause: error });
  } finally {
    lines.close();
    input.destroy();
  }
  if (refused) throw refused;
  if (width === 0) throw new Error(`${op}: ${file} must hold vectors, got an empty file`);
  return scope(() => finished(vocabulary, table, seen, width, generator, device ?? cpu));
}

function finished(
  vocabulary: Vocabulary,
  table: Float32Array,
  seen: Uint8Array,
  width: number,
  generator: Generator | undefined,
  device: DeviceLike,
): WordVectors {
  const found = seen.reduce((a, b) => a + b, 0);
  let squares = 0;
  for (const value of table) squares += value * value;
  const spread = found > 0 ? Math.sqrt(squares / (found * width)) : 1;
  const draws = randn([vocabulary.size, width], {
    device: cpu,
    ...(generator && { generator }),
  }).data();
  const missing: string[] = [];
  vocabulary.words.forEach((word, row) => {
    if (seen[row] || row === vocabulary.paddingIndex) return;
    if (row !== vocabulary.unknownIndex) missing.push(word);
    for (let i = row * width; i < (row + 1) * width; ++i) table[i] = spread * Number(draws[i]);
  });
  const weight = to(tensor(table, [vocabulary.size, width], { device: cpu }), device);
  return { weight, found, missing };
}
