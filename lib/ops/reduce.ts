/** Reductions over any axes. Floats accumulate in float32 or wider, sums of integers in int64. */

import { forPrecision } from '../autocast.js';
import { type DeferredGradient, type Rule, record } from '../autograd.js';
import { axesMask, expectBoolean, expectInteger, expectTensor } from '../check.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { div, eq, logicalOr, mul, where } from './binary.js';
import { addMethods, notDifferentiable, type OpRow, type OpRows, ruleOf } from './define.js';
import { isnan } from './unary.js';
import { expand, reshape } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    sum(x: Handle, axes: number, keepdim: boolean): void;
    mean(x: Handle, axes: number, keepdim: boolean): void;
    max(x: Handle, axes: number, keepdim: boolean): void;
    min(x: Handle, axes: number, keepdim: boolean): void;
    prod(x: Handle, axes: number, keepdim: boolean): void;
    argmax(x: Handle, axis: number, keepdim: boolean): void;
    argmin(x: Handle, axis: number, keepdim: boolean): void;
  }
  interface NativeKernels {
    sumInto(out: Handle, x: Handle): void;
  }
}

type ReduceName = 'sum' | 'mean' | 'max' | 'min' | 'prod';
type ArgReduceName = 'argmax' | 'argmin';

/** Axes of a reduction: one, several, or all where left out. */
export type Axes = number | readonly number[];

interface Attributes {
  shape: Shape;
  kept: Shape;
}

/** A reduced tensor, stretched over the shape it was reduced from. */
function spread(x: Tensor, { shape, kept }: Attributes): Tensor {
  return expand(reshape(x, kept), shape);
}

function reduction(summary: string, dtypes: OpRow['dtypes'], gradient: Rule<Attributes>): OpRow {
  return { family: 'reduce', summary, dtypes, gradient };
}

function elementsPerResult({ shape, kept }: Attributes): number {
  const count = (sizes: Shape): number => sizes.reduce((a, b) => a * b, 1);
  return count(shape) / Math.max(count(kept), 1);
}

// Equal extremes share the gradient, as PyTorch's amax has it; a NaN that won takes it. The 16-bit
// floats cannot count many.
const extreme: Rule<Attributes> = (dout, saved, attributes) => {
  const [x, out] = saved as [Tensor, Tensor];
  const hits = logicalOr(eq(x, spread(out, attributes)), isnan(x));
  const count = sum(hits, maskAxes(attributes), true);
  const wide = dout.dtype === 'float64' ? 'float64' : 'float32';
  const share = div(reshape(dout, attributes.kept), count.to(wide)).to(dout.dtype);
  return [where(hits, expand(share, attributes.shape), 0)];
};

function maskAxes({ shape, kept }: Attributes): number[] {
  return shape.flatMap((size, axis) => (kept[axis] === 1 && size !== 1 ? [axis] : []));
}

export const reduceOps: OpRows<ReduceName | ArgReduceName> = {
  sum: reduction('sum', 'any', (dout, _, attributes) => [spread(dout, attributes)]),
  mean: reduction('arithmetic mean', 'floating', (dout, _, attributes) => [
    spread(mul(dout, 1 / elementsPerResult(attributes)), attributes),
  ]),
  max: reduction('largest element; NaN wins', 'any', extreme),
  min: reduction('smallest element; NaN wins', 'any', extreme),
  // Exact where no element is 0; where one is, the product of the others is found by dividing too.
  prod: reduction('product', 'any', (dout, [x, out], attributes) => [
    mul(spread(dout, attributes), productOfOthers(x as Tensor, out as Tensor, attributes)),
  ]),
  argmax: {
    family: 'reduce',
    summary: 'index of the first largest element',
    dtypes: 'numeric',
    gradient: notDifferentiable('an index is an integer'),
  },
  argmin: {
    family: 'reduce',
    summary: 'index of the first smallest element',
    dtypes: 'numeric',
    gradient: notDifferentiable('an index is an integer'),
  },
};

/** Per element, the product of the others: 0 among them where two or more are 0. */
function productOfOthers(x: Tensor, out: Tensor, attributes: Attributes): Tensor {
  const axes = maskAxes(attributes);
  const zero = eq(x, 0).to(x.dtype);
  const zeros = spread(sum(zero, axes), attributes);
  const filled = x.add(zero); // zeros become ones
  const product = spread(prod(filled, axes), attributes);
  const alone = mul(mul(zero, eq(zeros, 1).to(x.dtype)), product);
  const none = mul(eq(zeros, 0).to(x.dtype), div(spread(out, attributes), filled));
  return alone.add(none);
}

