/** Convolutions: implicit matrix products that read the image itself, forward and backward. */
import { forProduct } from '../autocast.js';
import { type Gradient, type Rule, record } from '../autograd.js';
import { expectBoolean, expectOptions, expectTensor } from '../check.js';
import { native } from '../native.js';
import type { Shape, Tensor } from '../tensor.js';
import { take } from '../tensor.js';
import { type OpRows, ruleOf } from './define.js';
import { activationBackward, matmulCodes } from './gemm.js';
import { type PoolAttributes, poolOps } from './pool.js';
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
    conv2d(
      x: Handle,
      weight: Handle,
      bias: Handle | undefined,
      geometry: Numbers,
      relu: boolean,
    ): void;
  }
  interface NativeKernels {
    conv2dMaxPool(x: Handle, weight: Handle, bias: Handle | undefined, geometry: Numbers): void;
    conv2dDataBackward(dy: Handle, weight: Handle, image: Numbers, geometry: Numbers): void;
    conv2dWeightBackward(x: Handle, dy: Handle, weight: Numbers, geometry: Numbers): void;
  }
}

export interface ConvOptions<Size, Layout = Layout2d> {
  /** Elements between windows; 1 where left out. */
  stride?: Size;
  /**
   * Zeros on either side; 'same' keeps the size (with a stride of 1), 'sameUpper' gives ⌈size / stride⌉
   * with an odd zero behind (TensorFlow's SAME), 'valid' is 0, the default.
   */
  padding?: Size | 'same' | 'sameUpper' | 'valid';
  /** Elements between taps; 1 where left out. */
  dilation?: Size;
  /** Parts of the channels that are convolved on their own; 1 where left out. */
  groups?: number;
  /** Whether ReLU follows, in the same kernel. */
  relu?: boolean;
  /** The order of x's and the result's axes; channels first where left out. The weight's is one. */
  layout?: Layout;
}
export type Conv1dOptions = ConvOptions<number, Layout1d>;
export type Conv2dOptions = ConvOptions<Pair>;

/** Strides, paddings before, paddings behind, dilations of both axes, groups: as native has it. */
export type Geometry = readonly number[];

/** @internal */
export interface ConvAttributes {
  geometry: Geometry;
  relu: boolean;
  bias: boolean;
}

interface Backward {
  geometry: Geometry;
  image: Shape;
  weight: Shape;
}

/** @internal Of the gradient in the image: a convolution, and the gradient of a weight. */
export const dataGradientRule: Rule<Backward> = (dout, [dy, weight], { geometry }, needs) => {
  const [g, w] = [dy as Tensor, weight as Tensor];
  return [
    needs[0] ? convolve(dout, w, null, geometry, false) : null,
    needs[1] ? weightGradient(dout, g, w.shape, geometry) : null,
  ];
};

function dataGradient(dy: Tensor, weight: Tensor, image: Shape, geometry: Geometry): Tensor {
  native.conv2dDataBackward(dy.h, weight.h, image, geometry);
  return record(
    'conv2dBackward',
    dataGradientRule,
    take(0, dy.device),
    [dy, weight],
    () => [dy, weight],
    { geometry, image, weight: weight.shape },
  );
}

/** @internal Of the gradient in the weight, which is linear in image and output gradient. */
export const weightGradientRule: Rule<Backward> = (dout, saved, { geometry, image }, needs) => {
  const [x, dy] = saved as [Tensor, Tensor];
  return [
    needs[0] ? dataGradient(dy, dout, image, geometry) : null,
    needs[1] ? convolve(x, dout, null, geometry, false) : null,
  ];
};

/** @internal */
export function weightGradient(x: Tensor, dy: Tensor, weight: Shape, geometry: Geometry): Tensor {
  native.conv2dWeightBackward(x.h, dy.h, weight, geometry);
  return record('conv2dBackward', weightGradientRule, take(0, dy.device), [x, dy], () => [x, dy], {
    geometry,
    image: x.shape,
    weight,
  });
}

const convRule: Rule<ConvAttributes> = (dout, [x, weight, y], { geometry, relu, bias }, needs) => {
  const dy = relu ? activationBackward('relu', y as Tensor, dout) : dout;
  const [input, w] = [x as Tensor, weight as Tensor];
  const gradients: Gradient[] = [null, null];
  if (needs[0]) gradients[0] = dataGradient(dy, w, input.shape, geometry);
  if (needs[1]) gradients[1] = weightGradient(input, dy, w.shape, geometry);
  if (bias) gradients.push(needs[2] ? sum(dy, [0, 2, 3]) : null);
  return gradients;
};

