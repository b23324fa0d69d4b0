/**
 * Layer, RMS, group, instance and batch norm: each one kernel forward, and one or two backward.
 * Statistics are float32 (float64 for float64) whatever the input's dtype.
 */
import { forPrecision } from '../autocast.js';
import { type Rule, record } from '../autograd.js';
import {
  expectBoolean,
  expectInteger,
  expectNames,
  expectOptions,
  expectRange,
  expectShape,
  expectTensor,
  optionalTensor,
} from '../check.js';
import { native } from '../native.js';
import { type Shape, sameShape, type Tensor, take } from '../tensor.js';
import { add } from './binary.js';
import { addMethods, type OpRow, type OpRows, ruleOf } from './define.js';
import { reshape } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    layerNorm(
      x: Handle,
      axes: number,
      weight: Handle | undefined,
      bias: Handle | undefined,
      eps: number,
    ): void;
    rmsNorm(x: Handle, axes: number, weight: Handle | undefined, eps: number): void;
    groupNorm(
      x: Handle,
      groups: number,
      weight: Handle | undefined,
      bias: Handle | undefined,
      eps: number,
    ): void;
    batchNorm(
      x: Handle,
      weight: Handle | undefined,
      bias: Handle | undefined,
      runningMean: Handle | undefined,
      runningVar: Handle | undefined,
      numBatchesTracked: Handle | undefined,
      momentum: number,
      eps: number,
      training: boolean,
    ): void;
  }
  interface NativeKernels {
    layerNormBackward(
      x: Handle,
      axes: number,
      weight: Handle | undefined,
      mean: Handle,
      rstd: Handle,
      dy: Handle,
      needsX: boolean,
      needsWeight: boolean,
      needsBias: boolean,
    ): void;
    rmsNormBackward(
      x: Handle,
      axes: number,
      weight: Handle | undefined,
      rstd: Handle,
      dy: Handle,
      needsX: boolean,
      needsWeight: boolean,
    ): void;
    groupNormBackward(
      x: Handle,
      groups: number,
      weight: Handle | undefined,
      mean: Handle,
      rstd: Handle,
      dy: Handle,
      needsX: boolean,
      needsWeight: boolean,
      needsBias: boolean,
    ): void;
    batchNormBackward(
      x: Handle,
      weight: Handle | undefined,
      mean: Handle,
      rstd: Handle,
      dy: Handle,
      training: boolean,
      needsX: boolean,
      needsWeight: boolean,
      needsBias: boolean,
    ): void;
  }
}

/** @internal */
export interface NormAttributes {
  /** Trailing axes of a row, or groups of channels. */
  readonly count: number;
  readonly weight: Shape | null;
  readonly bias: Shape | null;
  readonly training: boolean;
  readonly eps: number;
}

/** @internal What a rule finds saved: x, the mean (not for rmsNorm), rstd, and the weight where there is one. */
export function savedOf(
  saved: readonly Tensor[],
  mean: boolean,
): Record<'x' | 'mean' | 'rstd', Tensor> & {
  weight: Tensor | undefined;
} {
  const [x, first, second] = saved as [Tensor, Tensor, Tensor];
  const weight = saved[mean ? 3 : 2];
  return { x, mean: first, rstd: mean ? second : first, weight };
}

/** The gradients that the last native call left: of x, weight and bias those that are needed. */
function takeGradients(x: Tensor, needs: readonly boolean[], { weight, bias }: NormAttributes) {
  let next = 0;
  return [x.shape, weight, bias].slice(0, needs.length).map((shape, i) => {
    if (!needs[i]) return null;
    const gradient = take(next++, x.device);
    return i === 0 ? gradient : reshape(gradient, shape as Shape);
  });
}

const layerNormRule: Rule<NormAttributes> = (dout, saved, attributes, needs) => {
  const { x, mean, rstd, weight } = savedOf(saved, true);
  const [dx = false, dweight = false, dbias = false] = needs;
  native.layerNormBackward(
    x.h,
    attributes.count,
    weight?.h,
    mean.h,
    rstd.h,
    dout.h,
    dx,
    dweight,
    dbias,
  );
  return takeGradients(x, needs, attributes);
};

