/** Normalisation layers. */
import {
  expectBoolean,
  expectInteger,
  expectOptions,
  expectRange,
  expectShape,
  expectTensor,
} from '../check.js';
import type { DType } from '../dtype.js';
import { ones, type TensorOptions, zeros } from '../ops/fill.js';
import { batchNorm, groupNorm, instanceNorm, layerNorm, rmsNorm } from '../ops/norm.js';
import type { Shape, Tensor } from '../tensor.js';
import { buffer, Module, parameter } from './module.js';

export interface NormOptions extends Pick<TensorOptions, 'dtype' | 'device'> {
  /** Added to the variance under the root; 1e-5 where left out. */
  eps?: number;
  /** Whether there is a weight (of ones at first). */
  affine?: boolean;
  /** Whether there is a bias (of zeros at first) beside the weight; true where left out. */
  bias?: boolean;
}

const normNames = ['eps', 'affine', 'bias', 'dtype', 'device'] as const;

/** A weight of ones and a bias of zeros, or null where there is none. */
function parametersOf(name: string, shape: Shape, options: NormOptions, affineByDefault: boolean) {
  const { eps = 1e-5, affine = affineByDefault, bias = true, ...place } = options;
  expectRange(name, 'eps', eps, 0);
  expectBoolean(name, 'affine', affine);
  expectBoolean(name, 'bias', bias);
  return {
    eps,
    place,
    weight: affine ? parameter(ones(shape, place)) : null,
    bias: affine && bias ? parameter(zeros(shape, place)) : null,
  };
}

function trailingShape(name: string, shape: number | Shape): Shape {
  const sizes = typeof shape === 'number' ? [shape] : [...expectShape(name, shape)];
  for (const size of sizes) expectInteger(name, 'each size', size, 1);
  if (sizes.length === 0) throw new RangeError(`${name}: needs at least one size, got []`);
  return sizes;
}

/**
 * Layer norm over the trailing axes: [..., ...shape] to the same; see `layerNorm`.
 * @example const norm = new nn.LayerNorm(512);
 */
export class LayerNorm extends Module {
  readonly shape: Shape;
  readonly eps: number;
  /** Of the given shape, or null. */
  weight: Tensor | null;
  /** Likewise. */
  bias: Tensor | null;

  /** @param shape the sizes of the trailing axes, or the last one */
  constructor(shape: number | Shape, options: NormOptions = {}) {
    super();
    this.shape = trailingShape('LayerNorm', shape);
    const made = parametersOf(
      'LayerNorm',
      this.shape,
      expectOptions('LayerNorm', options, normNames),
      true,
    );
    this.eps = made.eps;
    this.weight = made.weight;
    this.bias = made.bias;
  }

  forward(x: Tensor): Tensor {
    return layerNorm(x, this.shape, { weight: this.weight, bias: this.bias, eps: this.eps });
  }

  protected override describe(): string {
    return `${this.shape.join(' × ')}${this.weight ? '' : ', no weight'}`;
  }
}

/** RMS norm over the trailing axes: [..., ...shape] to the same; see `rmsNorm`. */
export class RMSNorm extends Module {
  readonly shape: Shape;
  /** Undefined: that of the input's dtype. */
  readonly eps: number | undefined;
  /** Of the given shape, or null. */
  weight: Tensor | null;

  /** @param shape the sizes of the trailing axes, or the last one */
  constructor(shape: number | Shape, options: Omit<NormOptions, 'bias'> = {}) {
    super();
    this.shape = trailingShape('RMSNorm', shape);
    const given = expectOptions('RMSNorm', options, ['dtype', 'device', 'eps', 'affine']);
    this.weight = parametersOf('RMSNorm', this.shape, { ...given, bias: false }, true).weight;
    this.eps = given.eps;
  }

  forward(x: Tensor): Tensor {
    const { weight, eps } = this;
    return rmsNorm(x, this.shape, eps === undefined ? { weight } : { weight, eps });
  }

  protected override describe(): string {
    return `${this.shape.join(' × ')}${this.weight ? '' : ', no weight'}`;
  }
}

/** Group norm of [N, C, ...]; see `groupNorm`. */
export class GroupNorm extends Module {
  readonly eps: number;
  /** [C], or null */
  weight: Tensor | null;
  /** [C], or null */
  bias: Tensor | null;

  constructor(
    readonly numGroups: number,
    readonly numChannels: number,
    options: NormOptions = {},
  ) {
    super();
    expectInteger('GroupNorm', 'numGroups', numGroups, 1);
    expectInteger('GroupNorm', 'numChannels', numChannels, 1);
    if (numChannels % numGroups !== 0) {
      throw new RangeError(
        `GroupNorm: the groups must divide the channels, got ${numGroups} groups of ` +
          `${numChannels} channels`,
      );
    }
    const given = expectOptions('GroupNorm', options, normNames);
    const made = parametersOf('GroupNorm', [numChannels], given, true);
    this.eps = made.eps;
    this.weight = made.weight;
    this.bias = made.bias;
  }

