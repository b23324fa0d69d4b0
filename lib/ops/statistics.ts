/** Variance, and reductions composed of others: norms, logsumexp, tests of whole tensors. */
import { type Rule, record } from '../autograd.js';
import { axesMask, expectBoolean, expectNumber, expectOptions, expectTensor } from '../check.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { add, eq, gt, mul, ne, pow, sub, where } from './binary.js';
import { inFloat32 } from './copy.js';
import { addMethods, type OpRows } from './define.js';
import { type Axes, max, min, sum } from './reduce.js';
import { abs, exp, isfinite, log, sqrt, square } from './unary.js';
import { detach, expand, reshape } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    variance(x: Handle, axes: number, correction: number, keepdim: boolean): void;
  }
}

interface Attributes {
  shape: Shape;
  kept: Shape;
  /** What the sum over the reduced axes was divided by. */
  freedom: number;
}

function spreadOver(x: Tensor, { shape, kept }: Attributes): Tensor {
  return expand(reshape(x, kept), shape);
}

// 2(x - mean)/freedom and 1/n
const varianceRule: Rule<Attributes> = (dout, [x, average], attributes) => [
  mul(
    sub(x as Tensor, spreadOver(average as Tensor, attributes)),
    spreadOver(mul(dout, 2 / attributes.freedom), attributes),
  ),
];
/** @internal */
export const averageRule: Rule<Attributes> = (dout, _, attributes) => [
  spreadOver(mul(dout, 1 / attributes.freedom), attributes),
];

export const statisticsOps: OpRows<'variance'> = {
  variance: {
    family: 'variance',
    summary: 'variance and mean over axes',
    dtypes: 'floating',
    gradient: varianceRule,
  },
};

export interface VarianceOptions {
  /** The divisor is n - correction: 1, Bessel's, where left out. */
  correction?: number;
  /** Whether the reduced axes stay with size 1. */
  keepdim?: boolean;
}

/** Variance and mean over `axes`, in one pass; right also where the mean is large. */
export function varMean(x: Tensor, axes?: Axes, options: VarianceOptions = {}): [Tensor, Tensor] {
  return moments('varMean', x, axes, options);
}

function moments(
  op: string,
  x: Tensor,
  axes: Axes | undefined,
  options: VarianceOptions,
): [Tensor, Tensor] {
  const { correction = 1, keepdim = false } = expectOptions(op, options, ['correction', 'keepdim']);
  expectNumber(op, 'correction', correction);
  const { shape } = expectTensor(op, x);
  const mask = axesMask(op, axes, x.rank);
  native.variance(x.h, mask, correction, expectBoolean(op, 'keepdim', keepdim));
  const spread = take(0, x.device);
  const average = take(1, x.device);
  const kept = shape.map((size, axis) => (mask & (2 ** axis) ? 1 : size));
  const n = shape.reduce((count, size, axis) => (mask & (2 ** axis) ? count * size : count), 1);
  const freedom = Math.max(n - correction, 0);
  return [
    record(op, varianceRule, spread, [x], () => [x, average], { shape, kept, freedom }),
    record(op, averageRule, average, [x], null, { shape, kept, freedom: n }),
  ];
}

/** Variance over `axes`, all where left out. Σ(x - mean)²/(n - correction) */
export function variance(x: Tensor, axes?: Axes, options: VarianceOptions = {}): Tensor {
  return moments('variance', x, axes, options)[0];
}

/** The square root, with the gradient 0 where x is 0. */
function rootOrZero(x: Tensor): Tensor {
  const zero = eq(x, 0);
  return where(zero, 0, sqrt(where(zero, 1, x)));
}

/** Standard deviation over `axes`: the root of the variance, with no gradient where that is 0. */
export function std(x: Tensor, axes?: Axes, options: VarianceOptions = {}): Tensor {
  return rootOrZero(moments('std', x, axes, options)[0]);
}

/**
 * (Σ|x|ᵖ)^(1/p) over `axes`, all where left out; the largest |x| for p = ∞, the smallest for -∞,
 * the number of elements that are not 0 for p = 0. Where the norm is 0 the gradient is 0.
 */
export function norm(x: Tensor, p = 2, axes?: Axes, keepdim = false): Tensor {
  expectTensor('norm', x);
  expectNumber('norm', 'p', p);
  axesMask('norm', axes, x.rank);
  expectBoolean('norm', 'keepdim', keepdim);
  return inFloat32([x], ([wide]) => normOf(wide, p, axes, keepdim));
}

