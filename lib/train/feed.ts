/**
 * Where batches come from: arrays and tensors in memory, a DataLoader or dataset, or any iterable of
 * batches. All become one: an iterator per epoch, each batch in a scope of its own.
 */
import { describe, expectBoolean, expectInteger } from '../check.js';
import { type Dataset, TensorDataset } from '../data/dataset.js';
import { IterableDataset } from '../data/iterable.js';
import { DataLoader } from '../data/loader.js';
import type { Device } from '../device.js';
import { type DType, isFloating, type TypedArray } from '../dtype.js';
import { to } from '../ops/copy.js';
import { tensor } from '../ops/fill.js';
import { slice } from '../ops/view.js';
import { LoopScope, scope } from '../scope.js';
import { type NestedArray, Tensor } from '../tensor.js';

/** Numbers: a tensor, nested arrays, or a typed array (of one axis). */
export type Values = Tensor | NestedArray | TypedArray;

/** What goes into a model: numbers, or one tensor per argument of its `forward`. */
export type Inputs = Values | readonly Tensor[];

/** Inputs, targets and, where wanted, a weight per sample. */
export type Batch = readonly [x: Inputs, y: Values, weight?: Values] | readonly Tensor[];

/**
 * What gives batches of two or three tensors: [x, y] or [x, y, weight], where the weights are floats,
 * one per sample. A function is called at the start of every epoch.
 */
export type BatchSource =
  | DataLoader<readonly Tensor[], readonly Tensor[]>
  | Dataset<readonly Tensor[]>
  | IterableDataset<unknown, readonly Tensor[]>
  | AsyncIterable<Batch>
  | Iterable<Batch>
  | (() => AsyncIterable<Batch> | Iterable<Batch>);

/** A batch as the steps take it, on the model's device. */
export interface Ready {
  inputs: Tensor[];
  target: Tensor | null;
  weight: Tensor | null;
}

export interface FeedOptions {
  device: Device;
  batchSize: number;
  shuffle: boolean;
  seed?: number | bigint | undefined;
  /** Whether numbers in arrays that are all whole stand for indices. */
  indices: boolean;
  /** Whether batches have no targets. */
  inputsOnly?: boolean;
}

/** One iterator per epoch. */
export interface Feed {
  /** Batches per epoch; null where nobody knows. */
  readonly length: number | null;
  /** Keeps the place in the data, where there is something that does. */
  readonly resumable: Pick<DataLoader<object>, 'stateDict' | 'loadStateDict' | 'apart'> | null;
  /** The whole data, where it is in memory. */
  readonly memory: Ready | null;
  /** @param skip how many batches to leave out, for what cannot resume by itself */
  epoch(skip: number): AsyncIterator<unknown>;
  ready(batch: unknown): Ready;
  dispose(): void;
}

function isTensors(value: unknown): value is readonly Tensor[] {
  return Array.isArray(value) && value.length > 0 && value.every((item) => item instanceof Tensor);
}

