/**
 * DataLoader: batches of a dataset or of a stream of samples, shuffled by a seed of its own and
 * prepared ahead of the step that uses them, off the event loop where the dataset knows how.
 * `for await` over it runs one epoch, each iteration in a scope of its own (lib/data/epoch.ts).
 * Batches are prepared outside the user's scopes and handed to the iteration's.
 */
import { describe, expectBoolean, expectFunction, expectInteger, expectOptions } from '../check.js';
import { rootContext, runInContext } from '../context.js';
import { type Device, type DeviceLike, device } from '../device.js';
import { to } from '../ops/copy.js';
import { Tensor } from '../tensor.js';
import { hasRows, isStrings } from './collate.js';
import { type Dataset, expectDataset, fetchBatch } from './dataset.js';
import { withDraws } from './draws.js';
import { Epoch, inOwnScope, leftOut, noMore, type Prepared, type Start } from './epoch.js';
import { IterableDataset } from './iterable.js';
import type { BatchSampler, Sampler, SamplerState } from './sampler.js';
import { counted, permutation, RandomWords, seedFrom } from './shuffle.js';

/** Samples that come one after the other: an {@link IterableDataset}. */
export interface BatchStream<Batch> {
  iterate(epoch: number): AsyncIterator<unknown>;
  collate(samples: never[]): Batch;
  /** Infinity: unknown. */
  readonly length: number;
}

// The same tuple, but the dataset alone says which: a transform may leave parameters out.
type Arguments<In> = In extends readonly string[]
  ? [batch: NoInfer<In>]
  : In extends readonly unknown[]
    ? { [At in keyof In]: NoInfer<In[At]> }
    : [batch: NoInfer<In>];

export interface DataLoaderOptions<In = readonly Tensor[], Out = In> {
  /** Samples per batch; 1 where left out. */
  batchSize?: number;
  /** Whether each epoch has a random order of its own; false where left out. */
  shuffle?: boolean;
  /** Seed of the shuffling and of random transforms; that of `manualSeed` where left out. */
  seed?: number | bigint;
  /** Which samples, in what order, instead of `shuffle`. */
  sampler?: Sampler;
  /** Which batches, instead of `batchSize`, `shuffle`, `sampler` and `dropLast`. */
  batchSampler?: BatchSampler;
  /** Whether to leave out a last batch that is not full; false where left out. */
  dropLast?: boolean;
  /** Where batches are moved to; they stay on the dataset's device where left out. */
  device?: DeviceLike;
  /** How many batches are prepared ahead; 2 where left out, 0 for none. */
  prefetch?: number;
  /**
   * Makes of each batch, on its device, what the loop gets; a tuple's parts come as arguments. May
   * return a promise.
   */
  transform?: (...batch: Arguments<In>) => Out | Promise<Out>;
}

/** The place in the data, as checkpoints keep it; plain values that JSON can hold. */
export interface DataLoaderState {
  epoch: number;
  /** Batches of the epoch that were handed out. */
  batch: number;
  seed: string;
  /** Samples of the dataset; -1 for a stream. */
  samples: number;
  batchSize: number;
  shuffle: boolean;
  dropLast: boolean;
  /** That of the sampler or batch sampler, where it has one. */
  sampler?: SamplerState;
}

const fixed = ['samples', 'batchSize', 'shuffle', 'dropLast'] as const;

/**
 * Batches of a dataset; one that its dataset leaves empty is passed over. Loops over them leave the
 * event loop a turn every 10 ms, for signals, timers and requests.
 * @example
 * const loader = new DataLoader(data, { batchSize: 100, shuffle: true, seed: 0, device: 'cuda' });
 * for await (const [x, y] of loader) await step(x, y);
 */
