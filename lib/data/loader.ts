/**
 * DataLoader: batches of a dataset, shuffled by a seed of its own and prepared ahead of the step
 * that uses them, off the event loop where the dataset knows how. `for await` over it runs one epoch, each iteration in a scope of its own (see
 * lib/scope.ts). Batches are prepared outside the user's scopes and handed to the iteration's.
 *
 * The iterator is written by hand: an async generator would run in a context of its own, and the
 * scope it enters would not reach the body of the loop.
 */
import { describe, expectBoolean, expectInteger } from '../check.js';
import { context, outsideScopes, runInContext } from '../context.js';
import { type Device, type DeviceLike, device } from '../device.js';
import { to } from '../ops/copy.js';
import { defaultGenerator } from '../ops/random.js';
import { LoopScope, Scope, visitTensors } from '../scope.js';
import { Tensor } from '../tensor.js';
import type { Dataset } from './dataset.js';
import { counted, permutation } from './shuffle.js';

type Tensors = readonly Tensor[];

// The same tuple, but the dataset alone says which: a transform may leave parameters out.
type Parts<In extends Tensors> = { [At in keyof In]: NoInfer<In[At]> };

export interface DataLoaderOptions<In extends Tensors = Tensors, Out extends Tensors = In> {
  /** Samples per batch; 1 where left out. */
  batchSize?: number;
  /** Whether each epoch has a random order of its own; false where left out. */
  shuffle?: boolean;
  /** Seed of the shuffling; that of the default generator (`manualSeed`) where left out. */
  seed?: number | bigint;
  /** Whether to leave out a last batch that is not full; false where left out. */
  dropLast?: boolean;
  /** Where batches are moved to; they stay on the dataset's device where left out. */
  device?: DeviceLike;
  /** How many batches are prepared ahead; 2 where left out, 0 for none. */
  prefetch?: number;
  /** Makes of each batch, on its device, what the loop gets. May return a promise. */
  transform?: (...batch: Parts<In>) => Out | Promise<Out>;
}

/** The place in the data, as checkpoints keep it; plain values that JSON can hold. */
export interface DataLoaderState {
  epoch: number;
  /** Batches of the epoch that were handed out. */
  batch: number;
  seed: string;
  samples: number;
  batchSize: number;
  shuffle: boolean;
  dropLast: boolean;
}

const fixed = ['samples', 'batchSize', 'shuffle', 'dropLast'] as const;

/**
 * Batches of a dataset.
 * @example
 * const loader = new DataLoader(data, { batchSize: 100, shuffle: true, seed: 0, device: 'cuda' });
 * for await (const [x, y] of loader) await step(x, y);
 */
