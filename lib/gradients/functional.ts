/**
 * Derivatives of functions of tensors, as torch.autograd.functional has them. A matrix of derivatives
 * is found row by row, with one backward pass for each element of the result.
 */
import { grad } from '../backward.js';
import { describe, expectBoolean, expectFunction, expectOptions, expectTensor } from '../check.js';
import { enableGrad } from '../context.js';
import { ones, zeros, zerosLike } from '../ops/fill.js';
import { stack } from '../ops/movement.js';
import { alias, detach, reshape, select } from '../ops/view.js';
import { sameShape, type Tensor } from '../tensor.js';

/** A function of one tensor or several. */
export type TensorFunction = (...inputs: Tensor[]) => Tensor;

export interface FunctionalOptions {
  /** Whether the result can be differentiated in its turn; false where left out. */
  createGraph?: boolean;
}

function createGraphOf(op: string, options: FunctionalOptions): boolean {
  return expectBoolean(
    op,
    'createGraph',
    expectOptions(op, options, ['createGraph']).createGraph ?? false,
  );
}

/** The inputs as tensors of their own that want gradients, but for their history where it counts. */
function variables(op: string, inputs: readonly Tensor[], createGraph: boolean): Tensor[] {
  if (!Array.isArray(inputs) || inputs.length === 0) {
    throw new TypeError(
      `${op}: inputs must be an array of at least one tensor, got ${describe(inputs)}`,
    );
  }
  // Not by map, which would pass over holes.
  return Array.from(inputs, (input) => {
    const x = expectTensor(op, input, 'each input');
    return createGraph && x.requiresGrad ? alias(x) : detach(x).requireGrad();
  });
}

function evaluate(op: string, fn: TensorFunction, inputs: readonly Tensor[]): Tensor {
  return expectTensor(op, expectFunction(op, 'fn', fn)(...inputs), 'the result of fn');
}

function result(x: Tensor, createGraph: boolean): Tensor {
  return createGraph ? x : detach(x);
}

function expectLike(op: string, v: unknown, like: Tensor): Tensor {
  const vector = expectTensor(op, v, 'v');
  if (sameShape(vector.shape, like.shape)) return vector;
  throw new RangeError(`${op}: v must have the shape [${like.shape}], got [${vector.shape}]`);
}

/** Gradients, zeros where the output does not depend on any input. */
function gradients(
  output: Tensor,
  inputs: readonly Tensor[],
  dout: Tensor | undefined,
  createGraph: boolean,
): Tensor[] {
  if (!output.requiresGrad) return inputs.map((x) => zerosLike(x));
  return grad(output, inputs, dout, { createGraph, retainGraph: true });
}

/**
 * fn's value and vᵀ·J: the gradients of Σ v·fn(inputs) in each input.
 * @param v of the shape of fn's value; 1 where left out and that is one element
 */
export function vjp(
  fn: TensorFunction,
  inputs: readonly Tensor[],
  v?: Tensor,
  options: FunctionalOptions = {},
): [value: Tensor, gradients: Tensor[]] {
  const createGraph = createGraphOf('vjp', options);
  return enableGrad(() => {
    const own = variables('vjp', inputs, createGraph);
    const value = evaluate('vjp', fn, own);
    const dout = v === undefined ? undefined : expectLike('vjp', v, value);
    const found = gradients(value, own, dout, createGraph);
    return [result(value, createGraph), found];
  });
}

/**
 * fn's value and J·v: its derivative along a direction. Found by differentiating vᵀ·J, which is linear
 * in v, in its turn, so every op of fn must have second derivatives.
 * @param v one direction per input, of its shape
 */
export function jvp(
  fn: TensorFunction,
  inputs: readonly Tensor[],
  v: readonly Tensor[],
  options: FunctionalOptions = {},
): [value: Tensor, derivative: Tensor] {
  const createGraph = createGraphOf('jvp', options);
  if (!Array.isArray(v) || v.length !== inputs.length) {
    throw new TypeError(`jvp: v must be an array of a tensor per input, got ${describe(v)}`);
  }
  return enableGrad(() => {
    const own = variables('jvp', inputs, createGraph);
    const directions = own.map((x, i) => expectLike('jvp', v[i], x));
    const value = evaluate('jvp', fn, own);
    const weight = zerosLike(value).requireGrad();
    let along = zerosLike(value);
    gradients(value, own, weight, true).forEach((row, i) => {
      if (!row.requiresGrad) return;
      const [part] = grad(row, [weight], directions[i] as Tensor, {
        createGraph,
        retainGraph: true,
      });
      along = along.add(part as Tensor);
    });
    return [result(value, createGraph), along];
  });
}

/**
 * The derivatives of every element of fn's value in every element of each input.
 * @returns per input [...value, ...input]
 */
export function jacobian(
  fn: TensorFunction,
  inputs: readonly Tensor[],
  options: FunctionalOptions = {},
): Tensor[] {
  const createGraph = createGraphOf('jacobian', options);
  return enableGrad(() => {
    const own = variables('jacobian', inputs, createGraph);
    return rowsOf(evaluate('jacobian', fn, own), own, createGraph);
  });
}

function rowsOf(value: Tensor, inputs: readonly Tensor[], createGraph: boolean): Tensor[] {
  const flat = reshape(value, [value.size]);
  const rows = Array.from({ length: value.size }, (_, i) =>
    gradients(select(flat, 0, i), inputs, undefined, createGraph),
  );
  return inputs.map((x, k) => {
    const shape = [...value.shape, ...x.shape];
    if (rows.length === 0) return zeros(shape, { dtype: x.dtype, device: x.device });
    return reshape(stack(rows.map((row) => row[k] as Tensor)), shape);
  });
}

/**
 * The second derivatives of a function whose value is one element: of its gradient in input i, those
 * in input j. Every op of fn must have second derivatives.
 * @returns per pair of inputs [...input i, ...input j]
 */
export function hessian(
  fn: TensorFunction,
  inputs: readonly Tensor[],
  options: FunctionalOptions = {},
): Tensor[][] {
  const createGraph = createGraphOf('hessian', options);
  return enableGrad(() => {
    const own = variables('hessian', inputs, createGraph);
    const value = evaluate('hessian', fn, own);
    if (value.size !== 1) {
      throw new RangeError(`hessian: fn must return one element, got [${value.shape}]`);
    }
    const seed = ones(value.shape, { dtype: value.dtype, device: value.device });
    return gradients(value, own, seed, true).map((row) => rowsOf(row, own, createGraph));
  });
}