export class DataLoader<In extends object, Out extends object | [] = In>
  implements AsyncIterable<Out>
{
  /** Batches per epoch, at most; Infinity for a stream, whose end is not known. */
  readonly length: number;
  /** Samples per batch; 0 where a batch sampler decides. */
  readonly batchSize: number;
  readonly shuffle: boolean;
  readonly dropLast: boolean;
  private seed: bigint;
  private readonly sampler: Sampler | null;
  private readonly batchSampler: BatchSampler | null;
  private readonly prefetch: number;
  private readonly device: Device | null;
  private readonly transform: ((...batch: never[]) => unknown) | null;
  private at = { epoch: 0, batch: 0 };
  private resumed = false;

  constructor(
    readonly dataset: Dataset<In> | BatchStream<In>,
    options: DataLoaderOptions<In, Out> = {},
  ) {
    const op = 'DataLoader';
    expectOptions(op, options, [
      'batchSize',
      'shuffle',
      'seed',
      'sampler',
      'batchSampler',
      'dropLast',
      'device',
      'prefetch',
      'transform',
    ]);
    const { sampler = null, batchSampler = null, transform } = options;
    const stream = dataset instanceof IterableDataset;
    if (!stream) expectDataset(op, dataset as Dataset<In>);
    this.sampler = expectSampler('sampler', sampler, 'order');
    this.batchSampler = expectSampler('batchSampler', batchSampler, 'batches');
    for (const name of ['batchSize', 'shuffle', 'sampler', 'dropLast'] as const) {
      if (batchSampler && options[name] !== undefined) {
        throw new TypeError(`${op}: ${name} must be left out beside batchSampler`);
      }
    }
    this.batchSize = batchSampler ? 0 : expectInteger(op, 'batchSize', options.batchSize ?? 1, 1);
    this.shuffle = expectBoolean(op, 'shuffle', options.shuffle ?? false);
    this.dropLast = expectBoolean(op, 'dropLast', options.dropLast ?? false);
    if (this.shuffle && sampler) {
      throw new TypeError(`${op}: shuffle must be left out beside a sampler`);
    }
    if (stream && (this.shuffle || sampler || batchSampler)) {
      throw new TypeError(
        `${op}: a stream has no order to choose from: shuffle it by its own .shuffle(size)`,
      );
    }
    this.prefetch = expectInteger(op, 'prefetch', options.prefetch ?? 2, 0, 1024);
    this.seed = seedFrom(op, options.seed);
    this.device = options.device === undefined ? null : device(options.device);
    this.transform = transform === undefined ? null : expectFunction(op, 'transform', transform);
    const batches = (sampler ?? dataset).length / this.batchSize;
    this.length =
      batchSampler?.length ?? (this.dropLast ? Math.floor(batches) : Math.ceil(batches));
  }

  /** The epoch in progress, counted from 0; between two epochs, the next. */
  get epoch(): number {
    return this.at.epoch;
  }

  /** How many batches of the epoch were handed out. */
  get position(): number {
    return this.at.batch;
  }

  /**
   * The place in the data. Taken in the body of a loop, it counts the batch of that iteration as
   * done: the loop that resumes from it goes on with the next.
   */
  stateDict(): DataLoaderState {
    const { samples, batchSize, shuffle, dropLast } = this.form();
    const sampler = (this.sampler ?? this.batchSampler)?.stateDict?.();
    const seed = String(this.seed);
    const form = { samples, batchSize, shuffle, dropLast };
    return { ...this.at, seed, ...form, ...(sampler && { sampler }) };
  }

  /**
   * Makes the next loop go on where {@link stateDict} was taken, with its seed and its sampler's.
   * @throws RangeError where the dataset, the batches or the sampler are not those of the state
   */
  loadStateDict(state: DataLoaderState): void {
    const form = this.form();
    for (const key of fixed) {
      if (state?.[key] !== form[key]) {
        throw new RangeError(
          `DataLoader: ${key} must be ${String(state?.[key])} as in the saved state, got ${form[key]}`,
        );
      }
    }
    const epoch = expectInteger('DataLoader', 'epoch', state.epoch, 0, 2 ** 32 - 1);
    const batch = expectInteger('DataLoader', 'batch', state.batch, 0, this.length);
    if (state.sampler) (this.sampler ?? this.batchSampler)?.loadStateDict?.(state.sampler);
    this.seed = seedFrom('DataLoader', state.seed);
    this.at = { epoch, batch };
    this.resumed = true;
  }

  /** @internal Runs what may loop over this loader, and returns to the place in the data. */
  async apart<T>(work: () => Promise<T>): Promise<T> {
    const { at, resumed } = this;
    Object.assign(this, { at: { epoch: at.epoch, batch: 0 }, resumed: false });
    try {
      return await work();
    } finally {
      Object.assign(this, { at, resumed });
    }
  }

  /** One epoch; the rest of one after {@link loadStateDict}. A loop that was left starts anew. */
  [Symbol.asyncIterator](): AsyncIterator<Out, undefined> {
    return new Epoch<Out>(this.length, this.prefetch, {
      begin: () => this.begin(),
      handedOut: (epoch, batch) => {
        this.at = { epoch, batch };
      },
    });
  }

  private form() {
    const { batchSize, shuffle, dropLast } = this;
    const { length } = this.dataset;
    const samples = Number.isFinite(length) ? length : -1;
    return { samples, batchSize, shuffle, dropLast };
  }

  private begin(): Start<Out> {
    if (this.at.batch > 0 && !this.resumed) this.at = { epoch: this.at.epoch + 1, batch: 0 };
    this.resumed = false;
    const { dataset } = this;
    const { epoch } = this.at;
    if (dataset instanceof IterableDataset) return this.beginStream(dataset);
    const { batchSize } = this;
    const batches = this.batchSampler?.batches(epoch);
    const order = batches ? null : this.order(epoch);
    return {
      ...this.at,
      prepare: (batch) => {
        const indices =
          order?.slice(batch * batchSize, (batch + 1) * batchSize) ??
          (batches?.[batch] as Uint32Array);
        return inOwnScope(() => {
          const found = fetchBatch(dataset as Dataset<In>, indices, { epoch }, this.prefetch > 0);
          return found instanceof Promise
            ? found.then((raw) => this.finish(raw, epoch, batch))
            : this.finish(found, epoch, batch);
        });
      },
    };
  }

  private order(epoch: number): Uint32Array {
    if (this.sampler) return this.sampler.order(epoch);
    const { length } = this.dataset;
    return this.shuffle ? permutation(length, this.seed, epoch) : counted(length);
  }

  private beginStream(stream: BatchStream<In>): Start<Out> {
    const { epoch, batch: first } = this.at;
    const samples = new SampleReader(stream, epoch, first * this.batchSize);
    return {
      ...this.at,
      prepare: (batch) =>
        inOwnScope(async () => {
          const found = await samples.read(this.batchSize);
          if (found.length === 0 || (this.dropLast && found.length < this.batchSize)) return noMore;
          return this.finish(stream.collate(found as never[]), epoch, batch);
        }) as Promise<Prepared<Out>>,
      close: () => samples.close(),
    };
  }

  private finish(
    raw: In,
    epoch: number,
    batch: number,
  ): Out | typeof leftOut | Promise<Out | typeof leftOut> {
    if (!isBatch(raw)) {
      throw new TypeError(
        `DataLoader: a batch must be an array of tensors, or an object of them, got ${describe(raw)}`,
      );
    }
    if (hasRows(raw, 0)) return leftOut;
    const { device: on, transform } = this;
    const moved = (on ? moveTo(raw, on) : raw) as never;
    if (!transform) return moved;
    const parts = Array.isArray(moved) && !isStrings(moved) ? (moved as never[]) : [moved];
    const words = new RandomWords(this.seed, epoch, 'change', batch);
    return withDraws(words, () => transform(...parts)) as Out | Promise<Out>;
  }
}

