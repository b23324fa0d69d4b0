/** Datasets that give one sample at a time, and datasets made of others. */
import { describe, expectFunction, expectInteger, expectOptions } from '../check.js';
import { type Collated, collate, hasRows, joinBatches, type PartTypes } from './collate.js';
import { type BatchPlace, type Dataset, expectDataset, fetchBatch } from './dataset.js';
import { expectIndices } from './sampler.js';

/**
 * A dataset by its samples: give `length` and `get`. Batches are made by {@link collate}; override
 * `collate` where samples differ in size.
 * @example
 * class Squares extends SampleDataset<[number, number]> {
 *   readonly length = 100;
 *   get(i: number): [number, number] { return [i, i * i]; }
 * }
 */
export abstract class SampleDataset<S, B = Collated<S>> implements Dataset<B> {
  abstract readonly length: number;
  /** The sample of a number; a promise where it must be waited for. */
  abstract get(index: number, place?: BatchPlace): S | Promise<S>;

  /** A batch of samples: tensors with a leading axis, in the form of a sample. */
  collate(samples: S[]): B | Promise<B> {
    return collate(samples) as B;
  }

  batch(indices: Uint32Array, place?: BatchPlace): B | Promise<B> {
    const found = Array.from(indices, (index) => this.get(index, place));
    if (!found.some((sample) => sample instanceof Promise)) return this.collate(found as S[]);
    return Promise.all(found).then((samples) => this.collate(samples));
  }
}

export interface CollateOptions<S, B> {
  /** Element types by part: `{ label: 'int64' }`; see {@link collate}. */
  dtypes?: PartTypes<S>;
  /** Makes a batch of samples; {@link collate} where left out. */
  collate?: (samples: S[]) => B;
}

/** @internal How samples become a batch. */
export function collateFunction<S, B>(
  op: string,
  options: CollateOptions<S, B>,
): (samples: S[]) => B {
  const { dtypes, collate: own } = expectOptions(op, options, ['dtypes', 'collate']);
  if (own !== undefined) return expectFunction(op, 'collate', own);
  return (samples) => collate(samples, dtypes) as B;
}

/**
 * Samples in memory.
 * @example new ListDataset([{ x: [1, 2], y: 0 }, { x: [3, 4], y: 1 }], { dtypes: { y: 'int64' } })
 */
export class ListDataset<S, B = Collated<S>> extends SampleDataset<S, B> {
  readonly length: number;
  private readonly make: (samples: S[]) => B;

  constructor(
    readonly samples: readonly S[],
    options: CollateOptions<S, B> = {},
  ) {
    super();
    if (!Array.isArray(samples)) {
      throw new TypeError(`ListDataset: samples must be an array, got ${describe(samples)}`);
    }
    this.make = collateFunction('ListDataset', options);
    this.length = samples.length;
  }

  override get(index: number): S {
    return this.samples[index] as S;
  }

  override collate(samples: S[]): B {
    return this.make(samples);
  }
}

/** Some samples of a dataset, in the given order. */
export class Subset<B> implements Dataset<B> {
  readonly length: number;
  readonly indices: Uint32Array;

  constructor(
    readonly dataset: Dataset<B>,
    indices: readonly number[] | Uint32Array,
  ) {
    expectDataset('Subset', dataset);
    this.indices = expectIndices('Subset', indices, dataset.length);
    this.length = this.indices.length;
  }

  batch(indices: Uint32Array, place?: BatchPlace): B | Promise<B> {
    return this.dataset.batch(this.inner(indices), place);
  }

  prefetch(indices: Uint32Array, place?: BatchPlace): B | Promise<B> {
    return fetchBatch(this.dataset, this.inner(indices), place, true);
  }

  private inner(indices: Uint32Array): Uint32Array {
    return indices.map((index) => this.indices[index] as number);
  }
}

/** The samples of a dataset from `start` up to `end`, not included: take and skip in one. */
export function sliceDataset<B>(
  dataset: Dataset<B>,
  start: number,
  end: number = dataset?.length,
): Subset<B> {
  const { length } = expectDataset('sliceDataset', dataset);
  expectInteger('sliceDataset', 'start', start, 0, length);
  expectInteger('sliceDataset', 'end', end, start, length);
  return new Subset(
    dataset,
    Uint32Array.from({ length: end - start }, (_, i) => start + i),
  );
}