export class DataLoader<In extends Tensors, Out extends Tensors | [] = In>
  implements AsyncIterable<Out>
{
  /** Batches per epoch. */
  readonly length: number;
  readonly batchSize: number;
  readonly shuffle: boolean;
  readonly dropLast: boolean;
  private seed: bigint;
  private readonly prefetch: number;
  private readonly device: Device | null;
  private readonly transform: ((...batch: In) => unknown) | null;
  private at = { epoch: 0, batch: 0 };
  private resumed = false;

  constructor(
    readonly dataset: Dataset<In>,
    options: DataLoaderOptions<In, Out> = {},
  ) {
    if (typeof dataset?.batch !== 'function') {
      throw new TypeError(`DataLoader: expected a dataset, got ${describe(dataset)}`);
    }
    expectInteger('DataLoader', 'dataset.length', dataset.length, 0, 2 ** 32 - 1);
    this.batchSize = expectInteger('DataLoader', 'batchSize', options.batchSize ?? 1, 1);
    this.shuffle = expectBoolean('DataLoader', 'shuffle', options.shuffle ?? false);
    this.dropLast = expectBoolean('DataLoader', 'dropLast', options.dropLast ?? false);
    this.prefetch = expectInteger('DataLoader', 'prefetch', options.prefetch ?? 2, 0, 1024);
    this.seed = seedFrom(options.seed ?? defaultGenerator.initialSeed);
    this.device = options.device === undefined ? null : device(options.device);
    const { transform } = options;
    if (transform !== undefined && typeof transform !== 'function') {
      throw new TypeError(`DataLoader: transform must be a function, got ${describe(transform)}`);
    }
    this.transform = transform ?? null;
    const batches = dataset.length / this.batchSize;
    this.length = this.dropLast ? Math.floor(batches) : Math.ceil(batches);
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
    return { ...this.at, seed: String(this.seed), samples, batchSize, shuffle, dropLast };
  }

  /**
   * Makes the next loop go on where {@link stateDict} was taken, with its seed.
   * @throws RangeError where the dataset or the batches are not those of the state
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
    this.seed = seedFrom(state.seed);
    this.at = { epoch, batch };
    this.resumed = true;
  }

  /** One epoch; the rest of one after {@link loadStateDict}. A loop that was left starts anew. */
  [Symbol.asyncIterator](): AsyncIterator<Out, undefined> {
    return new Epoch<Out>(this.length, this.prefetch, {
      begin: () => this.begin(),
      prepare: (batch, order) => this.prepare(batch, order),
      handedOut: (epoch, batch) => {
        this.at = { epoch, batch };
      },
    });
  }

  private form() {
    const { batchSize, shuffle, dropLast } = this;
    return { samples: this.dataset.length, batchSize, shuffle, dropLast };
  }

  private begin(): Start {
    if (this.at.batch > 0 && !this.resumed) this.at = { epoch: this.at.epoch + 1, batch: 0 };
    this.resumed = false;
    const { length } = this.dataset;
    const order = this.shuffle ? permutation(length, this.seed, this.at.epoch) : counted(length);
    return { ...this.at, order };
  }

  private prepare(batch: number, order: Uint32Array): Prepared<Out> | Promise<Prepared<Out>> {
    const indices = order.slice(batch * this.batchSize, (batch + 1) * this.batchSize);
    const { dataset } = this;
    return inOwnScope(() => {
      const found =
        this.prefetch > 0 && dataset.prefetch ? dataset.prefetch(indices) : dataset.batch(indices);
      return found instanceof Promise ? found.then((raw) => this.finish(raw)) : this.finish(found);
    }) as Prepared<Out> | Promise<Prepared<Out>>;
  }

  private finish(raw: In): unknown {
    if (!Array.isArray(raw) || !raw.every((part) => part instanceof Tensor)) {
      throw new TypeError(`DataLoader: a batch must be an array of tensors, got ${describe(raw)}`);
    }
    const { device: on, transform } = this;
    const moved = on ? raw.map((part) => to(part, on)) : raw;
    return transform ? transform(...(moved as unknown as In)) : moved;
  }
}

/** A batch, and those of its tensors that nobody owns yet. */
interface Prepared<Out> {
  value: Out;
  fresh: Tensor[];
}

/** Where an epoch begins, and its order. */
interface Start {
  epoch: number;
  batch: number;
  order: Uint32Array;
}

interface Source<Out> {
  begin(): Start;
  prepare(batch: number, order: Uint32Array): Prepared<Out> | Promise<Prepared<Out>>;
  handedOut(epoch: number, batch: number): void;
}

/** One loop over an epoch. */
class Epoch<Out> implements AsyncIterator<Out, undefined> {
  private loop: LoopScope | null = null;
  private start: Start = { epoch: 0, batch: 0, order: new Uint32Array() };
  private prepared = 0;
  private handedOut = 0;
  private readonly queue: (Prepared<Out> | Promise<Prepared<Out>>)[] = [];
  private ended = false;

  constructor(
    private readonly length: number,
    private readonly prefetch: number,
    private readonly source: Source<Out>,
  ) {}

