/** Matrix products. On a GPU `setMatmulPrecision` and `setMatmulBackend` choose how. */

import { forProduct } from '../autocast.js';
import {
  type DeferredGradient,
  type Gradient,
  needsGradient,
  type Rule,
  record,
} from '../autograd.js';
import { expectOneOf, expectOptions, expectTensor, optionalTensor } from '../check.js';
import { context } from '../context.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { addMethods, type OpRow, type OpRows, ruleOf } from './define.js';
import { deferredSum } from './reduce.js';
import { reshape, transpose, unsqueeze } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    matmul(a: Handle, b: Handle, scale: number, precision: number, library: number): void;
    linear(
      x: Handle,
      weight: Handle,
      bias: Handle | undefined,
      residual: Handle | undefined,
      activation: number,
      keep: boolean,
      precision: number,
      library: number,
    ): void;
  }
  interface NativeKernels {
    matmulInto(
      out: Handle,
      a: Handle,
      b: Handle,
      scale: number,
      accumulate: boolean,
      precision: number,
      library: number,
    ): void;
    linearGradients(dy: Handle, x: Handle, precision: number, library: number): void;
    linearGradientsInto(
      weight: Handle,
      bias: Handle,
      dy: Handle,
      x: Handle,
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
/**
 * Which kernels compute products on a GPU: ours, cuBLASLt, or whichever is faster for a shape. On
 * compute capability 9.0 `best` takes ours in 16 bits and TF32.
 */
export type MatmulBackend = (typeof libraries)[number];

let precision = 0;
let library = 0;

/**
 * Sets how exact float32 products are on a GPU, those of convolutions and recurrent layers included
 * (there, and on compute capability 9.0, `medium` is TF32 too); `highest` at first. PyTorch has TF32
 * in convolutions by default.
 */
export function setMatmulPrecision(level: MatmulPrecision): void {
  precision = precisions.indexOf(expectOneOf('setMatmulPrecision', 'level', level, precisions));
}
/** What {@link setMatmulPrecision} set. */
export function getMatmulPrecision(): MatmulPrecision {
  return precisions[precision] as MatmulPrecision;
}
/** Sets which kernels compute products on a GPU; `best` at first. */
export function setMatmulBackend(name: MatmulBackend): void {
  library = libraries.indexOf(expectOneOf('setMatmulBackend', 'name', name, libraries));
}
/** What {@link setMatmulBackend} set. */
export function getMatmulBackend(): MatmulBackend {
  return libraries[library] as MatmulBackend;
}

/** The codes of precision and library, for families that compute products of their own. */
export function matmulCodes(): readonly [precision: number, library: number] {
  return [precision, library];
}

/** scale · a · b without a gradient. */
export function product(a: Tensor, b: Tensor, scale = 1): Tensor {
  native.matmul(a.h, b.h, scale, precision, library);
  return take(0, a.device);
}

/** scale · a · b as a gradient: straight into a leaf's buffer where both are matrices. */
export function deferredProduct(a: Tensor, b: Tensor, scale = 1): DeferredGradient | Tensor {
  if (a.rank !== 2 || b.rank !== 2) return product(a, b, scale);
  return {
    compute: () => product(a, b, scale),
    into: (out, accumulate) => {
      native.matmulInto(out.h, a.h, b.h, scale, accumulate, precision, library);
      return true;
    },
  };
}

const matmulRule: Rule<number> = (dout, [left, right], scale, needs) => {
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
    needs[0] ? flat(deferredProduct(dc, transpose(b), scale), (left as Tensor).rank, -2) : null,
    needs[1] ? flat(deferredProduct(transpose(a), dc, scale), (right as Tensor).rank, -1) : null,
  ];
};

/** What a fully connected layer may end with. */
export type LinearActivation = 'relu' | 'gelu' | 'geluTanh';
const named = ['relu', 'gelu', 'geluTanh'] as const;
const activations = { none: 0, relu: 1, gelu: 2, geluTanh: 3 } as const; // as core/families/gemm.h

/** The gradient of an activation: of relu from its output, of others from what they were given. */
export function activationBackward(name: LinearActivation, saved: Tensor, dout: Tensor): Tensor {
  native[`${name}Backward`](saved.h, dout.h);
  return take(0, dout.device);
}

/** All axes but the last as one: x itself where it is a matrix. */
function asMatrix(x: Tensor): Tensor {
  if (x.rank === 2) return x;
  // Not by -1, which cannot be found where a size is 0.
  const count = x.shape.slice(0, -1).reduce((a, b) => a * b, 1);
  return reshape(x, [count, x.shape[x.rank - 1] as number]);
}

/** @internal What the gradient of `linear` goes by. */
export interface LinearAttributes {
  activation: LinearActivation | 'none';
  bias: boolean;
  residual: boolean;
}

/**
 * The gradients dyᵀ·x of a weight and Σ dy of its bias, in this order, as one product that adds up
 * the columns of dy as they go by. A weight's buffer waits for the bias's, which backward() brings
 * next, to be written together with it.
 */
function weightAndBias(dy: Tensor, x: Tensor): [DeferredGradient, DeferredGradient] {
  const bias = deferredSum(dy, [dy.shape[1] as number]);
  let waiting: { out: Tensor; accumulate: boolean } | null = null;
  let sums: Tensor | null = null;
  const writeAlone = (): void => {
    if (!waiting) return;
    const { out, accumulate } = waiting;
    native.matmulInto(out.h, transpose(dy).h, x.h, 1, accumulate, precision, library);
    waiting = null;
  };
  return [
    {
      compute: () => {
        native.linearGradients(dy.h, x.h, precision, library);
        sums = take(1, x.device);
        return take(0, x.device);
      },
      into: (out, accumulate) => {
        waiting = { out, accumulate };
        return true;
      },
    },
    {
      compute: () => {
        writeAlone();
        return sums ?? bias.compute();
      },
      into: (out, accumulate) => {
        if (sums) return false;
        if (waiting?.accumulate !== accumulate) {
          writeAlone();
          return bias.into(out, accumulate);
        }
        const weight = waiting.out.h;
        native.linearGradientsInto(weight, out.h, dy.h, x.h, accumulate, precision, library);
        waiting = null;
        return true;
      },
    },
  ];
}

// Saved: x, weight, and for an activation its arguments (its output for a relu that ends it all).
const linearRule: Rule<LinearAttributes> = (
  dout,
  [x, weight, saved],
  { activation, bias, residual },
  needs,
) => {
  const last = residual ? [needs.at(-1) ? dout : null] : [];
  const wanted = needs.slice(0, bias ? 3 : 2);
  if (!wanted.some(Boolean)) return [...wanted.map(() => null), ...last];
  const dy = activation === 'none' ? dout : activationBackward(activation, saved as Tensor, dout);
  const [w, input] = [weight as Tensor, x as Tensor];
  const rows = asMatrix(dy);
  const gradients: Gradient[] = [null, null];
  if (needs[0]) {
    const dx = product(rows, w);
    gradients[0] = input.rank === 2 ? dx : reshape(dx, input.shape);
  }
  if (needs[1] && bias && needs[2]) {
    return [gradients[0] as Gradient, ...weightAndBias(rows, asMatrix(input)), ...last];
  }
  if (needs[1]) gradients[1] = deferredProduct(transpose(rows), asMatrix(input));
  if (bias) gradients.push(needs[2] ? deferredSum(rows, [w.shape[0] as number]) : null);
  return [...gradients, ...last];
};

export const gemmOps: OpRows<'matmul' | 'linear'> = {
  matmul: {
    family: 'gemm',
    summary: 'matrix product; leading axes are a batch and broadcast',
    dtypes: 'numeric',
    gradient: matmulRule,
  } satisfies OpRow,
  linear: {
    family: 'gemm',
    summary: 'x · weightᵀ + bias, and if asked an activation of it, and a residual added',
    dtypes: 'floating',
    gradient: linearRule,
  },
};

/**
 * Matrix product of the last two axes: [..., M, K] by [..., K, N] gives [..., M, N]. Leading axes
 * broadcast; a vector counts as a row on the left and as a column on the right. Both are of one
 * dtype; integers keep theirs and wrap around, as in PyTorch.
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  return scaledProduct('matmul', a, b, 1);
}

/** @internal scale · a · b with its gradient. */
export function scaledProduct(name: string, a: Tensor, b: Tensor, scale: number): Tensor {
  const left = forProduct(expectTensor(name, a, 'a'));
  const right = forProduct(expectTensor(name, b, 'b'));
  const out = product(left, right, scale);
  const operands = [left, right];
  return record(name, ruleOf(gemmOps.matmul), out, operands, () => operands, scale);
}

export interface LinearCall {
  /** None where left out. */
  activation?: LinearActivation;
  /** [..., out]: added at the end; of the dtype of x. */
  residual?: Tensor | null;
}

/**
 * activation(x · weightᵀ + bias) + residual over the last axis, as one kernel.
 * @param input [..., in]
 * @param matrix [out, in]
 * @param offset [out], or null
 */
export function linear(
  input: Tensor,
  matrix: Tensor,
  offset: Tensor | null = null,
  options: LinearCall = {},
): Tensor {
  const { activation: asked, residual: added } = expectOptions('linear', options, [
    'activation',
    'residual',
  ]);
  const activation =
    asked === undefined ? 'none' : expectOneOf('linear', 'activation', asked, named);
  const x = forProduct(expectTensor('linear', input, 'x'));
  const weight = forProduct(expectTensor('linear', matrix, 'weight'));
  const bias = forProduct(optionalTensor('linear', offset, 'bias'));
  const residual = forProduct(optionalTensor('linear', added, 'residual'));
  const operands = [x, weight, ...(bias ? [bias] : [])];
  // A relu's output tells as much as its arguments, while nothing is added to it.
  const byOutput = activation === 'none' || (activation === 'relu' && !residual);
  const keep = !byOutput && context().grad && operands.some(needsGradient);
  const code = activations[activation];
  native.linear(x.h, weight.h, bias?.h, residual?.h, code, keep, precision, library);
  const out = take(0, x.device);
  const before = keep ? take(1, x.device) : null;
  return record(
    'linear',
    linearRule,
    out,
    residual ? [...operands, residual] : operands,
    () => {
      if (activation === 'none') return [x, weight];
      return [x, weight, before ?? out, ...(bias ? [bias] : [])];
    },
    { activation, bias: bias !== null, residual: residual !== null },
  );
}

declare module '../tensor.js' {
  interface Tensor {
    /** The matrix product x·other; leading axes are a batch and broadcast. See {@link matmul}. */
    matmul(other: Tensor): Tensor;
  }
}

addMethods({
  matmul(other: Tensor) {
    return matmul(this, other);
  },
});
