/**
 * Losses of one element against its target, and of chosen classes, each one kernel forward and one
 * backward; formulas are in core/families/loss.h. lib/nn/loss makes the losses of them that users
 * call.
 */
import { forPrecision } from '../autocast.js';
import { type Rule, record } from '../autograd.js';
import { expectTensor } from '../check.js';
import type { DType } from '../dtype.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { type OpRows, ruleOf } from './define.js';
import type { Reduction } from './softmax.js';

declare module '../native.js' {
  interface NativeOps {
    pointwiseLoss(
      kind: number,
      x: Handle,
      target: Handle,
      factor: Handle | undefined,
      parameter: number,
    ): void;
    nllLoss(
      x: Handle,
      target: Handle,
      weight: Handle | undefined,
      ignoreIndex: number,
      reduction: number,
    ): void;
  }
  interface NativeKernels {
    pointwiseLossBackward(
      kind: number,
      x: Handle,
      target: Handle,
      factor: Handle | undefined,
      parameter: number,
      dloss: Handle,
      ofTarget: boolean,
    ): void;
    nllLossBackward(
      shape: Numbers,
      target: Handle,
      weight: Handle | undefined,
      ignoreIndex: number,
      reduction: number,
      total: Handle | undefined,
      dloss: Handle,
    ): void;
  }
}

/** Codes of core/families/loss.h. */
const kinds = { mse: 0, l1: 1, smoothL1: 2, huber: 3, bce: 4, bceLogits: 5 } as const;
export type LossKind = keyof typeof kinds;

/** @internal */
export interface LossAttributes {
  kind: LossKind;
  parameter: number;
}

const rule: Rule<LossAttributes> = (dout, saved, { kind, parameter }, needs) => {
  const [x, target, factor] = saved as [Tensor, Tensor, Tensor?];
  const slope = (ofTarget: boolean): Tensor => {
    const { h } = dout;
    native.pointwiseLossBackward(kinds[kind], x.h, target.h, factor?.h, parameter, h, ofTarget);
    return take(0, dout.device);
  };
  return [needs[0] ? slope(false) : null, needs[1] ? slope(true) : null];
};

/** @internal */
export interface NLLAttributes {
  ignoreIndex: number;
  reduction: Reduction;
  /** Of the log-probabilities. */
  shape: Shape;
  dtype: DType;
}

/** @internal The axis of classes in [N, C, …], or in [C]. */
export const classAxis = ({ length }: Shape): number => Math.min(1, length - 1);

const reductionCodes = { mean: 0, sum: 1, none: 2 } as const satisfies Record<Reduction, number>;

/** @internal What a call saved: the classes, the weights and, for a mean, what these add up to. */
export interface NLLSaved {
  target: Tensor;
  weight: Tensor | undefined;
  total: Tensor | undefined;
}

/** @internal */
export function savedOfNLL(saved: readonly Tensor[], { reduction }: NLLAttributes): NLLSaved {
  const [target, ...rest] = saved as [Tensor, ...Tensor[]];
  const total = reduction === 'mean' ? rest.pop() : undefined;
  return { target, weight: rest[0], total };
}

const nllRule: Rule<NLLAttributes> = (dout, saved, attributes) => {
  const { target, weight, total } = savedOfNLL(saved, attributes);
  const { shape, ignoreIndex, reduction } = attributes;
  const code = reductionCodes[reduction];
  native.nllLossBackward(shape, target.h, weight?.h, ignoreIndex, code, total?.h, dout.h);
  return [take(0, dout.device)];
};

export const lossOps: OpRows<'pointwiseLoss' | 'nllLoss'> = {
  pointwiseLoss: {
    family: 'loss',
    summary: 'squared, absolute, Huber and binary cross-entropy loss per element, fused',
    dtypes: 'floating',
    gradient: rule,
  },
  nllLoss: {
    family: 'loss',
    summary: '-w[target]·x[target] per row, or their sum or mean, fused',
    dtypes: 'floating',
    gradient: nllRule,
  },
};

/**
 * The loss per element. x and target have one shape and are promoted to one floating dtype; no
 * gradient flows to `factor`.
 */
export function pointwiseLoss(
  name: string,
  kind: LossKind,
  prediction: Tensor,
  wanted: Tensor,
  parameter = 0,
  factor: Tensor | null = null,
): Tensor {
  const x = forPrecision(expectTensor(name, prediction, 'prediction'));
  const target = forPrecision(expectTensor(name, wanted, 'target'));
  native.pointwiseLoss(kinds[kind], x.h, target.h, factor?.h, parameter);
  return record(
    name,
    ruleOf(lossOps.pointwiseLoss),
    take(0, x.device),
    [x, target],
    () => (factor ? [x, target, factor] : [x, target]),
    { kind, parameter },
  );
}

/**
 * -w[target]·x[target] of log-probabilities x [N, C, …] and classes [N, …], int64, or of [C] and []:
 * each, their sum, or that by the sum of the weights. The weights w [C] have x's dtype and get no
 * gradient; x is not kept for the gradient.
 */
export function nll(
  x: Tensor,
  target: Tensor,
  weight: Tensor | undefined,
  ignoreIndex: number,
  reduction: Reduction,
): Tensor {
  native.nllLoss(x.h, target.h, weight?.h, ignoreIndex, reductionCodes[reduction]);
  const loss = take(0, x.device);
  const total = reduction === 'mean' ? [take(1, x.device)] : [];
  return record(
    'nllLoss',
    ruleOf(lossOps.nllLoss),
    loss,
    [x],
    () => [target, ...(weight ? [weight] : []), ...total],
    { ignoreIndex, reduction, shape: x.shape, dtype: x.dtype },
  );
}
