/** Matrix products. On a GPU `setMatmulPrecision` and `setMatmulBackend` choose how. */

import { forProduct } from '../autocast.js';
import { type DeferredGradient, type Gradient, type Rule, record } from '../autograd.js';
import {
  expectBoolean,
  expectOneOf,
  expectOptions,
  expectTensor,
  optionalTensor,
} from '../check.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { addMethods, type OpRow, type OpRows, ruleOf } from './define.js';
import { deferredSum } from './reduce.js';
import { reshape, transpose, unsqueeze } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    matmul(a: Handle, b: Handle, precision: number, library: number): void;
    linear(
      x: Handle,
      weight: Handle,
      bias: Handle | undefined,
      relu: boolean,
      precision: number,
      library: number,
    ): void;
  }
  interface NativeKernels {
    matmulInto(
      out: Handle,
      a: Handle,
      b: Handle,
      accumulate: boolean,
      precision: number,
      library: number,
    ): void;
  }
}

const precisions = ['highest', 'high', 'medium'] as const;
/** float32 products in full float32, in TF32, or in bfloat16; PyTorch's names. */
export type MatmulPrecision = (typeof precisions)[number];
const libraries = ['best', 'own', 'cublas'] as const;
/** Which kernels compute products on a GPU: ours, cuBLASLt, or whichever is faster for a shape. */
export type MatmulBackend = (typeof libraries)[number];

let precision = 0;
let library = 0;

/**
 * Sets how exact float32 products are on a GPU, those of convolutions and recurrent layers included
 * (there `medium` is TF32 too); `highest` at first. PyTorch has TF32 in convolutions by default.
 */
export function setMatmulPrecision(level: MatmulPrecision): void {
  precision = precisions.indexOf(expectOneOf('setMatmulPrecision', 'level', level, precisions));
}
export function getMatmulPrecision(): MatmulPrecision {
  return precisions[precision] as MatmulPrecision;
}
/** Sets which kernels compute products on a GPU; `best` at first. */
export function setMatmulBackend(name: MatmulBackend): void {
  library = libraries.indexOf(expectOneOf('setMatmulBackend', 'name', name, libraries));
}
export function getMatmulBackend(): MatmulBackend {
  return libraries[library] as MatmulBackend;
}

/** The codes of precision and library, for families that compute products of their own. */
export function matmulCodes(): readonly [precision: number, library: number] {
  return [precision, library];
}

/** a · b without a gradient. */
export function product(a: Tensor, b: Tensor): Tensor {
  native.matmul(a.h, b.h, precision, library);
  return take(0, a.device);
}

/** a · b as a gradient: straight into a leaf's buffer where both are matrices. */
export function deferredProduct(a: Tensor, b: Tensor): DeferredGradient | Tensor {
  if (a.rank !== 2 || b.rank !== 2) return product(a, b);
  return {
    compute: () => product(a, b),
    into: (out, accumulate) => {
      native.matmulInto(out.h, a.h, b.h, accumulate, precision, library);
      return true;
    },
  };
}

const matmulRule: Rule<null> = (dout, [left, right], _, needs) => {
  let [a, b, dc] = [left as Tensor, right as Tensor, dout];
  // A vector took part as a row or a column.
  if (a.rank === 1) {
    a = unsqueeze(a, 0);
    dc = unsqueeze(dc, right?.rank === 1 ? 0 : -2);
  }
  if (b.rank === 1) {
    b = unsqueeze(b, 1);
    dc = unsqueeze(dc, -1);
  }
  // A vector's gradient loses the axis of size 1: -2 for a row, -1 for a column; batch axes stay.
  const flat = (gradient: DeferredGradient | Tensor, rank: number, axis: -2 | -1): Gradient => {
    if (rank !== 1) return gradient;
    const tensor = 'compute' in gradient ? gradient.compute() : gradient;
    const shape = [...tensor.shape];
    shape.splice(axis, 1);
    return reshape(tensor, shape);
  };
  return [
    needs[0] ? flat(deferredProduct(dc, transpose(b)), (left as Tensor).rank, -2) : null,
    needs[1] ? flat(deferredProduct(transpose(a), dc), (right as Tensor).rank, -1) : null,
  ];
};

/** The gradient of relu from its output, as ops that end with one need it. */
export function reluBackward(y: Tensor, dout: Tensor): Tensor {
  native.reluBackward(y.h, dout.h);
  return take(0, dout.device);
}

/** All axes but the last as one: x itself where it is a matrix. */
function asMatrix(x: Tensor): Tensor {
  if (x.rank === 2) return x;
  // Not by -1, which cannot be found where a size is 0.
  const count = x.shape.slice(0, -1).reduce((a, b) => a * b, 1);
  return reshape(x, [count, x.shape[x.rank - 1] as number]);
}

const linearRule: Rule<{ relu: boolean; bias: boolean }> = (
  dout,
  [x, weight, y],
  { relu, bias },
  needs,
) => {
  const dy = relu ? reluBackward(y as Tensor, dout) : dout;
  const [w, input] = [weight as Tensor, x as Tensor];
  const rows = asMatrix(dy);
  const gradients: Gradient[] = [null, null];
  if (needs[0]) {
    const dx = product(rows, w);
    gradients[0] = input.rank === 2 ? dx : reshape(dx, input.shape);
  }
  if (needs[1]) gradients[1] = deferredProduct(transpose(rows), asMatrix(input));
  if (bias) gradients.push(needs[2] ? deferredSum(rows, [w.shape[0] as number]) : null);
  return gradients;
};

export const gemmOps: OpRows<'matmul' | 'linear'> = {
  matmul: {
    family: 'gemm',
    summary: 'matrix product; leading axes are a batch and broadcast',
    dtypes: 'floating',
    gradient: matmulRule,
  } satisfies OpRow,
  linear: {
    family: 'gemm',
    summary: 'x · weightᵀ + bias, with an optional ReLU',
    dtypes: 'floating',
    gradient: linearRule,
  },
};

/**
 * Matrix product of the last two axes: [..., M, K] by [..., K, N] gives [..., M, N]. Leading axes
 * broadcast; a vector counts as a row on the left and as a column on the right.
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  const left = forProduct(expectTensor('matmul', a, 'a'));
  const right = forProduct(expectTensor('matmul', b, 'b'));
  const operands = [left, right];
  return record(
    'matmul',
    ruleOf(gemmOps.matmul),
    product(left, right),
    operands,
    () => operands,
    null,
  );
}

/**
 * x · weightᵀ + bias over the last axis, with ReLU where asked, as one kernel.
 * @param input [..., in]
 * @param matrix [out, in]
 * @param offset [out], or null
 */
export function linear(
  input: Tensor,
  matrix: Tensor,
  offset: Tensor | null = null,
  options: { relu?: boolean } = {},
): Tensor {
  const { relu = false } = expectOptions('linear', options);
  expectBoolean('linear', 'relu', relu);
  const x = forProduct(expectTensor('linear', input, 'x'));
  const weight = forProduct(expectTensor('linear', matrix, 'weight'));
  const bias = forProduct(optionalTensor('linear', offset, 'bias'));
  native.linear(x.h, weight.h, bias?.h, relu, precision, library);
  const out = take(0, x.device);
  return record(
    'linear',
    linearRule,
    out,
    bias ? [x, weight, bias] : [x, weight],
    () => (relu ? [x, weight, out] : [x, weight]),
    { relu, bias: bias !== null },
  );
}

declare module '../tensor.js' {
  interface Tensor {
    matmul(other: Tensor): Tensor;
  }
}

addMethods({
  matmul(other: Tensor) {
    return matmul(this, other);
  },
});