const groupNormRule: Rule<NormAttributes> = (dout, saved, attributes, needs) => {
  const { x, mean, rstd, weight } = savedOf(saved, true);
  const [dx = false, dweight = false, dbias = false] = needs;
  native.groupNormBackward(
    x.h,
    attributes.count,
    weight?.h,
    mean.h,
    rstd.h,
    dout.h,
    dx,
    dweight,
    dbias,
  );
  return takeGradients(x, needs, attributes);
};

const rmsNormRule: Rule<NormAttributes> = (dout, saved, attributes, needs) => {
  const { x, rstd, weight } = savedOf(saved, false);
  const [dx = false, dweight = false] = needs;
  native.rmsNormBackward(x.h, attributes.count, weight?.h, rstd.h, dout.h, dx, dweight);
  return takeGradients(x, needs, attributes);
};

const batchNormRule: Rule<NormAttributes> = (dout, saved, attributes, needs) => {
  const { x, mean, rstd, weight } = savedOf(saved, true);
  const [dx = false, dweight = false, dbias = false] = needs;
  native.batchNormBackward(
    x.h,
    weight?.h,
    mean.h,
    rstd.h,
    dout.h,
    attributes.training,
    dx,
    dweight,
    dbias,
  );
  return takeGradients(x, needs, attributes);
};

function row(summary: string, gradient: Rule<NormAttributes>): OpRow {
  return { family: 'norm', summary, dtypes: 'floating', gradient };
}

export const normOps: OpRows<'layerNorm' | 'rmsNorm' | 'groupNorm' | 'batchNorm'> = {
  layerNorm: row('(x - mean) / √(variance + eps) over the trailing axes, scaled', layerNormRule),
  rmsNorm: row('x / √(mean of squares + eps) over the trailing axes, scaled', rmsNormRule),
  groupNorm: row('the same as layerNorm over groups of channels', groupNormRule),
  batchNorm: row('(x - mean) / √(variance + eps) per channel, scaled', batchNormRule),
};

/** What scales and shifts a normalised tensor: nothing, a weight, a bias, or both. */
export interface AffineOptions {
  /** One factor per element of a row, or per channel; 1 where left out. */
  weight?: Tensor | null;
  /** One summand likewise; 0 where left out. */
  bias?: Tensor | null;
  /** Added to the variance under the root; 1e-5 where left out. */
  eps?: number;
}

const affineNames = ['weight', 'bias', 'eps'] as const;

function affine<O extends AffineOptions>(
  op: string,
  options: O,
  known: readonly (keyof O & string)[] = affineNames,
): Required<AffineOptions> {
  const { eps = 1e-5, ...given } = expectNames(op, options, known);
  const weight = optionalTensor(op, given.weight, 'weight');
  const bias = optionalTensor(op, given.bias, 'bias');
  return { weight, bias, eps: expectRange(op, 'eps', eps, 0) };
}

function precise({ weight, bias, eps }: Required<AffineOptions>): Required<AffineOptions> {
  return { weight: weight && forPrecision(weight), bias: bias && forPrecision(bias), eps };
}

function expectTrailing(op: string, x: Tensor, shape: number | Shape, weight: Tensor | null) {
  const trailing = typeof shape === 'number' ? [shape] : expectShape(op, shape);
  const found = x.shape.slice(x.rank - trailing.length);
  if (trailing.length === 0 || !sameShape(trailing, found)) {
    throw new RangeError(
      `${op}: the shape must be that of the trailing axes, got [${trailing}] for [${x.shape}]`,
    );
  }
  if (weight && !sameShape(weight.shape, trailing)) {
    throw new RangeError(`${op}: the weight must be [${trailing}], got [${weight.shape}]`);
  }
  return trailing.length;
}

function recorded(
  op: 'layerNorm' | 'groupNorm' | 'batchNorm',
  x: Tensor,
  { weight, bias, eps }: Required<AffineOptions>,
  count: number,
  training: boolean,
): Tensor {
  const out = take(0, x.device);
  const mean = take(1, x.device);
  const rstd = take(2, x.device);
  const inputs = [x, ...(weight ? [weight] : []), ...(bias ? [bias] : [])];
  return record(
    op,
    ruleOf(normOps[op]),
    out,
    inputs,
    () => (weight ? [x, mean, rstd, weight] : [x, mean, rstd]),
    { count, weight: weight?.shape ?? null, bias: bias?.shape ?? null, training, eps },
  );
}

