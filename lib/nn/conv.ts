/** Convolution layers. */
import { expectInteger, expectNames, expectOneOf } from '../check.js';
import {
  type Conv1dOptions,
  type Conv2dOptions,
  type ConvOptions,
  conv1d,
  conv2d,
  conv2dMaxPool,
} from '../ops/conv.js';
import {
  type ConvTranspose1dOptions,
  type ConvTranspose2dOptions,
  type ConvTransposeOptions,
  convTranspose1d,
  convTranspose2d,
} from '../ops/convTranspose.js';
import type { TensorOptions } from '../ops/fill.js';
import { zeros } from '../ops/fill.js';
import { expectPair, expectSingle, type Pair } from '../ops/spatial.js';
import type { Shape, Tensor } from '../tensor.js';
import { fans, kaimingUniform, uniform } from './init.js';
import { Module, parameter } from './module.js';

interface Layer extends Pick<TensorOptions, 'dtype' | 'device'> {
  /** Whether there is a bias; true where left out. */
  bias?: boolean;
}
export interface Conv1dLayerOptions extends Omit<Conv1dOptions, 'relu'>, Layer {}
export interface Conv2dLayerOptions extends Omit<Conv2dOptions, 'relu'>, Layer {}
export interface ConvTranspose1dLayerOptions extends ConvTranspose1dOptions, Layer {}
export interface ConvTranspose2dLayerOptions extends ConvTranspose2dOptions, Layer {}

const layerNames: readonly (keyof Conv2dLayerOptions)[] = [
  'stride',
  'padding',
  'dilation',
  'groups',
  'layout',
  'bias',
  'dtype',
  'device',
];

/** The options of the function that a layer calls. */
function callOf<O extends Layer>({ bias: _bias, dtype: _dtype, device: _device, ...call }: O) {
  return call;
}

/** What layers of one and of two axes check alike; the kernel's size as `expectSize` returns it. */
function expectSizes<Size, Checked>(
  name: string,
  kernelSize: Size,
  options: ConvOptions<Size, unknown> | ConvTransposeOptions<Size, unknown>,
  expectSize: (op: string, name: string, value: unknown, least: number) => Checked,
  transposed = false,
): Checked {
  const kernel = expectSize(name, 'kernelSize', kernelSize, 1);
  const {
    stride = 1,
    dilation = 1,
    padding = 0,
  } = expectNames(name, options, transposed ? [...layerNames, 'outputPadding'] : layerNames);
  expectSize(name, 'stride', stride, 1);
  expectSize(name, 'dilation', dilation, 1);
  if (typeof padding === 'string' && !transposed) {
    expectOneOf(name, 'padding', padding, ['same', 'sameUpper', 'valid']);
  } else {
    expectSize(name, 'padding', padding, 0);
  }
  if ('outputPadding' in options) expectSize(name, 'outputPadding', options.outputPadding ?? 0, 0);
  return kernel;
}

/** Weight and bias of a convolution, and what PyTorch starts them with. */
abstract class Convolution extends Module {
  /** See the layer. */
  weight: Tensor;
  /** [outChannels], or null */
  bias: Tensor | null;

  constructor(
    name: string,
    readonly inChannels: number,
    readonly outChannels: number,
    kernel: readonly number[],
    transposed: boolean,
    options: Layer & { groups?: number },
  ) {
    super();
    const { groups = 1 } = options;
    expectInteger(name, 'inChannels', inChannels, 1);
    expectInteger(name, 'outChannels', outChannels, 1);
    expectInteger(name, 'groups', groups, 1);
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      throw new RangeError(
        `${name}: groups must divide both channels, got ${inChannels}, ${outChannels} and ${groups}`,
      );
    }
    const place = {
      ...(options.dtype && { dtype: options.dtype }),
      ...(options.device && { device: options.device }),
    };
    const shape: Shape = transposed
      ? [inChannels, outChannels / groups, ...kernel]
      : [outChannels, inChannels / groups, ...kernel];
    this.weight = parameter(zeros(shape, place));
    kaimingUniform(this.weight, { a: Math.sqrt(5) });
    this.bias = null;
    if (options.bias ?? true) {
      const bound = 1 / Math.sqrt(fans(this.weight).fanIn);
      this.bias = parameter(zeros([outChannels], place));
      uniform(this.bias, -bound, bound);
    }
  }

  protected override describe(): string {
    const kernel = this.weight.shape.slice(2).join('×');
    return `${this.inChannels} → ${this.outChannels}, ${kernel}${this.bias ? '' : ', no bias'}`;
  }
}

