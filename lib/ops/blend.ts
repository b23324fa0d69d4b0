/** Elementwise functions of several operands, composed of others: autograd sees through them. */
import {
  describe,
  expectAxis,
  expectBoolean,
  expectNumber,
  expectOptions,
  expectRange,
  expectTensor,
} from '../check.js';
import { type DType, isFloating } from '../dtype.js';
import { Tensor } from '../tensor.js';
import {
  add,
  clampMax,
  clampMin,
  div,
  eq,
  le,
  logicalAnd,
  logicalOr,
  mul,
  sub,
  type TensorLike,
  where,
} from './binary.js';
import { to } from './copy.js';
import { addMethods } from './define.js';
import { all } from './statistics.js';
import { abs, elu, isfinite, isnan, sigmoid } from './unary.js';
import { detach, slice } from './view.js';

function expectOperand(op: string, name: string, value: unknown): TensorLike {
  if (typeof value === 'number' || value instanceof Tensor) return value;
  throw new TypeError(`${op}: ${name} must be a tensor or a number, got ${describe(value)}`);
}

/**
 * x limited to [min, max]: numbers or tensors that broadcast; one of them may be null. Where x is
 * at a bound or between them it takes the gradient, elsewhere the bound does.
 */
export function clamp(x: Tensor, min: TensorLike | null, max: TensorLike | null = null): Tensor {
  expectTensor('clamp', x, 'x');
  if (min === null && max === null) throw new TypeError('clamp: needs a min or a max, got neither');
  const raised = min === null ? x : clampMin(x, expectOperand('clamp', 'min', min));
  return max === null ? raised : clampMax(raised, expectOperand('clamp', 'max', max));
}

/** a + weight·(b - a). */
export function lerp(a: Tensor, b: Tensor, weight: TensorLike): Tensor {
  expectTensor('lerp', a, 'a');
  expectTensor('lerp', b, 'b');
  return add(a, mul(sub(b, a), expectOperand('lerp', 'weight', weight)));
}

/** x + value·a·b. */
export function addcmul(x: Tensor, a: Tensor, b: Tensor, value = 1): Tensor {
  const product = mul(expectTensor('addcmul', a, 'a'), expectTensor('addcmul', b, 'b'));
  const factor = expectNumber('addcmul', 'value', value);
  return add(expectTensor('addcmul', x, 'x'), factor === 1 ? product : mul(product, factor));
}

/** x + value·a/b. */
export function addcdiv(x: Tensor, a: Tensor, b: Tensor, value = 1): Tensor {
  const quotient = div(expectTensor('addcdiv', a, 'a'), expectTensor('addcdiv', b, 'b'));
  const factor = expectNumber('addcdiv', 'value', value);
  return add(expectTensor('addcdiv', x, 'x'), factor === 1 ? quotient : mul(quotient, factor));
}

const largest: Partial<Record<DType, number>> = {
  float32: (2 - 2 ** -23) * 2 ** 127,
  float64: Number.MAX_VALUE,
  bfloat16: (2 - 2 ** -7) * 2 ** 127,
  float16: 65504,
};

/**
 * x with NaN replaced by `nan`, infinity by `posinf` and minus infinity by `neginf`; the largest
 * and smallest finite numbers of the dtype where those are left out. No gradient flows to what was
 * replaced.
 */
export function nanToNum(x: Tensor, nan = 0, posinf?: number, neginf?: number): Tensor {
  expectTensor('nanToNum', x);
  expectNumber('nanToNum', 'nan', nan);
  const most = largest[x.dtype] ?? 0;
  const high = expectNumber('nanToNum', 'posinf', posinf ?? most);
  const low = expectNumber('nanToNum', 'neginf', neginf ?? -most);
  if (most === 0) return x.clone();
  const above = where(eq(x, Number.POSITIVE_INFINITY), high, where(isnan(x), nan, x));
  return where(eq(x, Number.NEGATIVE_INFINITY), low, above);
}

