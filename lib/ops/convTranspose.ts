/** Transposed convolutions: the gradients of convolutions in their input, as layers. */
import { forProduct } from '../autocast.js';
import { type Gradient, type Rule, record } from '../autograd.js';
import { expectOptions } from '../check.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import {
  type ConvAttributes,
  convolve,
  expectGroups,
  expectWeight,
  type Geometry,
  weightGradient,
} from './conv.js';
import { type OpRows, ruleOf } from './define.js';
import { matmulCodes } from './gemm.js';
import { sum } from './reduce.js';
import {
  asImages,
  batched,
  expectPair,
  expectSingle,
  type Layout1d,
  type Layout2d,
  type Pair,
} from './spatial.js';
import { unsqueeze } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    convTranspose2d(x: Handle, weight: Handle, bias: Handle | undefined, geometry: Numbers): void;
  }
}

export interface ConvTransposeOptions<Size, Layout = Layout2d> {
  /** Elements between windows of the result; 1 where left out. */
  stride?: Size;
  /** What is cut off the result on either side; 0 where left out. */
  padding?: Size;
  /** What is added to the result at the end, below stride or dilation; 0 where left out. */
  outputPadding?: Size;
  /** Elements between taps; 1 where left out. */
  dilation?: Size;
  /** Parts of the channels that are convolved on their own; 1 where left out. */
  groups?: number;
  /** The order of x's and the result's axes; channels first where left out. The weight's is one. */
  layout?: Layout;
}
export type ConvTranspose1dOptions = ConvTransposeOptions<number, Layout1d>;
export type ConvTranspose2dOptions = ConvTransposeOptions<Pair>;

const convTransposeRule: Rule<ConvAttributes> = (dout, [x, weight], { geometry, bias }, needs) => {
  const [input, w] = [x as Tensor, weight as Tensor];
  const gradients: Gradient[] = [null, null];
  if (needs[0]) gradients[0] = convolve(dout, w, null, geometry, false);
  if (needs[1]) gradients[1] = weightGradient(dout, input, w.shape, geometry);
  if (bias) gradients.push(needs[2] ? sum(dout, [0, 2, 3]) : null);
  return gradients;
};

export const convTransposeOps: OpRows<'convTranspose2d'> = {
  convTranspose2d: {
    family: 'conv',
    summary: 'transposed convolution, the gradient of conv2d in its input',
    dtypes: 'floating',
    gradient: convTransposeRule,
  },
};

const transposedNames = [
  'stride',
  'padding',
  'outputPadding',
  'dilation',
  'groups',
  'layout',
] as const;

function convolveTransposed(
  image: Tensor,
  kernel: Tensor,
  offset: Tensor | null,
  geometry: Geometry,
): Tensor {
  const [x, weight, bias] = [forProduct(image), forProduct(kernel), forProduct(offset)];
  native.convTranspose2d(x.h, weight.h, bias?.h, geometry);
  return record(
    'convTranspose2d',
    ruleOf(convTransposeOps.convTranspose2d),
    take(0, x.device),
    bias ? [x, weight, bias] : [x, weight],
    () => [x, weight],
    { geometry, relu: false, bias: bias !== null },
  );
}

/** The geometry that options say along one axis or two; of one, the other has a single row. */
function geometryOf(
  op: string,
  options: ConvTransposeOptions<Pair, unknown>,
  axes: 1 | 2,
): Geometry {
  const { stride = 1, dilation = 1, padding = 0, outputPadding = 0, groups = 1 } = options;
  const each = (name: string, value: Pair, least: number): readonly number[] =>
    axes === 2
      ? expectPair(op, name, value, least)
      : [expectSingle(op, name, value as number, least)];
  const strides = each('stride', stride, 1);
  const dilations = each('dilation', dilation, 1);
  const before = each('padding', padding, 0);
  const more = each('outputPadding', outputPadding, 0);
  more.forEach((size, axis) => {
    const below = Math.max(strides[axis] as number, dilations[axis] as number);
    if (size < below) return;
    throw new RangeError(
      `${op}: outputPadding must be below stride or dilation, got ${size} and ${below}`,
    );
  });
  const behind = before.map((size, axis) => size - (more[axis] as number));
  const both = (ofRow: number, sizes: readonly number[]) =>
    axes === 2 ? sizes : [ofRow, ...sizes];
  return [
    ...both(1, strides),
    ...both(0, before),
    ...both(0, behind),
    ...both(1, dilations),
    expectGroups(op, groups),
    matmulCodes()[0],
  ];
}

/**
 * The gradient of {@link conv2d} in its input, as a layer: each element of x adds its window, times
 * the weight, to the result.
 * @param x [N, C, H, W], or [C, H, W]
 * @param weight [C, O / groups, kernel height, kernel width]
 * @param bias [O], or null
 * @returns [N, O, (H - 1)·stride - 2·padding + dilation·(kernel - 1) + outputPadding + 1, …]
 */
export function convTranspose2d(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: ConvTranspose2dOptions = {},
): Tensor {
  const op = 'convTranspose2d';
  const given = expectOptions(op, options, transposedNames);
  const geometry = geometryOf(op, given, 2);
  expectWeight(op, weight, bias, 4);
  return batched(
    op,
    x,
    4,
    (images) => convolveTransposed(images, weight, bias, geometry),
    given.layout,
  );
}

/**
 * The gradient of {@link conv1d} in its input, as a layer.
 * @param x [N, C, L], or [C, L]
 * @param weight [C, O / groups, kernel]
 * @param bias [O], or null
 * @returns [N, O, (L - 1)·stride - 2·padding + dilation·(kernel - 1) + outputPadding + 1]
 */
export function convTranspose1d(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: ConvTranspose1dOptions = {},
): Tensor {
  const op = 'convTranspose1d';
  const given = expectOptions(op, options, transposedNames);
  const geometry = geometryOf(op, given, 1);
  expectWeight(op, weight, bias, 3);
  return batched(
    op,
    x,
    3,
    (rows) =>
      asImages(rows, (images) => convolveTransposed(images, unsqueeze(weight, 2), bias, geometry)),
    given.layout,
  );
}