function normOf(x: Tensor, p: number, axes: Axes | undefined, keepdim: boolean): Tensor {
  if (p === 2) return rootOrZero(sum(square(x), axes, keepdim));
  if (p === 1) return sum(abs(x), axes, keepdim);
  if (p === Number.POSITIVE_INFINITY) return max(abs(x), axes, keepdim);
  if (p === Number.NEGATIVE_INFINITY) return min(abs(x), axes, keepdim);
  if (p === 0) return sum(ne(x, 0).to(x.dtype), axes, keepdim);
  // Zeros are left out where their power, or its derivative, is infinite.
  const zero = eq(x, 0);
  const powers =
    p > 1
      ? pow(abs(x), p)
      : where(zero, p > 0 ? 0 : Number.POSITIVE_INFINITY, pow(abs(where(zero, 1, x)), p));
  const total = sum(powers, axes, keepdim);
  const none = eq(total, 0);
  return where(none, 0, pow(where(none, 1, total), 1 / p));
}

/** ln Σ eˣ over `axes`, all where left out, with the largest x taken out first. */
export function logsumexp(x: Tensor, axes?: Axes, keepdim = false): Tensor {
  const mask = axesMask('logsumexp', axes, expectTensor('logsumexp', x).rank);
  expectBoolean('logsumexp', 'keepdim', keepdim);
  if (x.shape.some((size, axis) => size === 0 && mask & (2 ** axis))) {
    return log(sum(exp(x), axes, keepdim));
  }
  const largest = max(detach(x), axes, true);
  const shift = where(isfinite(largest), largest, 0);
  const total = log(sum(exp(sub(x, shift)), axes, keepdim));
  return add(total, keepdim ? shift : reshape(shift, total.shape));
}

/** How many elements are not 0 over `axes`, as int64. */
export function countNonzero(x: Tensor, axes?: Axes, keepdim = false): Tensor {
  return count('countNonzero', x, axes, keepdim, ne);
}

/** Whether any element over `axes` is not 0. */
export function any(x: Tensor, axes?: Axes, keepdim = false): Tensor {
  return gt(count('any', x, axes, keepdim, ne), 0);
}

/** Whether no element over `axes` is 0. */
export function all(x: Tensor, axes?: Axes, keepdim = false): Tensor {
  return eq(count('all', x, axes, keepdim, eq), 0);
}

function count(
  op: string,
  x: Tensor,
  axes: Axes | undefined,
  keepdim: boolean,
  test: typeof eq,
): Tensor {
  axesMask(op, axes, expectTensor(op, x).rank);
  return sum(test(x, 0), axes, expectBoolean(op, 'keepdim', keepdim));
}

declare module '../tensor.js' {
  interface Tensor {
    /**
     * Σ(x − mean)²/(n − correction) over `axes`, all where left out; correction is 1 where left
     * out.
     */
    var(axes?: Axes, options?: VarianceOptions): Tensor;
    /** The root of {@link var}. */
    std(axes?: Axes, options?: VarianceOptions): Tensor;
    /** (Σ|x|ᵖ)^(1/p) over `axes`, all where left out; p is 2 where left out, and may be ∞ or −∞. */
    norm(p?: number, axes?: Axes, keepdim?: boolean): Tensor;
    /** ln Σ eˣ over `axes`, all where left out, without overflow. */
    logsumexp(axes?: Axes, keepdim?: boolean): Tensor;
    /** int64: how many elements over `axes`, all where left out, are not 0. */
    countNonzero(axes?: Axes, keepdim?: boolean): Tensor;
    /** bool: whether an element over `axes`, all where left out, is not 0. */
    any(axes?: Axes, keepdim?: boolean): Tensor;
    /** bool: whether every element over `axes`, all where left out, is not 0. */
    all(axes?: Axes, keepdim?: boolean): Tensor;
  }
}

addMethods({
  var(axes?: Axes, options?: VarianceOptions) {
    return variance(this, axes, options);
  },
  std(axes?: Axes, options?: VarianceOptions) {
    return std(this, axes, options);
  },
  norm(p?: number, axes?: Axes, keepdim?: boolean) {
    return norm(this, p, axes, keepdim);
  },
  logsumexp(axes?: Axes, keepdim?: boolean) {
    return logsumexp(this, axes, keepdim);
  },
  countNonzero(axes?: Axes, keepdim?: boolean) {
    return countNonzero(this, axes, keepdim);
  },
  any(axes?: Axes, keepdim?: boolean) {
    return any(this, axes, keepdim);
  },
  all(axes?: Axes, keepdim?: boolean) {
    return all(this, axes, keepdim);
  },
});