/** x where positive, else alpha·(exp(x/alpha) - 1). */
export function celu(x: Tensor, alpha = 1): Tensor {
  expectTensor('celu', x);
  if (expectNumber('celu', 'alpha', alpha) === 0) {
    throw new RangeError('celu: alpha must not be 0, got 0');
  }
  return alpha === 1 ? elu(x) : mul(elu(div(x, alpha)), alpha);
}

/** The first half of an even axis times the sigmoid of the second (Dauphin et al., 2017). */
export function glu(x: Tensor, axis = -1): Tensor {
  const at = expectAxis('glu', axis, expectTensor('glu', x).rank);
  const size = x.shape[at] ?? 1;
  if (size % 2 !== 0) {
    throw new RangeError(`glu: the axis must have an even size, got ${size}`);
  }
  return mul(slice(x, at, 0, size / 2), sigmoid(slice(x, at, size / 2, size)));
}

export interface CloseOptions {
  /** How far apart numbers may be, relative to b; 1e-5 where left out. */
  rtol?: number;
  /** How far apart they may be beside that; 1e-8 where left out. */
  atol?: number;
  /** Whether NaN is close to NaN; false where left out. */
  equalNan?: boolean;
}

/** Whether |a - b| ≤ atol + rtol·|b|, element by element; infinities are close to themselves alone. */
export function isclose(a: Tensor, b: Tensor, options: CloseOptions = {}): Tensor {
  return close('isclose', a, b, options);
}

/** Whether all elements are close, see {@link isclose}. Waits for the device. */
export function allclose(a: Tensor, b: Tensor, options: CloseOptions = {}): boolean {
  return all(close('allclose', a, b, options)).item() === 1;
}

function close(op: string, a: Tensor, b: Tensor, options: CloseOptions): Tensor {
  const {
    rtol = 1e-5,
    atol = 1e-8,
    equalNan = false,
  } = expectOptions(op, options, ['rtol', 'atol', 'equalNan']);
  expectRange(op, 'rtol', rtol, 0);
  expectRange(op, 'atol', atol, 0);
  // Differences of unsigned integers would wrap.
  const [x, y] = [expectTensor(op, a, 'a'), expectTensor(op, b, 'b')].map((t) =>
    detach(isFloating(t.dtype) ? t : to(t, 'float64')),
  ) as [Tensor, Tensor];
  const apart = abs(sub(x, y));
  const near = logicalAnd(isfinite(apart), le(apart, add(mul(abs(y), rtol), atol)));
  const equal = logicalOr(eq(x, y), near);
  if (!expectBoolean(op, 'equalNan', equalNan)) return equal;
  return logicalOr(equal, logicalAnd(isnan(x), isnan(y)));
}

declare module '../tensor.js' {
  interface Tensor {
    /** x limited to [min, max], numbers or tensors that broadcast; one of them may be null. */
    clamp(min: TensorLike | null, max?: TensorLike | null): Tensor;
    /** x + weight·(b − x). */
    lerp(b: Tensor, weight: TensorLike): Tensor;
    /** x + value·a·b; value is 1 where left out. */
    addcmul(a: Tensor, b: Tensor, value?: number): Tensor;
    /** x + value·a/b; value is 1 where left out. */
    addcdiv(a: Tensor, b: Tensor, value?: number): Tensor;
    /** x with numbers in the place of NaN (0 where left out), ∞ and −∞ (the dtype's extremes). */
    nanToNum(nan?: number, posinf?: number, neginf?: number): Tensor;
    /** x where positive, else alpha·(exp(x/alpha) − 1); alpha is 1 where left out. */
    celu(alpha?: number): Tensor;
  }
}

addMethods({
  clamp(min: TensorLike | null, max?: TensorLike | null) {
    return clamp(this, min, max);
  },
  lerp(b: Tensor, weight: TensorLike) {
    return lerp(this, b, weight);
  },
  addcmul(a: Tensor, b: Tensor, value?: number) {
    return addcmul(this, a, b, value);
  },
  addcdiv(a: Tensor, b: Tensor, value?: number) {
    return addcdiv(this, a, b, value);
  },
  nanToNum(nan?: number, posinf?: number, neginf?: number) {
    return nanToNum(this, nan, posinf, neginf);
  },
  celu(alpha?: number) {
    return celu(this, alpha);
  },
});