function reduce(name: ReduceName) {
  const forward = native[name];
  const rule = ruleOf(reduceOps[name]);
  const saves = name === 'max' || name === 'min' || name === 'prod';
  const precise = name === 'sum' || name === 'mean' || name === 'prod';
  return (input: Tensor, axes?: Axes, keepdim = false): Tensor => {
    const mask = axesMask(name, axes, expectTensor(name, input).rank);
    const x = precise ? forPrecision(input) : input;
    forward(x.h, mask, expectBoolean(name, 'keepdim', keepdim));
    const out = take(0, x.device);
    if (out.dtype !== x.dtype) return record(name, null, out, [x], null, null);
    const kept = x.shape.map((size, axis) => (mask & (2 ** axis) ? 1 : size));
    const attributes: Attributes = { shape: x.shape, kept };
    return record(name, rule, out, [x], saves ? () => [x, out] : null, attributes);
  };
}

/** Sum over `axes` (all where left out); integers and bools sum in int64. */
export const sum = reduce('sum');
/** Mean over `axes`, of floating tensors. */
export const mean = reduce('mean');
/** Largest element over `axes`. @throws where there is none */
export const max = reduce('max');
/** Smallest element over `axes`. @throws where there is none */
export const min = reduce('min');
/** Product over `axes`. */
export const prod = reduce('prod');

function argReduce(name: ArgReduceName) {
  const forward = native[name];
  return (x: Tensor, axis?: number, keepdim = false): Tensor => {
    expectTensor(name, x);
    expectBoolean(name, 'keepdim', keepdim);
    const flat = axis === undefined;
    const source = flat ? reshape(x, [x.size]) : x;
    forward(source.h, flat ? 0 : expectInteger(name, 'axis', axis), keepdim && !flat);
    return record(name, null, take(0, x.device), [x], null, null);
  };
}

/** Index (int64) of the first largest element along `axis`, or of the flattened tensor. */
export const argmax = argReduce('argmax');
/** Index (int64) of the first smallest element along `axis`, or of the flattened tensor. */
export const argmin = argReduce('argmin');

/** The gradient of something broadcast, summed straight into a leaf's buffer where it can be. */
export function deferredSum(dout: Tensor, shape: Shape): DeferredGradient {
  return {
    compute: () => {
      const lead = Array.from({ length: dout.rank - shape.length }, (_, axis) => axis);
      return sum(dout, lead);
    },
    into: (out, accumulate) => {
      if (accumulate) return false;
      native.sumInto(out.h, dout.h);
      return true;
    },
  };
}

declare module '../tensor.js' {
  interface Tensor {
    /** The sum over `axes`, all where left out; integers and bools sum in int64. */
    sum(axes?: Axes, keepdim?: boolean): Tensor;
    /** The mean over `axes`, all where left out, of floating-point numbers. */
    mean(axes?: Axes, keepdim?: boolean): Tensor;
    /**
     * The largest element over `axes`, all where left out; NaN wins, equal ones share the gradient.
     */
    max(axes?: Axes, keepdim?: boolean): Tensor;
    /**
     * The smallest element over `axes`, all where left out; NaN wins, equal ones share the
     * gradient.
     */
    min(axes?: Axes, keepdim?: boolean): Tensor;
    /** The product over `axes`, all where left out. */
    prod(axes?: Axes, keepdim?: boolean): Tensor;
    /** int64: the index of the first largest element along `axis`, or of the flattened tensor. */
    argmax(axis?: number, keepdim?: boolean): Tensor;
    /** int64: the index of the first smallest element along `axis`, or of the flattened tensor. */
    argmin(axis?: number, keepdim?: boolean): Tensor;
  }
}

const reductions = { sum, mean, max, min, prod };
const argReductions = { argmax, argmin };
addMethods({
  ...Object.fromEntries(
    Object.entries(reductions).map(([name, fn]) => [
      name,
      function (this: Tensor, axes?: Axes, keepdim?: boolean) {
        return fn(this, axes, keepdim);
      },
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(argReductions).map(([name, fn]) => [
      name,
      function (this: Tensor, axis?: number, keepdim?: boolean) {
        return fn(this, axis, keepdim);
      },
    ]),
  ),
});