/** Splits off a bias without a weight, which the kernels do not know: it is added afterwards. */
function withBias(
  op: string,
  x: Tensor,
  given: Required<AffineOptions>,
  shape: Shape,
  norm: (given: Required<AffineOptions>) => Tensor,
): Tensor {
  const { weight, bias } = given;
  if (bias === null || weight !== null) return norm(given);
  if (!sameShape(bias.shape, shape)) {
    throw new RangeError(`${op}: the bias must be [${shape}], got [${bias.shape}]`);
  }
  if (bias.dtype !== x.dtype) {
    throw new TypeError(`${op}: dtypes must match, got ${x.dtype} and ${bias.dtype}`);
  }
  const out = norm({ ...given, bias: null });
  const channels = [...shape, ...new Array<number>(Math.max(x.rank - 2, 0)).fill(1)];
  return add(out, op === 'layerNorm' ? bias : reshape(bias, channels));
}

/**
 * (x - mean) / √(variance + eps) · weight + bias, mean and variance being those of each row over the
 * trailing axes (Ba, Kiros and Hinton, "Layer normalization", 2016).
 * @param input [..., ...shape]
 * @param shape the sizes of the trailing axes that form a row; weight and bias have this shape
 */
export function layerNorm(
  input: Tensor,
  shape: number | Shape,
  options: AffineOptions = {},
): Tensor {
  const x = forPrecision(expectTensor('layerNorm', input, 'x'));
  const given = precise(affine('layerNorm', options));
  const axes = expectTrailing('layerNorm', x, shape, given.weight);
  return withBias('layerNorm', x, given, x.shape.slice(x.rank - axes), (own) => {
    native.layerNorm(x.h, axes, own.weight?.h, own.bias?.h, own.eps);
    return recorded('layerNorm', x, own, axes, true);
  });
}

/**
 * x / √(mean(x²) + eps) · weight over the trailing axes (Zhang and Sennrich, "Root mean square layer
 * normalization", 2019). `eps` is the dtype's smallest step from 1 where left out, as in PyTorch.
 * @param x [..., ...shape]
 */
export function rmsNorm(
  x: Tensor,
  shape: number | Shape,
  options: { weight?: Tensor | null; eps?: number } = {},
): Tensor {
  expectTensor('rmsNorm', x, 'x');
  const { eps = epsilon[x.dtype] ?? 0, ...given } = expectOptions('rmsNorm', options, [
    'weight',
    'eps',
  ]);
  const weight = optionalTensor('rmsNorm', given.weight, 'weight');
  const axes = expectTrailing('rmsNorm', x, shape, weight);
  native.rmsNorm(x.h, axes, weight?.h, expectRange('rmsNorm', 'eps', eps, 0));
  const out = take(0, x.device);
  const rstd = take(1, x.device);
  return record(
    'rmsNorm',
    ruleOf(normOps.rmsNorm),
    out,
    weight ? [x, weight] : [x],
    () => (weight ? [x, rstd, weight] : [x, rstd]),
    { count: axes, weight: weight?.shape ?? null, bias: null, training: true, eps },
  );
}

const epsilon: Partial<Record<Tensor['dtype'], number>> = {
  float64: 2 ** -52,
  float32: 2 ** -23,
  float16: 2 ** -10,
  bfloat16: 2 ** -7,
};

/**
 * Layer norm of each sample over groups of channels: `groups` groups of C / groups channels with all
 * their positions (Wu and He, "Group normalization", 2018). Weight and bias are [C].
 * @param x [N, C, ...]
 */
export function groupNorm(x: Tensor, groups: number, options: AffineOptions = {}): Tensor {
  expectTensor('groupNorm', x, 'x');
  const given = affine('groupNorm', options);
  expectInteger('groupNorm', 'groups', groups, 1);
  return groupsNormalised(forPrecision(x), groups, precise(given));
}