/** @internal */
export interface ConvPoolAttributes {
  conv: ConvAttributes;
  pool: PoolAttributes;
}

/** @internal Of a convolution whose result is never kept: its gradient comes by way of the maxima's. */
export function convPoolRuleBy(pool: Rule<PoolAttributes>, conv: Rule<ConvAttributes>) {
  return ((dout, [x, weight, index], attributes, needs) => {
    const [dy] = pool(dout, [index as Tensor], attributes.pool, [true]);
    return conv(dy as Tensor, [x as Tensor, weight as Tensor], attributes.conv, needs);
  }) as Rule<ConvPoolAttributes>;
}

/** @internal */
export const convPoolRule = convPoolRuleBy(poolOps.maxPool2d.gradient as Rule, convRule as Rule);

export const convOps: OpRows<'conv2d'> = {
  conv2d: {
    family: 'conv',
    summary: 'cross-correlation of images [N,C,H,W] with a weight, with an optional ReLU',
    dtypes: 'floating',
    gradient: convRule,
  },
};

/** @internal */
export function expectGroups(op: string, groups: number): number {
  return expectSingle(op, 'groups', groups, 1);
}

/** What decides an axis' paddings: the number asked for, or null for those that keep its size. */
interface Axis {
  padding: number | null;
  taps: number;
  stride: number;
  dilation: number;
}

/** Paddings before and behind; an odd one is behind, as PyTorch and TensorFlow have it. */
function paddings({ padding, taps, stride, dilation }: Axis, size: number): [number, number] {
  if (padding !== null) return [padding, padding];
  const reach = dilation * (taps - 1) + 1;
  const total = Math.max(0, (Math.ceil(size / stride) - 1) * stride + reach - size);
  return [Math.floor(total / 2), Math.ceil(total / 2)];
}

/** Checks a padding that may be a word; numbers come back as they are, words as 0 or null. */
function expectPadding<Size>(
  op: string,
  padding: Size | 'same' | 'sameUpper' | 'valid',
  strides: readonly number[],
): Size | 0 | null {
  if (padding === 'valid') return 0;
  if (padding === 'same' && strides.some((stride) => stride !== 1)) {
    throw new RangeError(
      `${op}: padding 'same' needs a stride of 1, got [${strides}]; 'sameUpper' takes any`,
    );
  }
  return padding === 'same' || padding === 'sameUpper' ? null : padding;
}

const convNames = ['stride', 'padding', 'dilation', 'groups', 'relu', 'layout'] as const;

/** @internal */
export function convolve(
  image: Tensor,
  kernel: Tensor,
  offset: Tensor | null,
  geometry: Geometry,
  relu: boolean,
): Tensor {
  const [x, weight, bias] = [forProduct(image), forProduct(kernel), forProduct(offset)];
  native.conv2d(x.h, weight.h, bias?.h, geometry, relu);
  const out = take(0, x.device);
  return record(
    'conv2d',
    ruleOf(convOps.conv2d),
    out,
    bias ? [x, weight, bias] : [x, weight],
    () => (relu ? [x, weight, out] : [x, weight]),
    { geometry, relu, bias: bias !== null },
  );
}

/** Followed by a ReLU and the largest of each 2 by 2 elements. */
function convolveAndPool(
  image: Tensor,
  kernel: Tensor,
  offset: Tensor | null,
  geometry: Geometry,
): Tensor {
  const [x, weight, bias] = [forProduct(image), forProduct(kernel), forProduct(offset)];
  native.conv2dMaxPool(x.h, weight.h, bias?.h, geometry);
  const out = take(0, x.device);
  const index = take(1, x.device);
  const [n, , h, w] = x.shape as [number, number, number, number];
  const [, , kh, kw] = weight.shape as [number, number, number, number];
  const sizes = [positions(h, kh, geometry, 0), positions(w, kw, geometry, 1)];
  const pool: PoolAttributes = {
    image: [n, weight.shape[0] as number, ...sizes],
    window: [2, 2, 2, 2, 0, 0, 1, 1, ...out.shape.slice(2)],
    adaptive: false,
    countPad: false,
  };
  return record(
    'conv2d',
    convPoolRule,
    out,
    bias ? [x, weight, bias] : [x, weight],
    () => [x, weight, index],
    { conv: { geometry, relu: false, bias: bias !== null }, pool },
  );
}

/** How many positions taps have along an axis of the given geometry. */
function positions(size: number, taps: number, geometry: Geometry, axis: 0 | 1): number {
  const [stride, before, behind, dilation] = [0, 2, 4, 6].map((at) => geometry[at + axis]) as [
    number,
    number,
    number,
    number,
  ];
  return Math.floor((size + before + behind - dilation * (taps - 1) - 1) / stride) + 1;
}

