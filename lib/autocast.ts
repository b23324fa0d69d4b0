/**
 * Mixed precision. Inside `autocast` products take their operands in 16 bits, while exponentials,
 * logarithms, powers, sums, softmax and losses take theirs in float32, as torch.autocast's lists
 * for CUDA have it (mean is among the latter here, too). Every other op takes what it is given.
 *
 * A parameter is cast once per version of its values, and the cast is used again while the block
 * lasts. Casts are ops like others: a captured step records them, and gradients pass through them.
 */
import { needsGradient } from './autograd.js';
import { expectBoolean, expectFunction, expectOneOf, expectOptions } from './check.js';
import { type AutocastPolicy, type Context, context, runInContext } from './context.js';
import { isFloating } from './dtype.js';
import { cast } from './ops/copy.js';
import type { Tensor } from './tensor.js';

export interface AutocastOptions {
  /** What products are computed in; bfloat16 where left out. */
  dtype?: 'bfloat16' | 'float16';
  /** False switches autocast off for the block, inside another one, too. */
  enabled?: boolean;
}

// Most programs never use it: then it costs one comparison per op.
let used = false;
// Captured steps change parameters without their host-side version.
let replays = 0;

/** @internal Makes earlier casts of parameters count for nothing. */
export function forgetCasts(): void {
  ++replays;
}

/** @internal The same policy without the casts made so far, as a captured step must start. */
export function withoutCasts(outer: Context): Context {
  const { autocast: policy } = outer;
  return policy ? { ...outer, autocast: { dtype: policy.dtype, casts: new Map() } } : outer;
}

/**
 * Runs `fn`, which may be asynchronous, in mixed precision. Call backward() outside: it computes in
 * the dtypes that forward chose.
 * @example
 * const loss = autocast({ dtype: 'bfloat16' }, () => criterion.forward(model.forward(x), y));
 * loss.backward();
 */
export function autocast<T>(options: AutocastOptions, fn: () => T): T {
  const { dtype = 'bfloat16', enabled = true } = expectOptions('autocast', options, [
    'dtype',
    'enabled',
  ]);
  expectOneOf('autocast', 'dtype', dtype, ['bfloat16', 'float16']);
  expectBoolean('autocast', 'enabled', enabled);
  expectFunction('autocast', 'its second argument', fn);
  used = true;
  const outer = context();
  const policy: AutocastPolicy | null = enabled
    ? outer.autocast?.dtype === dtype
      ? outer.autocast
      : { dtype, casts: new Map() }
    : null;
  return runInContext({ ...outer, autocast: policy }, fn);
}

/** The dtype that products are computed in here; null outside {@link autocast}. */
export function autocastDType(): 'bfloat16' | 'float16' | null {
  return used ? (context().autocast?.dtype ?? null) : null;
}

function castOnce(x: Tensor, { dtype, casts }: AutocastPolicy, grad: boolean): Tensor {
  if (!x.persistent) return cast(x, dtype);
  const known = casts.get(x);
  if (known && known.version === x.version && known.replays === replays && !known.cast.released) {
    // One made under noGrad, or whose graph backward() has freed, leads nowhere.
    if (!grad || !needsGradient(x) || needsGradient(known.cast)) return known.cast;
  }
  const made = cast(x, dtype);
  casts.set(x, { version: x.version, replays, cast: made });
  return made;
}

/** @internal An operand of a product: in 16 bits inside autocast; float64 and integers stay. */
export function forProduct<T extends Tensor | null>(x: T): T {
  if (!used || x === null) return x;
  const { autocast: policy, grad } = context();
  if (!policy || x.dtype === policy.dtype || !isFloating(x.dtype) || x.dtype === 'float64') {
    return x;
  }
  return castOnce(x, policy, grad) as T;
}

/** @internal An operand of an op that needs float32's range or precision inside autocast. */
export function forPrecision(x: Tensor): Tensor {
  if (!used || (x.dtype !== 'bfloat16' && x.dtype !== 'float16')) return x;
  return context().autocast ? cast(x, 'float32') : x;
}
