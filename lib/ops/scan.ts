/** Running sums, products and extremes along an axis. */
import { forPrecision } from '../autocast.js';
import { type Rule, record } from '../autograd.js';
import { expectAxis, expectInteger, expectTensor } from '../check.js';
import { noGrad } from '../context.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { div, eq, ge, le, logicalAnd, logicalOr, mul, ne, where } from './binary.js';
import { contiguous } from './copy.js';
import { addMethods, type OpRows } from './define.js';
import { arange, zeros } from './fill.js';
import { gather } from './gather.js';
import { cat } from './movement.js';
import { isnan } from './unary.js';
import { alias, expand, reshape, slice } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    cumsum(x: Handle, axis: number, reverse: boolean): void;
    cumprod(x: Handle, axis: number): void;
  }
}

interface Running {
  axis: number;
  reverse: boolean;
}

function runningSum(x: Tensor, axis: number, reverse: boolean): Tensor {
  native.cumsum(x.h, axis, reverse);
  const out = take(0, x.device);
  const rule = out.dtype === x.dtype ? cumsumRule : null;
  return record('cumsum', rule, out, [x], null, { axis, reverse });
}

const cumsumRule: Rule<Running> = (dout, _, { axis, reverse }) => [
  runningSum(dout, axis, !reverse),
];

// dx[i] = Σ over j from i on of dout[j]·y[j]/x[i]; at the first 0 of a line the products without
// it, and none behind it.
const cumprodRule: Rule<number> = (dout, [input, output], axis) => {
  const [x, y] = [input as Tensor, output as Tensor];
  const zero = eq(x, 0);
  const first = logicalAnd(zero, eq(runningSum(zero, axis, false), 1));
  const withoutFirst = cumprod(where(first, 1, x), axis);
  const plain = div(runningSum(mul(dout, y), axis, true), where(zero, 1, x));
  const atFirst = runningSum(mul(dout, withoutFirst), axis, true);
  return [where(first, atFirst, where(zero, 0, plain))];
};

export const scanOps: OpRows<'cumsum' | 'cumprod'> = {
  cumsum: {
    family: 'scan',
    summary: 'running sum along an axis',
    dtypes: 'any',
    gradient: cumsumRule,
  },
  cumprod: {
    family: 'scan',
    summary: 'running product along an axis',
    dtypes: 'any',
    gradient: cumprodRule,
  },
};

/** Sums of the elements up to and including each, along `axis`; integers and bools in int64. */
export function cumsum(x: Tensor, axis: number): Tensor {
  const wide = forPrecision(expectTensor('cumsum', x));
  return runningSum(wide, expectInteger('cumsum', 'axis', axis), false);
}

/** Products of the elements up to and including each, along `axis`; integers in int64. */
export function cumprod(input: Tensor, axis: number): Tensor {
  const x = forPrecision(expectTensor('cumprod', input));
  native.cumprod(x.h, expectInteger('cumprod', 'axis', axis));
  const out = take(0, x.device);
  const rule = out.dtype === x.dtype ? cumprodRule : null;
  return record('cumprod', rule, out, [x], () => [x, out], axis);
}

/** Elements `by` places before each along an axis, those at the front as they are. */
function shifted(x: Tensor, axis: number, by: number): Tensor {
  const n = x.shape[axis] as number;
  return cat([slice(x, axis, 0, by), slice(x, axis, 0, n - by)], axis);
}

/**
 * Where along the axis the largest (smallest) element up to and including each is: the latest of
 * equal ones; NaN counts as larger (smaller) than all. Found for windows of 1, 2, 4 … elements, so
 * that n elements cost log₂ n passes. With `rows` (integers along the axis, broadcast) only
 * elements of the same row count.
 */
export function runningPlace(x: Tensor, axis: number, largest: boolean, rows?: Tensor): Tensor {
  const { shape, device } = x;
  const n = shape[axis] as number;
  const alone = shape.map((size, i) => (i === axis ? size : 1));
  const order = arange(n, { dtype: 'int64', device });
  return noGrad(() => {
    let place = expand(reshape(order, alone), shape);
    let best = x;
    const row = rows && reshape(rows, alone);
    for (let by = 1; by < n; by *= 2) {
      const before = shifted(best, axis, by);
      let stays = logicalOr(isnan(best), largest ? ge(best, before) : le(best, before));
      if (row) stays = logicalOr(stays, ne(row, shifted(row, axis, by)));
      place = where(stays, place, shifted(place, axis, by));
      best = where(stays, best, before);
    }
    return place;
  });
}

function runningExtreme(op: string, x: Tensor, axis: number, largest: boolean): [Tensor, Tensor] {
  const { rank } = expectTensor(op, x);
  const at = expectAxis(op, axis, rank);
  if (rank === 0) return [alias(x), zeros([], { dtype: 'int64', device: x.device })];
  const place = contiguous(runningPlace(x, at, largest));
  return [gather(x, at, place), place];
}

/**
 * The largest of the elements up to and including each, along `axis`, and its index (int64) there:
 * the latest of equal ones; NaN wins. Costs log₂ n passes over n elements.
 */
export function cummax(x: Tensor, axis: number): [values: Tensor, indices: Tensor] {
  return runningExtreme('cummax', x, axis, true);
}

/** The smallest of the elements up to and including each; see {@link cummax}. */
export function cummin(x: Tensor, axis: number): [values: Tensor, indices: Tensor] {
  return runningExtreme('cummin', x, axis, false);
}

declare module '../tensor.js' {
  interface Tensor {
    /** The largest element so far along an axis, and its int64 index, the last of equal ones. */
    cummax(axis: number): [values: Tensor, indices: Tensor];
    /** The smallest element so far along an axis, and its int64 index, the last of equal ones. */
    cummin(axis: number): [values: Tensor, indices: Tensor];
    /** Running sums along an axis. */
    cumsum(axis: number): Tensor;
    /** Running products along an axis. */
    cumprod(axis: number): Tensor;
  }
}

addMethods({
  cummax(axis: number) {
    return cummax(this, axis);
  },
  cummin(axis: number) {
    return cummin(this, axis);
  },
  cumsum(axis: number) {
    return cumsum(this, axis);
  },
  cumprod(axis: number) {
    return cumprod(this, axis);
  },
});
