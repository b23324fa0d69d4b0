/** Softmax and cross-entropy over the last axis, each one kernel forward and one backward. */

import { forPrecision } from '../autocast.js';
import { type Rule, record } from '../autograd.js';
import { describe, expectInteger, expectOneOf, expectOptions, expectTensor } from '../check.js';
import { native } from '../native.js';
import { Tensor, take } from '../tensor.js';
import { ne } from './binary.js';
import { addMethods, type OpRows, ruleOf } from './define.js';
import { mean, sum } from './reduce.js';
import { transpose } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    softmax(x: Handle, logarithm: boolean): void;
    crossEntropy(logits: Handle, target: Handle, ignoreIndex: number): void;
  }
  interface NativeKernels {
    softmaxBackward(y: Handle, dy: Handle, logarithm: boolean): void;
    crossEntropyBackward(
      logits: Handle,
      target: Handle,
      lse: Handle,
      dloss: Handle,
      ignoreIndex: number,
    ): void;
  }
}

const softmaxRule: Rule<boolean> = (dout, [y], logarithm) => {
  native.softmaxBackward((y as Tensor).h, dout.h, logarithm);
  return [take(0, dout.device)];
};

const crossEntropyRule: Rule<number> = (dout, [logits, target, lse], ignoreIndex) => {
  const x = logits as Tensor;
  native.crossEntropyBackward(x.h, (target as Tensor).h, (lse as Tensor).h, dout.h, ignoreIndex);
  return [take(0, dout.device), null];
};

export const softmaxOps: OpRows<'softmax' | 'crossEntropy'> = {
  softmax: {
    family: 'softmax',
    summary: 'eˣ / Σ eˣ over an axis, or its logarithm',
    dtypes: 'floating',
    gradient: softmaxRule,
  },
  crossEntropy: {
    family: 'softmax',
    summary: '-log softmax(logits)[target] per row, fused',
    dtypes: 'floating',
    gradient: crossEntropyRule,
  },
};

function softmaxOver(input: Tensor, axis: number, logarithm: boolean): Tensor {
  const name = logarithm ? 'logSoftmax' : 'softmax';
  expectTensor(name, input);
  const x = forPrecision(input);
  const rank = Math.max(x.rank, 1);
  const at = expectInteger(name, 'axis', axis, -rank, rank - 1);
  if (x.rank > 0 && at !== -1 && at !== x.rank - 1) {
    return transpose(softmaxOver(transpose(x, at, -1), -1, logarithm), at, -1);
  }
  native.softmax(x.h, logarithm);
  const out = take(0, x.device);
  return record(name, ruleOf(softmaxOps.softmax), out, [x], () => [out], logarithm);
}

/** eˣ / Σ eˣ over an axis, the last where left out. */
export function softmax(x: Tensor, axis = -1): Tensor {
  return softmaxOver(x, axis, false);
}

/** The logarithm of {@link softmax}, without its loss of precision. */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return softmaxOver(x, axis, true);
}

const reductions = ['mean', 'sum', 'none'] as const;
export type Reduction = (typeof reductions)[number];

export interface CrossEntropyOptions {
  /** Over the rows; 'mean' leaves ignored ones out. */
  reduction?: Reduction;
  /** Rows with this target count nothing. None are ignored where it is left out. */
  ignoreIndex?: number;
}

/**
 * Cross-entropy between logits and class indices: lse(logits) - logits[target] per row.
 * @param scores the logits, [N, C]
 * @param target [N], int64, in [0, C); another value gives NaN
 */
export function crossEntropy(
  scores: Tensor,
  target: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  const logits = forPrecision(expectTensor('crossEntropy', scores, 'logits'));
  if (!(target instanceof Tensor) || target.dtype !== 'int64') {
    throw new TypeError(
      `crossEntropy: the target must be an int64 tensor of class indices, got ${describe(target)}`,
    );
  }
  const { reduction = 'mean', ignoreIndex = Number.MIN_SAFE_INTEGER } = expectOptions(
    'crossEntropy',
    options,
  );
  expectOneOf('crossEntropy', 'reduction', reduction, reductions);
  expectInteger('crossEntropy', 'ignoreIndex', ignoreIndex);
  native.crossEntropy(logits.h, target.h, ignoreIndex);
  const losses = take(0, logits.device);
  const lse = take(1, logits.device);
  const rows = record(
    'crossEntropy',
    ruleOf(softmaxOps.crossEntropy),
    losses,
    [logits, target],
    () => [logits, target, lse],
    ignoreIndex,
  );
  if (reduction === 'none') return rows;
  if (reduction === 'sum') return sum(rows);
  if (options.ignoreIndex === undefined) return mean(rows);
  // The 16-bit floats could neither count nor sum the rows of a large batch.
  const wide = logits.dtype === 'float64' ? 'float64' : 'float32';
  const counted = sum(ne(target, ignoreIndex).to(wide));
  return sum(rows.to(wide)).div(counted).to(logits.dtype);
}

declare module '../tensor.js' {
  interface Tensor {
    softmax(axis?: number): Tensor;
    logSoftmax(axis?: number): Tensor;
  }
}

addMethods({
  softmax(axis?: number) {
    return softmax(this, axis);
  },
  logSoftmax(axis?: number) {
    return logSoftmax(this, axis);
  },
});