function isTyped(value: unknown): value is TypedArray {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

/** Whether this is an array of batches of tensors; one of numbers has none inside its elements. */
export function isBatches(value: unknown): value is readonly Batch[] {
  const isBatch = (item: unknown): boolean =>
    Array.isArray(item) &&
    item.length > 0 &&
    item.every((part) => part instanceof Tensor || isTensors(part));
  return Array.isArray(value) && value.length > 0 && value.every(isBatch);
}

/** Whether this is numbers rather than a source of batches. */
export function isValues(value: unknown): value is Inputs {
  if (Array.isArray(value)) return !isBatches(value);
  return value instanceof Tensor || isTyped(value);
}

function wholeNumbers(values: NestedArray): boolean {
  return Array.isArray(values) ? values.every(wholeNumbers) : Number.isInteger(values);
}

/** A tensor of what the user gave; numbers in arrays as int64 where they stand for indices. */
function made(op: string, name: string, value: unknown, device: Device, indices: boolean): Tensor {
  if (value instanceof Tensor) return to(value, device);
  if (isTyped(value)) return tensor(value, { device });
  if (Array.isArray(value)) {
    const dtype: DType | undefined = indices && wholeNumbers(value) ? 'int64' : undefined;
    return tensor(value as NestedArray, { device, ...(dtype && { dtype }) });
  }
  throw new TypeError(`${op}: ${name} must be a tensor or numbers, got ${describe(value)}`);
}

/** Inputs as tensors, one per argument of `forward`. */
function inputsOf(op: string, x: unknown, options: FeedOptions, device: Device): Tensor[] {
  const list = isTensors(x) ? x : [x];
  return list.map((item) => made(op, 'x', item, device, options.indices));
}

function rowsOf(op: string, name: string, x: Tensor): number {
  const [rows] = x.shape;
  if (rows !== undefined) return rows;
  throw new RangeError(`${op}: ${name} needs an axis of samples, got a scalar`);
}

/** One weight per sample: what else stands third in a batch must not be taken for weights. */
function expectWeights(op: string, name: string, weight: Tensor, rows: number): void {
  const { shape, rank, dtype } = weight;
  if (weight.size === rows && (rank === 1 || (rank === 2 && shape[1] === 1))) return;
  throw new RangeError(
    `${op}: ${name} must be [${rows}], a number per sample, got ${dtype}[${shape}]`,
  );
}

/** Numbers in memory as tensors of as many rows; new handles, so that the user's stay the user's. */
export function inMemory(
  op: string,
  x: unknown,
  y: unknown,
  weight: unknown,
  options: FeedOptions,
): Ready {
  return scope(() => checkedRows(op, x, y, weight, options));
}

function checkedRows(
  op: string,
  x: unknown,
  y: unknown,
  weight: unknown,
  options: FeedOptions,
): Ready {
  const own = (value: Tensor, given: unknown): Tensor =>
    value === given ? slice(value, 0, 0, rowsOf(op, 'x', value)) : value;
  const given = isTensors(x) ? x : [x];
  const device = (value: unknown): Device =>
    value instanceof Tensor ? value.device : options.device;
  const inputs = given.map((item) => own(made(op, 'x', item, device(item), options.indices), item));
  const [rows] = inputs.map((input) => rowsOf(op, 'x', input)) as [number];
  if (rows === 0) {
    throw new RangeError(`${op}: x must have samples, got none in [${inputs[0]?.shape}]`);
  }
  const matching = (name: string, value: unknown): Tensor | null => {
    if (value === undefined) return null;
    const found = own(made(op, name, value, device(value), false), value);
    if (rowsOf(op, name, found) === rows && inputs.every((input) => input.shape[0] === rows)) {
      return found;
    }
    throw new RangeError(
      `${op}: x and ${name} must have as many samples, got [${inputs[0]?.shape}] and [${found.shape}]`,
    );
  };
  const weights = matching('sampleWeight', weight);
  if (weights) expectWeights(op, 'sampleWeight', weights, rows);
  return { inputs, target: matching('y', y), weight: weights };
}

/** Rows from `begin` to `end` of what is in memory. */
export function rowsBetween({ inputs, target, weight }: Ready, begin: number, end: number): Ready {
  const part = (x: Tensor): Tensor => slice(x, 0, begin, end);
  return {
    inputs: inputs.map(part),
    target: target && part(target),
    weight: weight && part(weight),
  };
}

/** The tensors of a batch. */
export function tensorsOf({ inputs, target, weight }: Ready): Tensor[] {
  return [...inputs, ...(target ? [target] : []), ...(weight ? [weight] : [])];
}

/** Batches of what is in memory; the tensors belong to the feed from here on. */
export function memoryFeed(data: Ready, options: FeedOptions): Feed {
  const tensors = tensorsOf(data);
  const { batchSize, shuffle, seed, device } = options;
  const loader = new DataLoader(new TensorDataset(...tensors), {
    ...{ batchSize, shuffle, device },
    ...(seed !== undefined && { seed }),
  });
  return {
    length: loader.length,
    resumable: loader,
    memory: data,
    epoch: () => loader[Symbol.asyncIterator](),
    ready: (batch) => {
      const list = batch as Tensor[];
      const count = data.inputs.length;
      return {
        inputs: list.slice(0, count),
        target: data.target ? (list[count] as Tensor) : null,
        weight: data.weight ? (list[count + 1] as Tensor) : null,
      };
    },
    dispose: () => {
      for (const part of tensors) part.dispose();
    },
  };
}

/** Iterates over batches made elsewhere, each iteration a scope. */
class Loop implements AsyncIterator<unknown, undefined> {
  private readonly loop = new LoopScope();
  constructor(
    private readonly inner: AsyncIterator<unknown> | Iterator<unknown>,
    private skip: number,
    private readonly close: boolean,
  ) {}

  // Not async: the scope must be entered while the loop itself is running.
  next(): Promise<IteratorResult<unknown, undefined>> {
    const scope = this.loop.enter();
    scope.awaiting = true;
    const advance = async (): Promise<IteratorResult<unknown, undefined>> => {
      for (; this.skip > 0; --this.skip) await this.inner.next();
      return (await this.inner.next()) as IteratorResult<unknown, undefined>;
    };
    return advance().then(
      (result) => {
        scope.awaiting = false;
        if (result.done) this.loop.exit();
        return result;
      },
      (error) => {
        scope.awaiting = false;
        this.loop.exit();
        throw error;
      },
    );
  }

  async return(): Promise<IteratorResult<unknown, undefined>> {
    this.loop.exit();
    if (this.close) await this.inner.return?.();
    return { done: true, value: undefined };
  }
}

function iterate(op: string, source: unknown): AsyncIterator<unknown> | Iterator<unknown> {
  const found = source as Partial<AsyncIterable<unknown> & Iterable<unknown>> | null;
  if (typeof found?.[Symbol.asyncIterator] === 'function') {
    return (found as AsyncIterable<unknown>)[Symbol.asyncIterator]();
  }
  if (typeof found?.[Symbol.iterator] === 'function') {
    return (found as Iterable<unknown>)[Symbol.iterator]();
  }
  throw new TypeError(
    `${op}: x must be numbers, a DataLoader, a dataset, or an iterable of batches or a function that gives one, got ${describe(source)}`,
  );
}

/** Whether this is data that is yet to be cut into batches. */
export function isDataset(source: unknown): source is Dataset | IterableDataset<unknown> {
  const found = source as Partial<Dataset> | null;
  const indexed = typeof found?.batch === 'function' && typeof found.length === 'number';
  return indexed || source instanceof IterableDataset;
}

/** The loader of a dataset; null for what is none. A stream shuffles itself, or not at all. */
function loaderOf(source: unknown, options: FeedOptions): DataLoader<object, object> | null {
  if (!isDataset(source)) return null;
  const { batchSize, shuffle, device, seed } = options;
  return new DataLoader<object, object>(source, {
    ...{ batchSize, device, shuffle: shuffle && !(source instanceof IterableDataset) },
    ...(seed !== undefined && { seed }),
  });
}

/** Batches from anything but numbers in memory. */
export function sourceFeed(op: string, source: unknown, options: FeedOptions): Feed {
  const { device, inputsOnly = false } = options;
  const ready = (batch: unknown): Ready => {
    const pair = Array.isArray(batch) && batch.length >= 1 && batch.length <= 3;
    // What is to be predicted may come with its targets, or alone.
    const alone = inputsOnly && !pair;
    if (!alone && !(pair && (inputsOnly || batch.length > 1))) {
      throw new TypeError(
        `${op}: a batch must be [x, y] or [x, y, weight], got ${describe(batch)}`,
      );
    }
    const [x, y, weight] = alone ? [batch] : (batch as unknown[]);
    const on = (name: string, value: unknown): Tensor | null =>
      value === undefined || inputsOnly ? null : made(op, name, value, device, false);
    const inputs = inputsOf(op, x, options, device);
    if (!inputsOnly && inputs[0]?.shape[0] === 0) {
      throw new RangeError(`${op}: a batch must have samples, got none in [${inputs[0].shape}]`);
    }
    const weights = on('the weight', weight);
    if (weights) {
      const third = 'the third of a batch [x, y, weight]';
      expectWeights(op, third, weights, rowsOf(op, 'x', inputs[0] as Tensor));
      if (weight instanceof Tensor && !isFloating(weight.dtype)) {
        throw new TypeError(`${op}: ${third} must be floats, got ${describe(weight)}`);
      }
    }
    return { inputs, target: on('y', y), weight: weights };
  };
  const loader = source instanceof DataLoader ? source : loaderOf(source, options);
  if (loader) {
    const length = Number.isFinite(loader.length) ? loader.length : null;
    return {
      ...{ length, resumable: loader, memory: null, ready, dispose: () => {} },
      epoch: () => loader[Symbol.asyncIterator](),
    };
  }
  const { length } = (source ?? {}) as { length?: unknown };
  const known =
    typeof source === 'object' && Number.isSafeInteger(length) ? (length as number) : null;
  if (typeof source === 'function') {
    return {
      ...{ length: null, resumable: null, memory: null, ready, dispose: () => {} },
      epoch: (skip) => new Loop(iterate(op, source()), skip, true),
    };
  }
  iterate(op, source);
  return {
    ...{ length: known, resumable: null, memory: null, ready, dispose: () => {} },
    // An iterator that goes on from epoch to epoch must stay open.
    epoch: (skip) => {
      const inner = iterate(op, source);
      return new Loop(inner, skip, (inner as unknown) !== source);
    },
  };
}

/** Batch size and shuffling, checked. */
export function expectBatching(op: string, batchSize: unknown, shuffle: unknown) {
  return {
    batchSize: expectInteger(op, 'batchSize', batchSize ?? 32, 1),
    shuffle: expectBoolean(op, 'shuffle', shuffle ?? true),
  };
}