/** Samples of a stream, read one batch after the other, outside every scope. */
class SampleReader {
  private readonly samples: AsyncIterator<unknown>;
  private last: Promise<unknown>;

  constructor(stream: BatchStream<unknown>, epoch: number, skipped: number) {
    this.samples = stream.iterate(epoch);
    this.last = skipped > 0 ? this.after(Promise.resolve(), skipped) : Promise.resolve();
    this.last.catch(() => {});
  }

  /** The next samples; fewer, or none, at the end. */
  read(count: number): Promise<unknown[]> {
    const found = this.after(this.last, count);
    this.last = found;
    return found;
  }

  close(): void {
    // What the stream holds open is closed by its own `finally`, after a read in progress.
    this.samples.return?.().catch(() => {});
  }

  private after(before: Promise<unknown>, count: number): Promise<unknown[]> {
    return runInContext({ ...rootContext, grad: false }, async () => {
      await before;
      const found: unknown[] = [];
      while (found.length < count) {
        const { done, value } = await this.samples.next();
        if (done) break;
        found.push(value);
      }
      return found;
    });
  }
}

function expectSampler<S extends { length: number }>(
  name: string,
  sampler: S | null,
  method: keyof S,
): S | null {
  if (sampler === null) return null;
  if (typeof sampler?.[method] !== 'function') {
    throw new TypeError(
      `DataLoader: ${name} must have the method ${String(method)}, got ${describe(sampler)}`,
    );
  }
  expectInteger('DataLoader', `${name}.length`, sampler.length, 0, 2 ** 32 - 1);
  return sampler;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return (
    value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype
  );
}

function isBatch(value: unknown): boolean {
  if (value instanceof Tensor) return true;
  if (Array.isArray(value)) return isStrings(value) || value.every(isBatch);
  return isPlain(value) && Object.values(value).every(isBatch);
}

function moveTo(value: unknown, on: Device): unknown {
  if (value instanceof Tensor) return to(value, on);
  if (Array.isArray(value)) return value.map((item) => moveTo(item, on));
  if (!isPlain(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, moveTo(item, on)]));
}
