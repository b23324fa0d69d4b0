/** Text to words: cleaning, tokenising, vocabularies. */
import { readFile } from 'node:fs/promises';
import { describe, expectBoolean, expectInteger, expectOptions } from '../check.js';
import { writeAtomically } from '../io/atomic.js';
import { writing } from '../io/writing.js';

export interface CleanOptions {
  /** Lower case; true where left out. */
  lowerCase?: boolean;
  /** Whether HTML tags become spaces and the common entities their characters; true where left out. */
  html?: boolean;
  /** Whether punctuation becomes spaces, apostrophes within words apart; false where left out. */
  punctuation?: boolean;
}

const entities: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  nbsp: ' ',
};

function expectText(op: string, text: unknown): string {
  if (typeof text === 'string') return text;
  throw new TypeError(`${op}: needs text, got ${describe(text)}`);
}

/**
 * Text as a tokenizer wants it: tags dropped, lower case, Unicode in composed form (NFC), runs of
 * spaces as one.
 * @example cleanText('Great!<br />I&apos;d buy it again') // "great! i'd buy it again"
 */
export function cleanText(text: string, options: CleanOptions = {}): string {
  const op = 'cleanText';
  const {
    lowerCase = true,
    html = true,
    punctuation = false,
  } = expectOptions(op, options, ['lowerCase', 'html', 'punctuation']);
  let clean = expectText(op, text).normalize('NFC');
  if (expectBoolean(op, 'html', html)) {
    clean = clean.replace(/<(?:[/?]?[a-zA-Z]|!)[^<>]*>/g, ' ');
    clean = clean.replace(/&(#\d{1,7}|#x[\da-f]{1,6}|[a-z]{2,6});/gi, (whole, name: string) => {
      if (!name.startsWith('#')) return entities[name.toLowerCase()] ?? whole;
      const code = Number(name.replace('#', /x/i.test(name) ? '0' : ''));
      return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    });
  }
  if (expectBoolean(op, 'lowerCase', lowerCase)) clean = clean.toLowerCase();
  if (expectBoolean(op, 'punctuation', punctuation)) {
    clean = clean.replace(/(?<!\p{L})['’]|['’](?!\p{L})|[^\p{L}\p{M}\p{N}\s'’]/gu, ' ');
  }
  return clean.replace(/\s+/g, ' ').trim();
}

/**
 * The words of a text: runs of letters, marks and digits of any script, with single apostrophes or
 * hyphens inside (`don't`, `well-made`); every other character but space is a token of its own.
 * @example tokenize("don't stop, 3 times") // ["don't", 'stop', ',', '3', 'times']
 */
export function tokenize(text: string): string[] {
  const word = /[\p{L}\p{M}\p{N}]+(?:['’-][\p{L}\p{M}\p{N}]+)*|[^\s\p{L}\p{M}\p{N}]/gu;
  return expectText('tokenize', text).match(word) ?? [];
}

export interface VocabularyOptions {
  /** At most so many words, specials apart: the most frequent; no limit where left out. */
  maxSize?: number;
  /** How often a word must occur; 1 where left out. */
  minCount?: number;
  /** What stands for padding, number 0; '<pad>' where left out, null for none. */
  padding?: string | null;
  /** What stands for words that are not in the vocabulary; '<unk>' where left out, null for none. */
  unknown?: string | null;
}

interface VocabularyState {
  kind: 'Vocabulary';
  words: string[];
  padding: string | null;
  unknown: string | null;
}

/**
 * Words by number: padding 0, unknown 1, then words by how often they occur, ties in the order of
 * their text.
 * @example
 * const vocabulary = await Vocabulary.build(reviews.map(tokenize), { maxSize: 25_000 });
 * vocabulary.encode(['good', 'zyx']); // [57, 1]
 */
export class Vocabulary {
  /** The words in the order of their numbers, specials first. */
  readonly words: readonly string[];
  /** Number of padding, or null. */
  readonly paddingIndex: number | null;
  /** Number of unknown words, or null. */
  readonly unknownIndex: number | null;
  private readonly numbers: ReadonlyMap<string, number>;

  /** @param words in the order of their numbers; specials must be among them */
  constructor(
    words: readonly string[],
    specials: Pick<VocabularyOptions, 'padding' | 'unknown'> = {},
  ) {
    const op = 'Vocabulary';
    if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) {
      throw new TypeError(`${op}: words must be an array of strings, got ${describe(words)}`);
    }
    this.words = [...words];
    this.numbers = new Map(words.map((word, number) => [word, number]));
    if (this.numbers.size !== words.length) {
      const twice = words.find((word, number) => this.numbers.get(word) !== number);
      throw new RangeError(`${op}: words must differ, got ${describe(twice)} twice`);
    }
    const { padding = null, unknown = null } = expectOptions(op, specials, ['padding', 'unknown']);
    const place = (name: string, word: string | null): number | null => {
      if (word === null) return null;
      const found = this.numbers.get(word);
      if (found !== undefined) return found;
      throw new RangeError(`${op}: ${name} must be one of the words, got ${describe(word)}`);
    };
    this.paddingIndex = place('padding', padding);
    this.unknownIndex = place('unknown', unknown);
  }

  /** From texts as lists of words, which may come as a stream. */
  static async build(
    texts: Iterable<readonly string[]> | AsyncIterable<readonly string[]>,
    options: VocabularyOptions = {},
  ): Promise<Vocabulary> {
    const op = 'Vocabulary.build';
    const given: unknown = texts;
    if (
      given === null ||
      typeof given !== 'object' ||
      !(Symbol.iterator in given || Symbol.asyncIterator in given)
    ) {
      throw new TypeError(`${op}: texts must be lists of words, got ${describe(texts)}`);
    }
    const { maxSize = Number.MAX_SAFE_INTEGER, minCount = 1 } = expectOptions(op, options, [
      'maxSize',
      'minCount',
      'padding',
      'unknown',
    ]);
    const { padding = '<pad>', unknown = '<unk>' } = options;
    expectInteger(op, 'maxSize', maxSize, 0);
    expectInteger(op, 'minCount', minCount, 1);
    const counts = new Map<string, number>();
    for await (const text of texts) {
      if (!Array.isArray(text)) {
        throw new TypeError(`${op}: a text must be a list of words, got ${describe(text)}`);
      }
      for (const word of text) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
    const specials = [padding, unknown].filter((word) => word !== null);
    for (const word of specials) counts.delete(word);
    const frequent = [...counts]
      .filter(([, count]) => count >= minCount)
      .sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
      .slice(0, maxSize)
      .map(([word]) => word);
    return new Vocabulary([...specials, ...frequent], { padding, unknown });
  }

  /** Number of words, specials included. */
  get size(): number {
    return this.words.length;
  }

  /** Whether a word has a number of its own. */
  has(word: string): boolean {
    return this.numbers.has(word);
  }

  /** The number of a word; that of unknown words where it is not there. */
  index(word: string): number {
    const found = this.numbers.get(word) ?? this.unknownIndex;
    if (found !== null) return found;
    throw new RangeError(
      `Vocabulary: a word must be among its ${this.size} words, got ${describe(word)}`,
    );
  }

  /** The numbers of words. */
  encode(words: readonly string[]): number[] {
    if (!Array.isArray(words)) {
      throw new TypeError(`Vocabulary.encode: needs a list of words, got ${describe(words)}`);
    }
    return words.map((word) => this.index(word));
  }

  /** The words of numbers, padding left out. */
  decode(numbers: Iterable<number | bigint>): string[] {
    const given: unknown = numbers;
    if (given === null || typeof given !== 'object' || !(Symbol.iterator in given)) {
      throw new TypeError(`Vocabulary.decode: needs a list of numbers, got ${describe(numbers)}`);
    }
    const found: string[] = [];
    for (const each of numbers) {
      const value = typeof each === 'bigint' ? Number(each) : each;
      const number = expectInteger('Vocabulary.decode', 'a number', value, 0, this.size - 1);
      if (number !== this.paddingIndex) found.push(this.words[number] as string);
    }
    return found;
  }

  /** What {@link Vocabulary.fromJSON} makes the vocabulary of. */
  toJSON(): VocabularyState {
    const word = (number: number | null) =>
      number === null ? null : (this.words[number] as string);
    return {
      kind: 'Vocabulary',
      words: [...this.words],
      padding: word(this.paddingIndex),
      unknown: word(this.unknownIndex),
    };
  }

  static fromJSON(state: unknown): Vocabulary {
    const found = state as VocabularyState | null;
    if (typeof found !== 'object' || found?.kind !== 'Vocabulary') {
      throw new TypeError(
        `Vocabulary.fromJSON: needs the saved state of a Vocabulary, got ${describe(state)}`,
      );
    }
    const { words, kind: _, ...options } = found;
    return new Vocabulary(words, options);
  }

  /** Writes it as JSON, atomically; its folder is made. */
  async save(file: string): Promise<void> {
    const text = Buffer.from(JSON.stringify(this));
    await writing('Vocabulary.save', file, () => writeAtomically(file, [text]));
  }

  static async load(file: string): Promise<Vocabulary> {
    try {
      return Vocabulary.fromJSON(JSON.parse(await readFile(file, 'utf8')));
    } catch (error) {
      throw new Error(`Vocabulary.load: cannot read ${file}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
}
