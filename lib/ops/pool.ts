/** Pooling by maximum or average, over windows of a size or over as many windows as asked for. */
import { type Rule, record } from '../autograd.js';
import { describe, expectBoolean, expectInteger, expectOptions } from '../check.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { lt, maximum as maximumOf, where } from './binary.js';
import { type OpRows, ruleOf } from './define.js';
import { gather } from './gather.js';
import {
  asImages,
  batched,
  expectPair,
  expectSingle,
  type Layout1d,
  type Layout2d,
  type Pair,
} from './spatial.js';
import { reshape } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    maxPool2d(x: Handle, window: Numbers, adaptive: boolean, relu: boolean): void;
    avgPool2d(x: Handle, window: Numbers, adaptive: boolean, countPad: boolean): void;
  }
  interface NativeKernels {
    maxPool2dBackward(
      dy: Handle,
      index: Handle,
      image: Numbers,
      window: Numbers,
      adaptive: boolean,
    ): void;
    avgPool2dBackward(
      dy: Handle,
      image: Numbers,
      window: Numbers,
      adaptive: boolean,
      countPad: boolean,
    ): void;
  }
}

export interface PoolOptions<Size, Layout = Layout2d> {
  /** Elements between windows; the kernel's size where left out. */
  stride?: Size;
  /** Elements added on either side, at most half the kernel; 0 where left out. */
  padding?: Size;
  /** Whether windows that begin inside but reach beyond the end count; false where left out. */
  ceilMode?: boolean;
  /** The order of x's and the result's axes; channels first where left out. */
  layout?: Layout;
}
export interface MaxPoolOptions<Size, Layout = Layout2d> extends PoolOptions<Size, Layout> {
  /** Elements between those of a window; 1 where left out. */
  dilation?: Size;
  /** Whether ReLU follows, in the same kernel. */
  relu?: boolean;
}
export interface AvgPoolOptions<Size, Layout = Layout2d> extends PoolOptions<Size, Layout> {
  /** Whether padding counts, as zeros, in the average; true where left out. */
  countIncludePad?: boolean;
}
export type MaxPool1dOptions = MaxPoolOptions<number, Layout1d>;
export type MaxPool2dOptions = MaxPoolOptions<Pair>;
export type AvgPool1dOptions = AvgPoolOptions<number, Layout1d>;
export interface AdaptivePoolOptions {
  /** The order of x's and the result's axes; channels first where left out. */
  layout?: Layout2d;
}
export type AvgPool2dOptions = AvgPoolOptions<Pair>;

/** Sizes of the result per axis, null for the input's own; one number for both. */
export type OutputSize = number | null | readonly [number | null, number | null];

/** @internal */
export interface PoolAttributes {
  image: Shape;
  /** Kernel, stride, padding, dilation and output size of both axes: as native has it. */
  window: readonly number[];
  adaptive: boolean;
  countPad: boolean;
}

const maxRule: Rule<PoolAttributes> = (dout, [index], { image, window, adaptive }) => {
  native.maxPool2dBackward(dout.h, (index as Tensor).h, image, window, adaptive);
  return [take(0, dout.device)];
};

const averageRule: Rule<PoolAttributes> = (dout, _, { image, window, adaptive, countPad }) => {
  native.avgPool2dBackward(dout.h, image, window, adaptive, countPad);
  return [take(0, dout.device)];
};

export const poolOps: OpRows<'maxPool2d' | 'avgPool2d'> = {
  maxPool2d: {
    family: 'pool',
    summary: 'largest element of each window; NaN wins',
    dtypes: 'floating',
    gradient: maxRule,
  },
  avgPool2d: {
    family: 'pool',
    summary: 'average of each window',
    dtypes: 'floating',
    gradient: averageRule,
  },
};

/** @internal The elements of images at places of their planes; 0 at those that ReLU cut. */
export function atPlaces(x: Tensor, index: Tensor): Tensor {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const places = reshape(maximumOf(index, 0), [n, c, -1]).to('int64');
  const found = gather(reshape(x, [n, c, h * w]), 2, places);
  return where(lt(index, 0), 0, reshape(found, index.shape));
}

function maximum(x: Tensor, window: readonly number[], adaptive: boolean, relu = false): Tensor {
  native.maxPool2d(x.h, window, adaptive, relu);
  const out = take(0, x.device);
  const index = take(1, x.device);
  const attributes = { image: x.shape, window, adaptive, countPad: false };
  return record('maxPool2d', ruleOf(poolOps.maxPool2d), out, [x], () => [index], attributes);
}

/** @internal */
export function average(
  x: Tensor,
  window: readonly number[],
  adaptive: boolean,
  countPad: boolean,
): Tensor {
  native.avgPool2d(x.h, window, adaptive, countPad);
  const out = take(0, x.device);
  const attributes = { image: x.shape, window, adaptive, countPad };
  return record('avgPool2d', ruleOf(poolOps.avgPool2d), out, [x], null, attributes);
}

/** The windows of one axis. */
interface Axis {
  kernel: number;
  stride: number;
  padding: number;
  dilation: number;
}