/** Samples of a batch that one dataset gives: their numbers in it, and their places in the batch. */
interface Share<B> {
  dataset: Dataset<B>;
  inner: number[];
  places: number[];
}

/** A share as shares of one sample. */
function ones<B>({ dataset, inner, places }: Share<B>): Share<B>[] {
  return inner.map((index, i) => ({ dataset, inner: [index], places: [places[i] as number] }));
}

/** One batch of the batches of shares, each whole or empty, in the order of their places. */
function inOrder<B>(batches: readonly B[], shares: readonly Share<B>[]): B {
  const kept = batches.map((batch) => !hasRows(batch, 0));
  if (!kept.includes(true)) return batches[0] as B;
  const places = shares.flatMap((share, i) => (kept[i] ? share.places : []));
  const order = Uint32Array.from(places.keys()).sort(
    (a, b) => (places[a] as number) - (places[b] as number),
  );
  return joinBatches(
    batches.filter((_, i) => kept[i]),
    order,
  ) as B;
}

/** The samples of several datasets, one after the other; their batches must have one form. */
export class ConcatDataset<B> implements Dataset<B> {
  readonly length: number;
  readonly datasets: readonly Dataset<B>[];

  constructor(...datasets: readonly Dataset<B>[]) {
    for (const dataset of datasets) expectDataset('ConcatDataset', dataset);
    this.datasets = datasets;
    const total = datasets.reduce((sum, { length }) => sum + length, 0);
    this.length = expectInteger('ConcatDataset', 'the number of samples', total, 0, 2 ** 32 - 1);
  }

  batch(indices: Uint32Array, place?: BatchPlace): B | Promise<B> {
    return this.gather(indices, place, false);
  }

  prefetch(indices: Uint32Array, place?: BatchPlace): B | Promise<B> {
    return this.gather(indices, place, true);
  }

  private gather(
    indices: Uint32Array,
    place: BatchPlace | undefined,
    ahead: boolean,
  ): B | Promise<B> {
    const fetch = ({ dataset, inner }: Share<B>) =>
      fetchBatch(dataset, Uint32Array.from(inner), place, ahead);
    const shares = this.shares(indices);
    const batches = shares.map(fetch);
    if (batches.length === 1) return batches[0] as B | Promise<B>;
    const joined = (found: B[]): B | Promise<B> => {
      const whole = shares.every(({ inner }, i) => hasRows(found[i], inner.length));
      if (whole) return inOrder(found, shares);
      // A batch does not say which samples it leaves out: they are asked for one by one.
      const single = shares.flatMap(ones);
      return Promise.all(single.map(fetch)).then((all) => inOrder(all, single));
    };
    if (!batches.some((batch) => batch instanceof Promise)) return joined(batches as B[]);
    return Promise.all(batches).then(joined);
  }

  /** What each dataset gives of a batch. */
  private shares(indices: Uint32Array): Share<B>[] {
    const shares: Share<B>[] = [];
    let start = 0;
    for (const dataset of this.datasets) {
      const share: Share<B> = { dataset, inner: [], places: [] };
      indices.forEach((index, i) => {
        if (index < start || index >= start + dataset.length) return;
        share.inner.push(index - start);
        share.places.push(i);
      });
      if (share.inner.length > 0) shares.push(share);
      start += dataset.length;
    }
    return shares;
  }
}

/** A dataset whose batches are changed by a function. */
export class MapDataset<In, Out> implements Dataset<Out> {
  readonly length: number;

  /** @param fn makes of each batch another, in the same order of samples */
  constructor(
    readonly dataset: Dataset<In>,
    private readonly fn: (batch: In) => Out | Promise<Out>,
  ) {
    this.length = expectDataset('MapDataset', dataset).length;
    expectFunction('MapDataset', 'its function', fn);
  }

  batch(indices: Uint32Array, place?: BatchPlace): Out | Promise<Out> {
    return this.apply(this.dataset.batch(indices, place));
  }

  prefetch(indices: Uint32Array, place?: BatchPlace): Out | Promise<Out> {
    return this.apply(fetchBatch(this.dataset, indices, place, true));
  }

  private apply(batch: In | Promise<In>): Out | Promise<Out> {
    // A batch whose samples were all left out stays as it is: nothing is in it to be changed.
    const changed = (found: In) => (hasRows(found, 0) ? (found as unknown as Out) : this.fn(found));
    return batch instanceof Promise ? batch.then(changed) : changed(batch);
  }
}
