/** Datasets that give one sample at a time, and datasets made of others. */
import { describe, expectFunction, expectInteger, expectOptions } from '../check.js';
import { type Collated, collate, joinBatches, type PartTypes } from './collate.js';
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

  private gather(indices: Uint32Array, place: BatchPlace | undefined, ahead: boolean) {
    const order = new Uint32Array(indices.length);
    const batches: (B | Promise<B>)[] = [];
    let start = 0;
    let placed = 0;
    for (const dataset of this.datasets) {
      const end = start + dataset.length;
      const mine: number[] = [];
      indices.forEach((index, i) => {
        if (index < start || index >= end) return;
        mine.push(index - start);
        order[i] = placed++;
      });
      if (mine.length > 0) {
        batches.push(fetchBatch(dataset, Uint32Array.from(mine), place, ahead));
      }
      start = end;
    }
    if (batches.length === 1) return batches[0] as B | Promise<B>;
    const joined = (found: B[]) => joinBatches(found, order) as B;
    if (!batches.some((batch) => batch instanceof Promise)) return joined(batches as B[]);
    return Promise.all(batches).then(joined);
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
    return batch instanceof Promise ? batch.then(this.fn) : this.fn(batch);
  }
}