function outputOf(op: string, size: number, axis: Axis, ceil: boolean): number {
  const { kernel, stride, padding, dilation } = axis;
  const room = size + 2 * padding - dilation * (kernel - 1) - 1;
  if (2 * padding > kernel) {
    throw new RangeError(
      `${op}: padding must be at most half the kernel, got ${padding} and ${kernel}`,
    );
  }
  if (room < 0 || size === 0) {
    throw new RangeError(
      `${op}: the kernel must fit into the padded input, got ${kernel} taps, ${dilation} apart, ` +
        `in ${size + 2 * padding}`,
    );
  }
  const count = (ceil ? Math.ceil(room / stride) : Math.floor(room / stride)) + 1;
  // The last window must begin in the input or the padding before it.
  return ceil && (count - 1) * stride >= size + padding ? count - 1 : count;
}

function windowOf(op: string, x: Tensor, h: Axis, w: Axis, ceil: boolean): number[] {
  return [
    ...[h.kernel, w.kernel, h.stride, w.stride, h.padding, w.padding, h.dilation, w.dilation],
    outputOf(op, x.shape.at(-2) as number, h, ceil),
    outputOf(op, x.shape.at(-1) as number, w, ceil),
  ];
}

const whole: Axis = { kernel: 1, stride: 1, padding: 0, dilation: 1 };

/** @internal The names of options. */
export const maxPoolNames = [
  'dilation',
  'stride',
  'padding',
  'ceilMode',
  'relu',
  'layout',
] as const;

export const avgPoolNames = ['countIncludePad', 'stride', 'padding', 'ceilMode', 'layout'] as const;

function axes(op: string, kernelSize: Pair, given: MaxPool2dOptions): [Axis, Axis] {
  const kernel = expectPair(op, 'kernelSize', kernelSize, 1);
  const stride = expectPair(op, 'stride', given.stride ?? kernel, 1);
  const padding = expectPair(op, 'padding', given.padding ?? 0, 0);
  const dilation = expectPair(op, 'dilation', given.dilation ?? 1, 1);
  const axis = (i: 0 | 1): Axis => ({
    kernel: kernel[i],
    stride: stride[i],
    padding: padding[i],
    dilation: dilation[i],
  });
  return [axis(0), axis(1)];
}

function singleAxis(op: string, kernelSize: number, given: MaxPool1dOptions): Axis {
  const kernel = expectSingle(op, 'kernelSize', kernelSize, 1);
  return {
    kernel,
    stride: expectSingle(op, 'stride', given.stride ?? kernel, 1),
    padding: expectSingle(op, 'padding', given.padding ?? 0, 0),
    dilation: expectSingle(op, 'dilation', given.dilation ?? 1, 1),
  };
}

/**
 * The largest element of each window; its gradient goes to the first of equal ones.
 * @param x [N, C, H, W], or [C, H, W]; [N, H, W, C] with the layout 'NHWC', without a copy
 * @returns [N, C, ⌊(H + 2·padding - dilation·(kernel - 1) - 1) / stride⌋ + 1, …], ⌈ ⌉ with ceilMode
 */
export function maxPool2d(x: Tensor, kernelSize: Pair, options: MaxPool2dOptions = {}): Tensor {
  const given = expectOptions('maxPool2d', options, maxPoolNames);
  const [h, w] = axes('maxPool2d', kernelSize, given);
  const ceil = expectBoolean('maxPool2d', 'ceilMode', given.ceilMode ?? false);
  const relu = expectBoolean('maxPool2d', 'relu', given.relu ?? false);
  return batched(
    'maxPool2d',
    x,
    4,
    (images) => maximum(images, windowOf('maxPool2d', images, h, w, ceil), false, relu),
    given.layout,
  );
}

/**
 * {@link maxPool2d} over one axis.
 * @param x [N, C, L], or [C, L]
 */
export function maxPool1d(x: Tensor, kernelSize: number, options: MaxPool1dOptions = {}): Tensor {
  const given = expectOptions('maxPool1d', options, maxPoolNames);
  const axis = singleAxis('maxPool1d', kernelSize, given);
  const ceil = expectBoolean('maxPool1d', 'ceilMode', given.ceilMode ?? false);
  const relu = expectBoolean('maxPool1d', 'relu', given.relu ?? false);
  return batched(
    'maxPool1d',
    x,
    3,
    (rows) =>
      asImages(rows, (images) =>
        maximum(images, windowOf('maxPool1d', images, whole, axis, ceil), false, relu),
      ),
    given.layout,
  );
}

/**
 * The average of each window.
 * @param x [N, C, H, W], or [C, H, W]; [N, H, W, C] with the layout 'NHWC', without a copy
 * @returns [N, C, ⌊(H + 2·padding - kernel) / stride⌋ + 1, …], ⌈ ⌉ with ceilMode
 */
