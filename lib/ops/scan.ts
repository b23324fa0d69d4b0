/** Running sums and products along an axis. */
import { type Rule, record } from '../autograd.js';
import { expectInteger, expectTensor } from '../check.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { div, eq, logicalAnd, mul, where } from './binary.js';
import { addMethods, type OpRows } from './define.js';

declare module '../native.js' {
  interface NativeOps {
    cumsum(x: Handle, axis: number, reverse: boolean): void;
    cumprod(x: Handle, axis: number): void;
  }
}

function runningSum(x: Tensor, axis: number, reverse: boolean): Tensor {
  native.cumsum(x.h, axis, reverse);
  return take(0, x.device);
}

const cumsumRule: Rule<number> = (dout, _, axis) => [runningSum(dout, axis, true)];

// dx[i] = Σ over j from i on of dout[j]·y[j]/x[i]; at the first 0 of a line the products without
// it, and none behind it.
const cumprodRule: Rule<number> = (dout, [input, output], axis) => {
  const [x, y] = [input as Tensor, output as Tensor];
  const zero = eq(x, 0);
  const first = logicalAnd(zero, eq(runningSum(zero, axis, false), 1));
  native.cumprod(where(first, 1, x).h, axis);
  const withoutFirst = take(0, x.device);
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
  native.cumsum(expectTensor('cumsum', x).h, expectInteger('cumsum', 'axis', axis), false);
  const out = take(0, x.device);
  return record('cumsum', out.dtype === x.dtype ? cumsumRule : null, out, [x], null, axis);
}

/** Products of the elements up to and including each, along `axis`; integers in int64. */
export function cumprod(x: Tensor, axis: number): Tensor {
  native.cumprod(expectTensor('cumprod', x).h, expectInteger('cumprod', 'axis', axis));
  const out = take(0, x.device);
  const rule = out.dtype === x.dtype ? cumprodRule : null;
  return record('cumprod', rule, out, [x], () => [x, out], axis);
}

declare module '../tensor.js' {
  interface Tensor {
    cumsum(axis: number): Tensor;
    cumprod(axis: number): Tensor;
  }
}

addMethods({
  cumsum(axis: number) {
    return cumsum(this, axis);
  },
  cumprod(axis: number) {
    return cumprod(this, axis);
  },
});