function groupsNormalised(x: Tensor, groups: number, given: Required<AffineOptions>): Tensor {
  return withBias('groupNorm', x, given, x.shape.slice(1, 2), (own) => {
    native.groupNorm(x.h, groups, own.weight?.h, own.bias?.h, own.eps);
    return recorded('groupNorm', x, own, groups, true);
  });
}

/**
 * Layer norm of each channel of each sample over its positions (Ulyanov, Vedaldi and Lempitsky,
 * "Instance normalization", 2016): group norm with a group per channel. Weight and bias are [C].
 * @param x [N, C, ...]
 */
export function instanceNorm(x: Tensor, options: AffineOptions = {}): Tensor {
  expectTensor('instanceNorm', x, 'x');
  if (x.rank < 3) {
    throw new RangeError(`instanceNorm: needs [N,C,...] with positions, got [${x.shape}]`);
  }
  const given = affine('instanceNorm', options);
  return groupsNormalised(x, Math.max(x.shape[1] as number, 1), given);
}

export interface BatchNormOptions extends AffineOptions {
  /** [C], float32 or float64 for float64 x; normalises where not training, updated where training. */
  runningMean?: Tensor | null;
  /** [C], likewise. */
  runningVar?: Tensor | null;
  /** int64 []: counts the batches of training. */
  numBatchesTracked?: Tensor | null;
  /** Whether the batch's own statistics normalise; false where left out. */
  training?: boolean;
  /** How far running statistics move to the batch's; null: to the mean of all batches. */
  momentum?: number | null;
}

const batchNormNames: readonly (keyof BatchNormOptions)[] = [
  ...affineNames,
  'runningMean',
  'runningVar',
  'numBatchesTracked',
  'training',
  'momentum',
];

/**
 * (x - mean) / √(variance + eps) · weight + bias per channel (Ioffe and Szegedy, "Batch
 * normalization", 2015). In training mean and variance are the batch's, and running statistics
 * move: running += momentum·(batch - running), with the variance over M - 1 as in PyTorch, momentum
 * 0.1 where left out. Elsewhere the running ones normalise.
 * @param x [N, C, ...]; more than one value per channel in training
 */
export function batchNorm(x: Tensor, options: BatchNormOptions = {}): Tensor {
  expectTensor('batchNorm', x, 'x');
  const given = affine('batchNorm', options, batchNormNames);
  const { training = false, momentum = 0.1 } = options;
  expectBoolean('batchNorm', 'training', training);
  if (momentum !== null) expectRange('batchNorm', 'momentum', momentum, 0, 1);
  const runningMean = optionalTensor('batchNorm', options.runningMean, 'runningMean');
  const runningVar = optionalTensor('batchNorm', options.runningVar, 'runningVar');
  const tracked = optionalTensor('batchNorm', options.numBatchesTracked, 'numBatchesTracked');
  return withBias('batchNorm', x, given, x.shape.slice(1, 2), (own) => {
    native.batchNorm(
      x.h,
      own.weight?.h,
      own.bias?.h,
      runningMean?.h,
      runningVar?.h,
      tracked?.h,
      momentum ?? -1,
      own.eps,
      training,
    );
    if (training) {
      for (const changed of [runningMean, runningVar, tracked]) if (changed) ++changed.version;
    }
    return recorded('batchNorm', x, own, 1, training);
  });
}

declare module '../tensor.js' {
  interface Tensor {
    /**
     * (x − mean)/√(variance + eps)·weight + bias over the trailing axes of `shape`. See {@link
     * layerNorm}.
     */
    layerNorm(shape: number | Shape, options?: AffineOptions): Tensor;
    /** x/√(mean of x² + eps)·weight over the trailing axes of `shape`. See {@link rmsNorm}. */
    rmsNorm(shape: number | Shape, options?: { weight?: Tensor | null; eps?: number }): Tensor;
  }
}

addMethods({
  layerNorm(shape: number | Shape, options?: AffineOptions) {
    return layerNorm(this, shape, options);
  },
  rmsNorm(shape: number | Shape, options?: { weight?: Tensor | null; eps?: number }) {
    return rmsNorm(this, shape, options);
  },
});