export function avgPool2d(x: Tensor, kernelSize: Pair, options: AvgPool2dOptions = {}): Tensor {
  const {
    countIncludePad = true,
    ceilMode = false,
    ...given
  } = expectOptions('avgPool2d', options, avgPoolNames);
  const [h, w] = axes('avgPool2d', kernelSize, { ...given, dilation: 1 });
  expectBoolean('avgPool2d', 'ceilMode', ceilMode);
  expectBoolean('avgPool2d', 'countIncludePad', countIncludePad);
  return batched(
    'avgPool2d',
    x,
    4,
    (images) =>
      average(images, windowOf('avgPool2d', images, h, w, ceilMode), false, countIncludePad),
    given.layout,
  );
}

/**
 * {@link avgPool2d} over one axis.
 * @param x [N, C, L], or [C, L]
 */
export function avgPool1d(x: Tensor, kernelSize: number, options: AvgPool1dOptions = {}): Tensor {
  const {
    countIncludePad = true,
    ceilMode = false,
    ...given
  } = expectOptions('avgPool1d', options, avgPoolNames);
  const axis = singleAxis('avgPool1d', kernelSize, { ...given, dilation: 1 });
  expectBoolean('avgPool1d', 'ceilMode', ceilMode);
  expectBoolean('avgPool1d', 'countIncludePad', countIncludePad);
  return batched(
    'avgPool1d',
    x,
    3,
    (rows) =>
      asImages(rows, (images) =>
        average(
          images,
          windowOf('avgPool1d', images, whole, axis, ceilMode),
          false,
          countIncludePad,
        ),
      ),
    given.layout,
  );
}

/** Checks the sizes that an adaptive pooling is to give. */
export function expectOutputSize(op: string, size: unknown): [number | null, number | null] {
  const both: unknown = size === null || typeof size === 'number' ? [size, size] : size;
  if (!Array.isArray(both) || both.length !== 2) {
    throw new TypeError(`${op}: outputSize must be a number, null or two, got ${describe(size)}`);
  }
  return [expectSingleOutput(op, both[0]), expectSingleOutput(op, both[1])];
}

/** The same for one axis. */
export function expectSingleOutput(op: string, size: unknown): number | null {
  return size === null ? null : expectInteger(op, 'outputSize', size, 0, 2 ** 31 - 1);
}

function adaptiveWindow(x: Tensor, [h, w]: readonly [number | null, number | null]): number[] {
  const [height, width] = [x.shape.at(-2) as number, x.shape.at(-1) as number];
  return [1, 1, 1, 1, 0, 0, 1, 1, h ?? height, w ?? width];
}

/**
 * Averages of as many windows as asked for: window i of an axis is [⌊i·H/out⌋, ⌈(i+1)·H/out⌉).
 * @param x [N, C, H, W], or [C, H, W]; [N, H, W, C] with the layout 'NHWC', without a copy
 * @returns [N, C, outputSize[0], outputSize[1]]
 */
export function adaptiveAvgPool2d(
  x: Tensor,
  outputSize: OutputSize,
  options: AdaptivePoolOptions = {},
): Tensor {
  const size = expectOutputSize('adaptiveAvgPool2d', outputSize);
  const { layout } = expectOptions('adaptiveAvgPool2d', options, ['layout']);
  return batched(
    'adaptiveAvgPool2d',
    x,
    4,
    (images) => average(images, adaptiveWindow(images, size), true, false),
    layout,
  );
}

/**
 * The largest elements of as many windows as asked for, cut as {@link adaptiveAvgPool2d} cuts them.
 * @param x [N, C, H, W], or [C, H, W]; [N, H, W, C] with the layout 'NHWC', without a copy
 * @returns [N, C, outputSize[0], outputSize[1]]
 */
export function adaptiveMaxPool2d(
  x: Tensor,
  outputSize: OutputSize,
  options: AdaptivePoolOptions = {},
): Tensor {
  const size = expectOutputSize('adaptiveMaxPool2d', outputSize);
  const { layout } = expectOptions('adaptiveMaxPool2d', options, ['layout']);
  return batched(
    'adaptiveMaxPool2d',
    x,
    4,
    (images) => maximum(images, adaptiveWindow(images, size), true),
    layout,
  );
}

/**
 * {@link adaptiveAvgPool2d} over one axis.
 * @param x [N, C, L], or [C, L]
 */
export function adaptiveAvgPool1d(x: Tensor, outputSize: number | null): Tensor {
  return adaptiveRows('adaptiveAvgPool1d', x, outputSize, (images, window) =>
    average(images, window, true, false),
  );
}

/**
 * {@link adaptiveMaxPool2d} over one axis.
 * @param x [N, C, L], or [C, L]
 */
export function adaptiveMaxPool1d(x: Tensor, outputSize: number | null): Tensor {
  return adaptiveRows('adaptiveMaxPool1d', x, outputSize, (images, window) =>
    maximum(images, window, true),
  );
}

function adaptiveRows(
  op: string,
  x: Tensor,
  outputSize: number | null,
  pool: (images: Tensor, window: number[]) => Tensor,
): Tensor {
  const size = expectSingleOutput(op, outputSize);
  return batched(op, x, 3, (rows) =>
    asImages(rows, (images) => pool(images, adaptiveWindow(images, [1, size]))),
  );
}
