/**
 * Losses of one element against its target, each one kernel forward and one backward; formulas are
 * in core/families/loss.h. lib/nn/loss makes the losses of them that users call.
 */
import { forPrecision } from '../autocast.js';
import { type Rule, record } from '../autograd.js';
import { expectTensor } from '../check.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { type OpRows, ruleOf } from './define.js';

declare module '../native.js' {
  interface NativeOps {
    pointwiseLoss(
      kind: number,
      x: Handle,
      target: Handle,
      factor: Handle | undefined,
      parameter: number,
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

export const lossOps: OpRows<'pointwiseLoss'> = {
  pointwiseLoss: {
    family: 'loss',
    summary: 'squared, absolute, Huber and binary cross-entropy loss per element, fused',
    dtypes: 'floating',
    gradient: rule,
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
