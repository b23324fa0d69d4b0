/**
 * One loop over the batches of an epoch: prepares ahead, enters a scope per iteration and hands it
 * its batch. Written by hand, because an async generator would run in a context of its own, and the
 * scope it enters would not reach the body of the loop.
 */
import { context, outsideScopes, runInContext } from '../context.js';
import { LoopScope, Scope, visitTensors } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { turn, turnDue } from '../turns.js';

/** Batches that are there at once leave Node.js no turn for signals and timers: it gets one so often. */
const millisecondsPerTurn = 10;

/** In place of a batch: a stream has no more. */
export const noMore = Symbol('no more batches');

/** In place of a batch: all its samples were left out, and the next one is due. */
export const leftOut = Symbol('a batch of no samples');

/** What stands in place of a batch. */
type None = typeof noMore | typeof leftOut;

/** A batch, and those of its tensors that nobody owns yet. */
export interface Prepared<Out> {
  value: Out | None;
  fresh: Tensor[];
}

/** Where an epoch begins, and what makes its batches. */
export interface Start<Out> {
  epoch: number;
  batch: number;
  prepare(batch: number): Prepared<Out> | Promise<Prepared<Out>>;
  /** Lets go of what the epoch holds open. */
  close?(): void;
}

export interface Source<Out> {
  begin(): Start<Out>;
  handedOut(epoch: number, batch: number): void;
}

/** One loop over an epoch. */
export class Epoch<Out> implements AsyncIterator<Out, undefined> {
  private loop: LoopScope | null = null;
  private start: Start<Out> | null = null;
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
    const { start } = this;
    if (!start || this.handedOut >= this.length) return this.complete();
    let scope: Scope;
    try {
      scope = this.loop.enter();
    } catch (error) {
      this.end();
      throw error;
    }
    scope.awaiting = true;
    return this.nextBatch().then<IteratorResult<Out, undefined>>(
      ({ value, fresh }) => {
        scope.awaiting = false;
        if (value === leftOut) return this.return();
        if (value === noMore) return this.complete();
        if (scope.closed) {
          for (const tensor of fresh) tensor.dispose();
        } else {
          for (const tensor of fresh) tensor.moveTo(scope);
          this.source.handedOut(start.epoch, this.handedOut);
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

  /** The next batch that has samples; one that has none only where the loop was left meanwhile. */
  private async nextBatch(): Promise<Prepared<Out>> {
    for (;;) {
      const head = this.queue.shift() ?? this.prepareNext();
      while (this.queue.length < this.prefetch && this.prepared < this.length) {
        this.queue.push(this.prepareNext());
      }
      ++this.handedOut;
      const found = await this.afterTurn(head);
      if (found.value !== leftOut || this.ended) return found;
      if (this.handedOut >= this.length) return { value: noMore, fresh: [] };
    }
  }

  /** The batch, after a turn of the event loop where one is due. */
  private async afterTurn(batch: Prepared<Out> | Promise<Prepared<Out>>): Promise<Prepared<Out>> {
    if (turnDue(millisecondsPerTurn)) await turn();
    return batch;
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

  /** The end of the epoch; the next one is due. */
  private complete(): Promise<IteratorResult<never, undefined>> {
    this.end();
    if (this.start) this.source.handedOut(this.start.epoch + 1, 0);
    return finished();
  }

  /** The next batch; an error becomes a rejection, to be met when the batch is due. */
  private prepareNext(): Prepared<Out> | Promise<Prepared<Out>> {
    const batch = this.prepared++;
    try {
      const found = (this.start as Start<Out>).prepare(batch);
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
    this.start?.close?.();
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
export function inOwnScope<T>(
  fn: () => T | None | Promise<T | None>,
): Prepared<T> | Promise<Prepared<T>> {
  const inner = new Scope(outsideScopes(() => ({ ...context(), grad: false })));
  const finish = (value: T | None): Prepared<T> => {
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