  forward(x: Tensor): Tensor {
    const { weight, bias, eps } = this;
    return groupNorm(x, this.numGroups, { weight, bias, eps });
  }

  protected override describe(): string {
    return `${this.numGroups} groups of ${this.numChannels}`;
  }
}

/** Instance norm of [N, C, H, W], without weight and bias unless asked for; see `instanceNorm`. */
export class InstanceNorm2d extends Module {
  readonly eps: number;
  /** [C], or null */
  weight: Tensor | null;
  /** [C], or null */
  bias: Tensor | null;

  constructor(
    readonly numFeatures: number,
    options: NormOptions = {},
  ) {
    super();
    expectInteger('InstanceNorm2d', 'numFeatures', numFeatures, 1);
    const given = expectOptions('InstanceNorm2d', options, normNames);
    const made = parametersOf('InstanceNorm2d', [numFeatures], given, false);
    this.eps = made.eps;
    this.weight = made.weight;
    this.bias = made.bias;
  }

  forward(x: Tensor): Tensor {
    expectImages('InstanceNorm2d', x, this.numFeatures, [4]);
    const { weight, bias, eps } = this;
    return instanceNorm(x, { weight, bias, eps });
  }

  protected override describe(): string {
    return `${this.numFeatures}`;
  }
}

function expectImages(name: string, x: Tensor, channels: number, ranks: readonly number[]): void {
  expectTensor(name, x, 'x');
  if (!ranks.includes(x.rank) || x.shape[1] !== channels) {
    throw new RangeError(
      `${name}: needs a tensor of rank ${ranks.join(' or ')} with ${channels} channels, ` +
        `got [${x.shape}]`,
    );
  }
}

export interface BatchNormLayerOptions extends NormOptions {
  /** How far running statistics move to the batch's, 0.1 where left out; null: to the mean of all. */
  momentum?: number | null;
  /** Whether running statistics are kept; where not, the batch's serve in evaluation too. */
  trackRunningStats?: boolean;
}

/** The dtype of statistics that are kept for layers of a dtype. */
function wideOf(dtype: DType | undefined): DType {
  return dtype === 'float64' ? dtype : 'float32';
}

/** What the batch norms share, names of parameters and buffers as PyTorch's; see `batchNorm`. */
abstract class BatchNorm extends Module {
  readonly eps: number;
  readonly momentum: number | null;
  /** [C], or null */
  weight: Tensor | null;
  /** [C], or null */
  bias: Tensor | null;
  /** [C], float32 (float64 for a float64 layer), or null */
  running_mean: Tensor | null = null;
  /** [C], likewise */
  running_var: Tensor | null = null;
  /** int64 []: batches seen in training */
  num_batches_tracked: Tensor | null = null;

  constructor(
    readonly numFeatures: number,
    options: BatchNormLayerOptions = {},
  ) {
    super();
    const { name } = this.constructor;
    expectInteger(name, 'numFeatures', numFeatures, 1);
    const {
      momentum = 0.1,
      trackRunningStats = true,
      ...given
    } = expectOptions(name, options, [
      'momentum',
      'trackRunningStats',
      'eps',
      'affine',
      'bias',
      'dtype',
      'device',
    ]);
    if (momentum !== null) expectRange(name, 'momentum', momentum, 0, 1);
    expectBoolean(name, 'trackRunningStats', trackRunningStats);
    const made = parametersOf(name, [numFeatures], given, true);
    this.eps = made.eps;
    this.momentum = momentum;
    this.weight = made.weight;
    this.bias = made.bias;
    if (trackRunningStats) {
      const { dtype, ...place } = made.place;
      const wide = { ...place, dtype: wideOf(dtype) };
      this.running_mean = buffer(zeros([numFeatures], wide));
      this.running_var = buffer(ones([numFeatures], wide));
      this.num_batches_tracked = buffer(zeros([], { ...place, dtype: 'int64' }));
    }
  }

  /** The ranks of input that the layer takes. */
  protected abstract ranks(): readonly number[];

  forward(x: Tensor): Tensor {
    expectImages(this.constructor.name, x, this.numFeatures, this.ranks());
    const { weight, bias, eps, momentum } = this;
    return batchNorm(x, {
      weight,
      bias,
      eps,
      momentum,
      runningMean: this.running_mean,
      runningVar: this.running_var,
      numBatchesTracked: this.num_batches_tracked,
      training: this.training || this.running_mean === null,
    });
  }

  protected override dtypeOf(tensor: Tensor, dtype: DType): DType {
    return tensor.gradient ? dtype : wideOf(dtype);
  }

  protected override describe(): string {
    return `${this.numFeatures}`;
  }
}

/** Batch norm of [N, C] or [N, C, L]; see `batchNorm`. */
export class BatchNorm1d extends BatchNorm {
  protected ranks(): readonly number[] {
    return [2, 3];
  }
}

/** Batch norm of [N, C, H, W]; see `batchNorm`. */
export class BatchNorm2d extends BatchNorm {
  protected ranks(): readonly number[] {
    return [4];
  }
}
