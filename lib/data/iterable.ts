/**
 * Streams of samples, for sets larger than memory: read anew in each epoch, with map, filter, take,
 * skip, concat and shuffling through a buffer. Nothing runs until a loop asks for a sample.
 */
import { describe, expectFunction, expectInteger, expectOptions } from '../check.js';
import type { Collated } from './collate.js';
import type { SeedOption } from './sampler.js';
import { type CollateOptions, collateFunction } from './samples.js';
import { RandomWords, seedFrom } from './shuffle.js';

type Items<S> = Iterable<S> | AsyncIterable<S>;

/** Samples that can be gone through: again and again where given as a function or a list. */
export type SampleSource<S> = Items<S> | ((epoch: number) => Items<S>);

/**
 * Samples from a source that is read from its start in each epoch.
 * @example
 * const lines = new IterableDataset(() => createInterface({ input: createReadStream('big.txt') }));
 * const data = lines.map((line) => JSON.parse(line)).shuffle(1000, { seed: 1 });
 * for await (const batch of new DataLoader(data, { batchSize: 32 })) …
 */
export class IterableDataset<S, B = Collated<S>> implements AsyncIterable<S> {
  /** Unknown: Infinity. */
  readonly length = Number.POSITIVE_INFINITY;
  /** Makes a batch of samples. */
  readonly collate: (samples: S[]) => B;
  private readonly open: (epoch: number) => Items<S>;
  private loops = 0;

  /** @param source a list, or a function that returns fresh samples for an epoch */
  constructor(source: SampleSource<S>, options: CollateOptions<S, B> = {}) {
    this.collate = collateFunction('IterableDataset', options);
    if (typeof source === 'function') {
      this.open = source;
      return;
    }
    if (!isIterable(source)) {
      throw new TypeError(
        `IterableDataset: the source must be iterable or a function, got ${describe(source)}`,
      );
    }
    let used = false;
    this.open = () => {
      if (used && 'next' in source) {
        throw new Error(
          'IterableDataset: the source can be read once only: give a function that returns a new one',
        );
      }
      used = true;
      return source;
    };
  }

  /** The samples of an epoch. */
  async *iterate(epoch: number): AsyncGenerator<S, undefined> {
    const items: unknown = this.open(epoch);
    if (!isIterable(items)) {
      throw new TypeError(
        `IterableDataset: its function must return an iterable, got ${describe(items)}`,
      );
    }
    yield* items as AsyncIterable<S>;
  }

  /** The samples of epoch 0 in the first loop, of epoch 1 in the second, and so on. */
  [Symbol.asyncIterator](): AsyncGenerator<S, undefined> {
    return this.iterate(this.loops++);
  }

  /** Other samples from each; `fn` may return a promise. */
  map<T, C = Collated<T>>(
    fn: (sample: S) => T | Promise<T>,
    options: CollateOptions<T, C> = {},
  ): IterableDataset<T, C> {
    expectFunction('IterableDataset.map', 'its function', fn);
    const from = (epoch: number) => this.iterate(epoch);
    return new IterableDataset<T, C>(async function* (epoch: number) {
      for await (const sample of from(epoch)) yield await fn(sample);
    }, options);
  }

  /** The samples for which `fn` is true. */
  filter(fn: (sample: S) => boolean): IterableDataset<S, B> {
    expectFunction('IterableDataset.filter', 'its function', fn);
    return this.through(async function* (samples) {
      for await (const sample of samples) if (fn(sample)) yield sample;
    });
  }

  /** The first `count` samples. */
  take(count: number): IterableDataset<S, B> {
    expectInteger('IterableDataset.take', 'count', count, 0);
    return this.through(async function* (samples) {
      if (count === 0) return;
      let taken = 0;
      for await (const sample of samples) {
        yield sample;
        if (++taken === count) return;
      }
    });
  }

  /** All but the first `count` samples. */
  skip(count: number): IterableDataset<S, B> {
    expectInteger('IterableDataset.skip', 'count', count, 0);
    return this.through(async function* (samples) {
      let seen = 0;
      for await (const sample of samples) if (++seen > count) yield sample;
    });
  }

  /** These samples, then those of the others. */
  concat(...others: readonly IterableDataset<S, B>[]): IterableDataset<S, B> {
    for (const other of others) {
      if (!(other instanceof IterableDataset)) {
        throw new TypeError(
          `IterableDataset.concat: needs IterableDatasets, got ${describe(other)}`,
        );
      }
    }
    return this.through(async function* (samples, epoch) {
      yield* samples;
      for (const other of others) yield* other.iterate(epoch);
    });
  }

  /**
   * The samples in a random order, new in each epoch: a buffer of `size` samples is filled, and each
   * sample that goes out is drawn from it and replaced by the next of the source.
   */
  shuffle(size = 1000, options: SeedOption = {}): IterableDataset<S, B> {
    const op = 'IterableDataset.shuffle';
    expectInteger(op, 'size', size, 1, 2 ** 32 - 1);
    const seed = seedFrom(op, expectOptions(op, options, ['seed']).seed);
    return this.through(async function* (samples, epoch) {
      const words = new RandomWords(seed, epoch, 'buffer');
      const buffer: S[] = [];
      for await (const sample of samples) {
        if (buffer.length < size) {
          buffer.push(sample);
          continue;
        }
        const at = words.below(size);
        const out = buffer[at] as S;
        buffer[at] = sample;
        yield out;
      }
      while (buffer.length > 0) {
        const at = words.below(buffer.length);
        const out = buffer[at] as S;
        buffer[at] = buffer[buffer.length - 1] as S;
        buffer.pop();
        yield out;
      }
    });
  }

  /** All samples of epoch 0, in memory. */
  async toArray(): Promise<S[]> {
    const all: S[] = [];
    for await (const sample of this.iterate(0)) all.push(sample);
    return all;
  }

  private through(
    change: (samples: AsyncGenerator<S, undefined>, epoch: number) => AsyncGenerator<S>,
  ): IterableDataset<S, B> {
    return new IterableDataset<S, B>((epoch) => change(this.iterate(epoch), epoch), {
      collate: this.collate,
    });
  }
}

function isIterable(value: unknown): boolean {
  if (value === null || typeof value !== 'object') return false;
  return Symbol.iterator in value || Symbol.asyncIterator in value;
}
