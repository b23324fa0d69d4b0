/**
 * The context of the running code: the scope that new tensors belong to, and whether gradients are
 * recorded. It follows asynchronous calls (AsyncLocalStorage), so concurrent tasks do not disturb
 * one another.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { expectFunction } from './check.js';
import type { Scope } from './scope.js';
import type { Tensor } from './tensor.js';

export interface Context {
  readonly scope: Scope | null;
  /** Whether ops are recorded for backward(). */
  readonly grad: boolean;
  /** What {@link autocast} asks for; null outside. */
  readonly autocast: AutocastPolicy | null;
  /** Where ops run unrecorded but it matters whether they could have been, as in checkpoints. */
  readonly probe: GradientProbe | null;
}

/** The dtype that products are computed in, and the casts of parameters made so far. */
export interface AutocastPolicy {
  readonly dtype: 'bfloat16' | 'float16';
  readonly casts: Map<Tensor, { version: number; replays: number; cast: Tensor }>;
}

/** Notes whether an op met something that requires gradients. */
export interface GradientProbe {
  reached: boolean;
}

/** Outside everything. */
export const rootContext: Context = { scope: null, grad: true, autocast: null, probe: null };
const storage = new AsyncLocalStorage<Context>();
// Set while library code that cannot await runs; saves the cost of an asynchronous context.
let override: Context | null = null;

/** The context in force; scopes that have ended are looked through. */
export function context(): Context {
  let found = override ?? storage.getStore() ?? rootContext;
  while (found.scope?.closed) found = found.scope.outer;
  return found;
}

/** Runs synchronous library code in a context. */
export function withContext<T>(inner: Context, fn: () => T): T {
  const before = override;
  override = inner;
  try {
    return fn();
  } finally {
    override = before;
  }
}

/** Runs user code, synchronous or not, in a context. */
export function runInContext<T>(inner: Context, fn: () => T): T {
  const before = override;
  override = null;
  try {
    return storage.run(inner, fn);
  } finally {
    override = before;
  }
}

/** Makes a context the one of everything that follows in the calling function. */
export function enterContext(inner: Context): void {
  storage.enterWith(inner);
}

/** Runs code outside every scope of the user's, as prefetching does. */
export function outsideScopes<T>(fn: () => T): T {
  return withContext(rootContext, fn);
}

/**
 * Runs `fn`, which may be asynchronous, without recording gradients.
 * @example const logits = noGrad(() => model.forward(x));
 */
export function noGrad<T>(fn: () => T): T {
  expectFunction('noGrad', 'its argument', fn);
  return runInContext({ ...context(), grad: false, probe: null }, fn);
}

/** Runs `fn` with gradients recorded, inside a {@link noGrad}. */
export function enableGrad<T>(fn: () => T): T {
  expectFunction('enableGrad', 'its argument', fn);
  return runInContext({ ...context(), grad: true }, fn);
}
