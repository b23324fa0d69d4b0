/**
 * Scopes decide how long tensors live. A tensor belongs to the scope in which it was made and is
 * released when that scope ends, because JavaScript's garbage collector does not see device memory.
 *
 * Loops open one scope per iteration. What the body made is released when the next iteration
 * starts, with one exception: a result that was computed from a tensor made outside the iteration
 * (other than a parameter or a kept buffer) is *carried*: it lives one iteration longer, and after
 * the last one as long as the loop's surroundings. So `total = total.add(loss)` and a hidden state
 * handed from step to step work as written.
 */
import { describe, expectFunction } from './check.js';
import { type Context, context, enterContext, rootContext, runInContext } from './context.js';
import { native } from './native.js';
import type { Tensor } from './tensor.js';

/** What a scope asks of the tensors it owns. */
export type Owned = Tensor;

let batch = new Float64Array(256);
// The first so many numbers of it, made once: a view costs as much as releasing three tensors.
let views: Float64Array[] = [];

/** Releases the tensors that are still of `scope`. */
function releaseAll(tensors: readonly Owned[], scope: Scope): void {
  if (tensors.length > batch.length) {
    batch = new Float64Array(tensors.length * 2);
    views = [];
  }
  let count = 0;
  for (const tensor of tensors) {
    if (tensor.scope === scope) batch[count++] = tensor.detachHandle();
  }
  if (count === 0) return;
  let view = views[count];
  if (!view) {
    view = batch.subarray(0, count);
    views[count] = view;
  }
  native.releaseAll(view);
}

export class Scope {
  closed = false;
  /** Loops that run directly inside this scope now. */
  openLoops = 0;
  /** While a `for await` waits for its next batch, no code of its body runs. */
  awaiting = false;
  readonly context: Context;
  /** The iteration scope that encloses this one, itself included; null outside loops. */
  readonly iteration: Scope | null;
  private tensors: Owned[] = [];

  constructor(
    readonly outer: Context,
    isIteration = false,
  ) {
    this.context = { ...outer, scope: this };
    this.iteration = isIteration ? this : (outer.scope?.iteration ?? null);
  }

  own(tensor: Owned): void {
    tensor.scope = this;
    this.tensors.push(tensor);
  }

  /** A place in the scope's list, for {@link releaseSince}. */
  mark(): number {
    return this.tensors.length;
  }

  /** Releases what was made since `mark` and is not held by the tape. */
  releaseSince(mark: number): void {
    const kept: Owned[] = [];
    const released: Owned[] = [];
    for (let i = mark; i < this.tensors.length; ++i) {
      const tensor = this.tensors[i] as Owned;
      if (tensor.scope !== this) continue;
      (tensor.holds > 0 ? kept : released).push(tensor);
    }
    this.tensors.length = mark;
    this.tensors.push(...kept);
    releaseAll(released, this);
  }

  /** Ends the scope; returns the carried tensors, which the caller owns from now on. */
  close(): Owned[] {
    if (this.closed) return [];
    this.closed = true;
    const carried = this.iteration === this ? this.tensors.filter((t) => t.carried) : [];
    for (const tensor of carried) {
      if (tensor.scope === this) tensor.scope = carriedOwner;
    }
    releaseAll(this.tensors, this);
    this.tensors = [];
    return carried.filter((tensor) => tensor.scope === carriedOwner);
  }
}

// Stands for the loop as the owner of carried tensors between two iterations.
const carriedOwner = new Scope(rootContext);

/** The life of one loop: `enter` at the start of each iteration, `exit` at its end. */
export class LoopScope {
  private readonly outer = context();
  private current: Scope | null = null;
  private carried: Owned[] = [];
  private ended = false;

  constructor() {
    const { scope } = this.outer;
    if (scope?.awaiting) refuseTwoLoops();
    if (scope) ++scope.openLoops;
  }

  /** Ends the iteration before and opens the next; new tensors of the caller belong to it. */
  enter(): Scope {
    if (this.current && this.current.openLoops > 0) {
      this.exit();
      refuseTwoLoops();
    }
    this.endIteration();
    this.current = new Scope(this.outer, true);
    enterContext(this.current.context);
    return this.current;
  }

  /**
   * Ends the loop: carried tensors go to the surroundings, those of the iteration before the last
   * too, since the last may have been left before it made new ones.
   */
  exit(): void {
    if (this.ended) return;
    this.ended = true;
    if (this.current) this.carried.push(...this.current.close());
    this.current = null;
    const { scope } = this.outer;
    if (scope) --scope.openLoops;
    for (const tensor of this.carried) {
      if (tensor.scope === carriedOwner) tensor.moveTo(scope?.closed ? null : scope);
    }
    this.carried = [];
    enterContext(this.outer);
  }

  private endIteration(): void {
    const before = this.carried;
    this.carried = this.current ? this.current.close() : [];
    this.current = null;
    releaseAll(before, carriedOwner);
  }
}

function refuseTwoLoops(): never {
  throw new Error(
    'scope: two loops run at once in one function, so it is not clear which owns a tensor; ' +
      'wrap each in scope(async () => { … })',
  );
}

/** Calls `visit` on every tensor in a result: a tensor, or arrays, maps and plain objects of them. */
export function visitTensors(value: unknown, visit: (tensor: Tensor) => void, depth = 0): void {
  if (value === null || typeof value !== 'object' || depth > 8) return;
  if ('detachHandle' in value) {
    visit(value as Tensor);
  } else if (Array.isArray(value)) {
    for (const item of value) visitTensors(item, visit, depth + 1);
  } else if (value instanceof Map) {
    for (const item of value.values()) visitTensors(item, visit, depth + 1);
  } else if (Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) visitTensors(item, visit, depth + 1);
  }
}

/**
 * Runs `fn`, which may be asynchronous, and releases the tensors it made, but for those it returns
 * (alone, or in arrays, maps and plain objects) and those marked with `.keep()`.
 * @example const accuracy = scope(() => model.forward(x).argmax(1).eq(y).mean().item());
 */
export function scope<T>(fn: () => T): T {
  expectFunction('scope', 'its argument', fn);
  const outer = context();
  const inner = new Scope(outer);
  const finish = (result: unknown): void => {
    visitTensors(result, (tensor) => {
      if (tensor.scope === inner) tensor.moveTo(outer.scope?.closed ? null : outer.scope);
    });
    inner.close();
  };
  let result: T;
  try {
    result = runInContext(inner.context, fn);
  } catch (error) {
    inner.close();
    throw error;
  }
  if (result instanceof Promise) {
    return result.then(
      (value) => {
        finish(value);
        return value;
      },
      (error) => {
        inner.close();
        throw error;
      },
    ) as T;
  }
  finish(result);
  return result;
}

/**
 * Counts 0 … n-1, each iteration a scope of its own: what the body makes is released when the next
 * iteration starts.
 * @example for (const i of steps(1000)) { … }
 */
export function steps(n: number): Iterable<number> {
  if (!Number.isInteger(n) || n < 0) {
    throw new RangeError(`steps: expected a count of 0 or more, got ${describe(n)}`);
  }
  return {
    [Symbol.iterator]() {
      let loop: LoopScope | null = null;
      let at = 0;
      return {
        next(): IteratorResult<number> {
          loop ??= new LoopScope();
          if (at >= n) {
            loop.exit();
            return { done: true, value: undefined };
          }
          loop.enter();
          return { done: false, value: at++ };
        },
        return(): IteratorResult<number> {
          loop?.exit();
          return { done: true, value: undefined };
        },
      };
    },
  };
}