/** @internal */
export function expectWeight(op: string, weight: Tensor, bias: Tensor | null, rank: 3 | 4): void {
  expectTensor(op, weight, 'weight');
  if (weight.rank !== rank) {
    throw new RangeError(`${op}: the weight must have rank ${rank}, got [${weight.shape}]`);
  }
  if (bias !== null) expectTensor(op, bias, 'bias');
}

/**
 * y[n,o,i,j] = bias[o] + Σ x[n, c, i·stride + a·dilation - padding, …] · weight[o,c,a,b].
 * @param x [N, C, H, W], or [C, H, W]; [N, H, W, C] with the layout 'NHWC', without a copy
 * @param weight [O, C / groups, kernel height, kernel width]
 * @param bias [O], or null
 * @returns [N, O, ⌊(H + 2·padding - dilation·(kernel - 1) - 1) / stride⌋ + 1, …]
 */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: Conv2dOptions = {},
): Tensor {
  const { relu: given, ...rest } = expectOptions('conv2d', options, convNames);
  const relu = expectBoolean('conv2d', 'relu', given ?? false);
  return overImages(x, weight, bias, rest, (images, geometry) =>
    convolve(images, weight, bias, geometry, relu),
  );
}

/** @internal conv2d, a ReLU and maxPool2d of 2 by 2: one kernel where that serves. */
export function conv2dMaxPool(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  options: Omit<Conv2dOptions, 'relu'>,
): Tensor {
  return overImages(x, weight, bias, options, (images, geometry) =>
    convolveAndPool(images, weight, bias, geometry),
  );
}

/** Calls f with the images and the geometry that options say. */
function overImages(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  options: Omit<Conv2dOptions, 'relu'>,
  f: (images: Tensor, geometry: Geometry) => Tensor,
): Tensor {
  const stride = expectPair('conv2d', 'stride', options.stride ?? 1, 1);
  const dilation = expectPair('conv2d', 'dilation', options.dilation ?? 1, 1);
  const groups = expectGroups('conv2d', options.groups ?? 1);
  const padding = expectPadding('conv2d', options.padding ?? 0, stride);
  expectWeight('conv2d', weight, bias, 4);
  const both = padding === null ? null : expectPair('conv2d', 'padding', padding, 0);
  const around = (images: Tensor, i: 0 | 1): [number, number] => {
    const taps = weight.shape[2 + i] as number;
    const axis = { padding: both ? both[i] : null, taps, stride: stride[i], dilation: dilation[i] };
    return paddings(axis, images.shape[2 + i] as number);
  };
  return batched(
    'conv2d',
    x,
    4,
    (images) => {
      const [[top, bottom], [left, right]] = [around(images, 0), around(images, 1)];
      const geometry = [...stride, top, left, bottom, right, ...dilation, groups, matmulCodes()[0]];
      return f(images, geometry);
    },
    options.layout,
  );
}

/**
 * y[n,o,i] = bias[o] + Σ x[n, c, i·stride + a·dilation - padding] · weight[o,c,a].
 * @param x [N, C, L], or [C, L]
 * @param weight [O, C / groups, kernel]
 * @param bias [O], or null
 * @returns [N, O, ⌊(L + 2·padding - dilation·(kernel - 1) - 1) / stride⌋ + 1]
 */
export function conv1d(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: Conv1dOptions = {},
): Tensor {
  const given = expectOptions('conv1d', options, convNames);
  const stride = expectSingle('conv1d', 'stride', given.stride ?? 1, 1);
  const dilation = expectSingle('conv1d', 'dilation', given.dilation ?? 1, 1);
  const groups = expectGroups('conv1d', given.groups ?? 1);
  const relu = expectBoolean('conv1d', 'relu', given.relu ?? false);
  const padding = expectPadding('conv1d', given.padding ?? 0, [stride]);
  expectWeight('conv1d', weight, bias, 3);
  const axis = {
    padding: padding === null ? null : expectSingle('conv1d', 'padding', padding, 0),
    taps: weight.shape[2] as number,
    stride,
    dilation,
  };
  return batched(
    'conv1d',
    x,
    3,
    (rows) => {
      const [left, right] = paddings(axis, rows.shape[2] as number);
      const geometry = [1, stride, 0, left, 0, right, 1, dilation, groups, matmulCodes()[0]];
      const taps = unsqueeze(weight, 2);
      return asImages(rows, (images) => convolve(images, taps, bias, geometry, relu));
    },
    given.layout,
  );
}
