/** Losses between numbers, with PyTorch's names, defaults and formulas. */
import { forPrecision } from '../../autocast.js';
import { describe, expectBoolean, expectNames, expectOptions, expectRange } from '../../check.js';
import { add, gt, mul, sub, where } from '../../ops/binary.js';
import { pointwiseLoss } from '../../ops/loss.js';
import type { Reduction } from '../../ops/softmax.js';
import { exp, log } from '../../ops/unary.js';
import type { Tensor } from '../../tensor.js';
import { expectSameShape, Loss, type LossOptions, reduced } from './reduction.js';

const pair: [string, string] = ['prediction', 'target'];

/** Options, or the reduction alone. */
function optionsIn<O extends LossOptions>(
  name: string,
  given: O | Reduction,
  known: readonly (keyof O & string)[],
): O {
  return typeof given === 'string'
    ? ({ reduction: given } as O)
    : expectNames(name, given as O | undefined, known);
}

export interface MSEOptions extends LossOptions {
  /** Takes ½(prediction - target)², whose gradient is the difference; false where left out. */
  half?: boolean;
}

/**
 * (prediction - target)², mean over all elements.
 * @param prediction any shape, as the target
 * @param options or a reduction
 */
export function mseLoss(
  prediction: Tensor,
  target: Tensor,
  options: MSEOptions | Reduction = {},
): Tensor {
  const { reduction, half = false } = optionsIn<MSEOptions>('mseLoss', options, [
    'half',
    'reduction',
  ]);
  expectSameShape('mseLoss', prediction, target, pair);
  // Half the square is Huber's loss without an end to it.
  const losses = expectBoolean('mseLoss', 'half', half)
    ? pointwiseLoss('mseLoss', 'huber', prediction, target, Number.POSITIVE_INFINITY)
    : pointwiseLoss('mseLoss', 'mse', prediction, target);
  return reduced('mseLoss', losses, reduction);
}

/** |prediction - target|, mean over all elements. The gradient is 0 where they are equal. */
export function l1Loss(prediction: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  const { reduction } = expectOptions('l1Loss', options, ['reduction']);
  expectSameShape('l1Loss', prediction, target, pair);
  return reduced('l1Loss', pointwiseLoss('l1Loss', 'l1', prediction, target), reduction);
}

export interface SmoothL1Options extends LossOptions {
  /** Difference from which the loss is linear, 0 or more; 1 where left out. */
  beta?: number;
}

/** With d = |prediction - target|: d²/(2·beta) below beta, else d - beta/2. Girshick 2015. */
export function smoothL1Loss(
  prediction: Tensor,
  target: Tensor,
  options: SmoothL1Options = {},
): Tensor {
  const { reduction, beta = 1 } = expectOptions('smoothL1Loss', options, ['beta', 'reduction']);
  expectSameShape('smoothL1Loss', prediction, target, pair);
  expectRange('smoothL1Loss', 'beta', beta, 0);
  const losses = pointwiseLoss('smoothL1Loss', 'smoothL1', prediction, target, beta);
  return reduced('smoothL1Loss', losses, reduction);
}

export interface HuberOptions extends LossOptions {
  /** Difference from which the loss is linear, above 0; 1 where left out. */
  delta?: number;
}

/** With d = |prediction - target|: d²/2 up to delta, else delta·(d - delta/2). Huber 1964. */
export function huberLoss(prediction: Tensor, target: Tensor, options: HuberOptions = {}): Tensor {
  const { reduction, delta = 1 } = expectOptions('huberLoss', options, ['delta', 'reduction']);
  expectSameShape('huberLoss', prediction, target, pair);
  if (!(delta > 0)) {
    throw new RangeError(`huberLoss: delta must be above 0, got ${describe(delta)}`);
  }
  const losses = pointwiseLoss('huberLoss', 'huber', prediction, target, delta);
  return reduced('huberLoss', losses, reduction);
}

export interface PoissonNLLOptions extends LossOptions {
  /** Whether the prediction is the logarithm of the rate; true where left out. */
  logInput?: boolean;
  /** Adds Stirling's approximation of ln target! for targets above 1; false where left out. */
  full?: boolean;
  /** Keeps the logarithm of a rate of 0 finite; 1e-8 where left out. */
  eps?: number;
}

const poissonNames = ['logInput', 'full', 'eps', 'reduction'] as const;

/** Negative log-likelihood of counts: e^prediction - target·prediction, or of the rate itself. */
export function poissonNLLLoss(
  prediction: Tensor,
  target: Tensor,
  options: PoissonNLLOptions = {},
): Tensor {
  const name = 'poissonNLLLoss';
  const {
    reduction,
    logInput = true,
    full = false,
    eps = 1e-8,
  } = expectOptions(name, options, poissonNames);
  expectSameShape(name, prediction, target, pair);
  expectRange(name, 'eps', eps, 0);
  const x = forPrecision(prediction);
  let losses = expectBoolean(name, 'logInput', logInput)
    ? sub(exp(x), mul(target, x))
    : sub(x, mul(target, log(add(x, eps))));
  if (expectBoolean(name, 'full', full)) {
    const many = gt(target, 1);
    const t = where(many, target, 1);
    const stirling = add(sub(mul(t, log(t)), t), mul(log(mul(t, 2 * Math.PI)), 0.5));
    losses = add(losses, where(many, stirling, 0));
  }
  return reduced(name, losses, reduction);
}

/** {@link mseLoss} as a module. */
export class MSELoss extends Loss<MSEOptions> {
  constructor(options: MSEOptions = {}) {
    super(options, ['half', 'reduction']);
  }
  forward(prediction: Tensor, target: Tensor): Tensor {
    return mseLoss(prediction, target, this.options);
  }
}

/** {@link l1Loss} as a module. */
export class L1Loss extends Loss<LossOptions> {
  constructor(options: LossOptions = {}) {
    super(options, ['reduction']);
  }
  forward(prediction: Tensor, target: Tensor): Tensor {
    return l1Loss(prediction, target, this.options);
  }
}

/** {@link smoothL1Loss} as a module. */
export class SmoothL1Loss extends Loss<SmoothL1Options> {
  constructor(options: SmoothL1Options = {}) {
    super(options, ['beta', 'reduction']);
  }
  forward(prediction: Tensor, target: Tensor): Tensor {
    return smoothL1Loss(prediction, target, this.options);
  }
}

/** {@link huberLoss} as a module. */
export class HuberLoss extends Loss<HuberOptions> {
  constructor(options: HuberOptions = {}) {
    super(options, ['delta', 'reduction']);
  }
  forward(prediction: Tensor, target: Tensor): Tensor {
    return huberLoss(prediction, target, this.options);
  }
}

/** {@link poissonNLLLoss} as a module. */
export class PoissonNLLLoss extends Loss<PoissonNLLOptions> {
  constructor(options: PoissonNLLOptions = {}) {
    super(options, poissonNames);
  }
  forward(prediction: Tensor, target: Tensor): Tensor {
    return poissonNLLLoss(prediction, target, this.options);
  }
}