  // Not async: the scope must be entered while the loop itself is running.
  next(): Promise<IteratorResult<Out, undefined>> {
    if (this.ended) return finished();
    if (!this.loop) {
      this.loop = new LoopScope();
      this.begin();
    }
    if (this.handedOut >= this.length) {
      this.end();
      this.source.handedOut(this.start.epoch + 1, 0);
      return finished();
    }
    let scope: Scope;
    try {
      scope = this.loop.enter();
    } catch (error) {
      this.end();
      throw error;
    }
    scope.awaiting = true;
    const head = this.queue.shift() ?? this.prepareNext();
    while (this.queue.length < this.prefetch && this.prepared < this.length) {
      this.queue.push(this.prepareNext());
    }
    const batch = ++this.handedOut;
    return Promise.resolve(head).then(
      ({ value, fresh }) => {
        scope.awaiting = false;
        if (scope.closed) {
          for (const tensor of fresh) tensor.dispose();
        } else {
          for (const tensor of fresh) tensor.moveTo(scope);
          this.source.handedOut(this.start.epoch, batch);
        }
        return { done: false, value };
      },
      (error) => {
        scope.awaiting = false;
        this.end();
        throw error;
      },
    );
  }

  return(): Promise<IteratorResult<Out, undefined>> {
    this.end();
    return finished();
  }

  private begin(): void {
    try {
      this.start = this.source.begin();
    } catch (error) {
      this.end();
      throw error;
    }
    this.handedOut = this.start.batch;
    this.prepared = this.start.batch;
  }

  /** The next batch; an error becomes a rejection, to be met when the batch is due. */
  private prepareNext(): Prepared<Out> | Promise<Prepared<Out>> {
    const batch = this.prepared++;
    try {
      const found = this.source.prepare(batch, this.start.order);
      if (found instanceof Promise) found.catch(() => {});
      return found;
    } catch (error) {
      const failed = Promise.reject(error);
      failed.catch(() => {});
      return failed;
    }
  }

  private end(): void {
    if (this.ended) return;
    this.ended = true;
    for (const item of this.queue) {
      if (item instanceof Promise) item.then(dispose, () => {});
      else dispose(item);
    }
    this.queue.length = 0;
    this.loop?.exit();
  }
}

function dispose({ fresh }: Prepared<unknown>): void {
  for (const tensor of fresh) tensor.dispose();
}

function finished(): Promise<IteratorResult<never, undefined>> {
  return Promise.resolve({ done: true, value: undefined });
}

/**
 * Runs `fn`, which may be asynchronous, outside the user's scopes and without gradients; releases
 * all tensors it made but those in its result.
 */
function inOwnScope<T>(fn: () => T | Promise<T>): Prepared<T> | Promise<Prepared<T>> {
  const inner = new Scope(outsideScopes(() => ({ ...context(), grad: false })));
  const finish = (value: T): Prepared<T> => {
    const fresh: Tensor[] = [];
    visitTensors(value, (tensor) => {
      if (tensor.scope !== inner) return;
      tensor.moveTo(null);
      fresh.push(tensor);
    });
    inner.close();
    return { value, fresh };
  };
  try {
    const result = runInContext(inner.context, fn);
    if (!(result instanceof Promise)) return finish(result);
    return result.then(finish).catch((error) => {
      inner.close();
      throw error;
    });
  } catch (error) {
    inner.close();
    throw error;
  }
}

function seedFrom(seed: unknown): bigint {
  const whole = typeof seed === 'string' && /^\d{1,19}$/.test(seed) ? BigInt(seed) : seed;
  const seed64 =
    typeof whole === 'bigint' ? whole : BigInt(expectInteger('DataLoader', 'seed', whole, 0));
  if (seed64 < 0n || seed64 >= 2n ** 63n) {
    throw new RangeError(`DataLoader: seed must be in [0,2⁶³), got ${seed64}`);
  }
  return seed64;
}