/**
 * {@link conv2d} as a layer: [N, C, H, W] to [N, O, H', W']. The weight is [O, C / groups, kh, kw];
 * weight and bias start uniform in ±1/√(C / groups · kh · kw), as PyTorch's.
 * @example const layer = new nn.Conv2d(3, 32, 3, { padding: 1 });
 */
export class Conv2d extends Convolution {
  readonly kernelSize: readonly [number, number];

  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Pair,
    readonly options: Conv2dLayerOptions = {},
  ) {
    const kernel = expectSizes('Conv2d', kernelSize, options, expectPair);
    super('Conv2d', inChannels, outChannels, kernel, false, options);
    this.kernelSize = kernel;
  }

  forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, { ...callOf(this.options), relu: false });
  }

  /** The layer followed by a ReLU, as one kernel. */
  forwardRelu(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, { ...callOf(this.options), relu: true });
  }

  /** The layer followed by a ReLU and the largest of each 2 by 2 elements. */
  forwardMaxPool(x: Tensor): Tensor {
    return conv2dMaxPool(x, this.weight, this.bias, callOf(this.options));
  }
}

/**
 * {@link conv1d} as a layer: [N, C, L] to [N, O, L']. The weight is [O, C / groups, kernel]; weight
 * and bias start uniform in ±1/√(C / groups · kernel), as PyTorch's.
 */
export class Conv1d extends Convolution {
  readonly kernelSize: number;

  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: number,
    readonly options: Conv1dLayerOptions = {},
  ) {
    const kernel = expectSizes('Conv1d', kernelSize, options, expectSingle);
    super('Conv1d', inChannels, outChannels, [kernel], false, options);
    this.kernelSize = kernel;
  }

  forward(x: Tensor): Tensor {
    return conv1d(x, this.weight, this.bias, { ...callOf(this.options), relu: false });
  }

  /** The layer followed by a ReLU, as one kernel. */
  forwardRelu(x: Tensor): Tensor {
    return conv1d(x, this.weight, this.bias, { ...callOf(this.options), relu: true });
  }
}

/**
 * {@link convTranspose2d} as a layer: [N, C, H, W] to [N, O, H', W']. The weight is
 * [C, O / groups, kh, kw]; weight and bias start uniform in ±1/√(O / groups · kh · kw), as PyTorch's.
 */
export class ConvTranspose2d extends Convolution {
  readonly kernelSize: readonly [number, number];

  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Pair,
    readonly options: ConvTranspose2dLayerOptions = {},
  ) {
    const kernel = expectSizes('ConvTranspose2d', kernelSize, options, expectPair, true);
    super('ConvTranspose2d', inChannels, outChannels, kernel, true, options);
    this.kernelSize = kernel;
  }

  forward(x: Tensor): Tensor {
    return convTranspose2d(x, this.weight, this.bias, callOf(this.options));
  }
}

/**
 * {@link convTranspose1d} as a layer: [N, C, L] to [N, O, L']. The weight is [C, O / groups, kernel];
 * weight and bias start uniform in ±1/√(O / groups · kernel), as PyTorch's.
 */
export class ConvTranspose1d extends Convolution {
  readonly kernelSize: number;

  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: number,
    readonly options: ConvTranspose1dLayerOptions = {},
  ) {
    const kernel = expectSizes('ConvTranspose1d', kernelSize, options, expectSingle, true);
    super('ConvTranspose1d', inChannels, outChannels, [kernel], true, options);
    this.kernelSize = kernel;
  }

  forward(x: Tensor): Tensor {
    return convTranspose1d(x, this.weight, this.bias, callOf(this.options));
  }
}
