/** Losses between predictions and classes, with PyTorch's names, defaults and formulas. */
import { forPrecision } from '../../autocast.js';
import {
  expectBoolean,
  expectInteger,
  expectNumber,
  expectOneOf,
  expectOptions,
  expectTensor,
} from '../../check.js';
import { add, div, gt, mul, ne, sub, where } from '../../ops/binary.js';
import { asClasses, to } from '../../ops/copy.js';
import { arange, ones } from '../../ops/fill.js';
import { gather } from '../../ops/gather.js';
import { indexSelect } from '../../ops/index.js';
import { classAxis, nll, pointwiseLoss } from '../../ops/loss.js';
import { sum } from '../../ops/reduce.js';
import {
  type CrossEntropyOptions,
  crossEntropy,
  noIndex,
  type Reduction,
} from '../../ops/softmax.js';
import { exp, log, relu, square } from '../../ops/unary.js';
import { squeeze, unsqueeze } from '../../ops/view.js';
import type { Tensor } from '../../tensor.js';
import { expectSameShape, Loss, type LossOptions, reduced, weighted } from './reduction.js';

const pair: [string, string] = ['prediction', 'target'];

/** Values x[n, target[n]] of rows [N, C]; NaN for a class out of range. */
function picked(x: Tensor, target: Tensor): Tensor {
  return squeeze(gather(x, 1, unsqueeze(target, 1)), 1);
}

/** Weight of each row's class; NaN for one out of range. */
function classWeights(x: Tensor, target: Tensor, weight: Tensor | undefined): Tensor {
  const { dtype, device } = x;
  const given = weight
    ? to(weight.detach(), dtype)
    : ones([x.shape[1] as number], { dtype, device });
  return indexSelect(given, target);
}

function expectClassWeights(name: string, weight: unknown, classes: number): void {
  if (weight === undefined) return;
  const { shape } = expectTensor(name, weight, 'weight');
  if (shape.length === 1 && shape[0] === classes) return;
  throw new RangeError(`${name}: the weight must be [${classes}], got [${shape}]`);
}

/** Classes as int64, for shapes [N, C, d1…] and [N, d1…], or [C] and [] where that is allowed. */
function expectClasses(name: string, x: Tensor, classes: Tensor, least = 2): Tensor {
  expectTensor(name, x, 'prediction');
  const target = asClasses(name, classes, 'target');
  const rows = x.shape.filter((_, axis) => axis !== classAxis(x.shape));
  if (x.rank < least || rows.join() !== target.shape.join()) {
    throw new RangeError(
      `${name}: shapes must be [N,C,…] and [N,…], got [${x.shape}] and [${target.shape}]`,
    );
  }
  return target;
}

export interface NLLOptions extends LossOptions {
  /** [C], how much each class counts; 1 where left out. */
  weight?: Tensor;
  /** Rows with this class count nothing. None are ignored where it is left out. */
  ignoreIndex?: number;
}

const nllNames = ['weight', 'ignoreIndex', 'reduction'] as const;

/**
 * Negative log-likelihood -w[target]·x[target] of log-probabilities; the mean counts each row by
 * its weight.
 * @param logProbabilities [N, C] or [N, C, d1…], as logSoftmax gives them, or [C] for one row
 * @param targets classes [N] or [N, d1…], or [] for one; a class outside [0, C) gives NaN
 */
export function nllLoss(
  logProbabilities: Tensor,
  targets: Tensor,
  options: NLLOptions = {},
): Tensor {
  const name = 'nllLoss';
  const {
    reduction = 'mean',
    weight,
    ignoreIndex = noIndex,
  } = expectOptions(name, options, nllNames);
  expectOneOf(name, 'reduction', reduction, ['mean', 'sum', 'none']);
  const target = expectClasses(name, logProbabilities, targets, 1);
  const { shape } = logProbabilities;
  expectClassWeights(name, weight, shape[classAxis(shape)] as number);
  const x = forPrecision(logProbabilities);
  const ignored = expectInteger(name, 'ignoreIndex', ignoreIndex);
  return nll(x, target, weight && to(weight.detach(), x.dtype), ignored, reduction);
}

export interface BCEOptions extends LossOptions {
  /** Factor of each element's loss; broadcasts. */
  weight?: Tensor;
}

/**
 * -t·ln p - (1 - t)·ln(1 - p), with logarithms of at least -100.
 * @param prediction probabilities; one outside [0,1] gives NaN
 * @param target numbers in [0,1], in the same shape
 */
export function binaryCrossEntropy(
  prediction: Tensor,
  target: Tensor,
  options: BCEOptions = {},
): Tensor {
  const name = 'binaryCrossEntropy';
  const { reduction, weight } = expectOptions(name, options, ['weight', 'reduction']);
  expectSameShape(name, prediction, target, pair);
  const losses = pointwiseLoss(name, 'bce', prediction, target);
  return reduced(name, weighted(name, losses, weight), reduction);
}

export interface BCEWithLogitsOptions extends BCEOptions {
  /** How much more a target of 1 counts than one of 0; broadcasts. No gradient flows to it. */
  posWeight?: Tensor;
}

const logitsNames = ['posWeight', 'weight', 'reduction'] as const;

/**
 * {@link binaryCrossEntropy} of sigmoid(logits), without its loss of precision:
 * (1 - t)·x + (1 + (posWeight - 1)·t)·ln(1 + e⁻ˣ).
 */
export function binaryCrossEntropyWithLogits(
  logits: Tensor,
  target: Tensor,
  options: BCEWithLogitsOptions = {},
): Tensor {
  const name = 'binaryCrossEntropyWithLogits';
  const { reduction, weight, posWeight } = expectOptions(name, options, logitsNames);
  expectSameShape(name, logits, target, ['logits', 'target']);
  const factor = posWeight === undefined ? null : expectTensor(name, posWeight, 'posWeight');
  const losses = pointwiseLoss(name, 'bceLogits', logits, target, 0, factor?.detach());
  return reduced(name, weighted(name, losses, weight), reduction);
}

export interface KLDivOptions {
  /** 'batchmean' is the sum over the size of the first axis: the divergence itself. */
  reduction?: Reduction | 'batchmean';
  /** Whether the target is log-probabilities, too; false where left out. */
  logTarget?: boolean;
}

/**
 * Kullback-Leibler divergence t·(ln t - x) per element.
 * @param prediction log-probabilities
 * @param target probabilities in the same shape; elements of 0 or less count nothing but -t·x
 */
export function klDivLoss(prediction: Tensor, target: Tensor, options: KLDivOptions = {}): Tensor {
  const name = 'klDivLoss';
  const { reduction = 'mean', logTarget = false } = expectOptions(name, options, [
    'reduction',
    'logTarget',
  ]);
  expectOneOf(name, 'reduction', reduction, ['mean', 'sum', 'none', 'batchmean']);
  expectSameShape(name, prediction, target, pair);
  const [x, t] = [forPrecision(prediction), forPrecision(target)];
  let losses: Tensor;
  if (expectBoolean(name, 'logTarget', logTarget)) {
    losses = mul(exp(t), sub(t, x));
  } else {
    const some = where(gt(t, 0), t, 1);
    losses = sub(mul(some, log(some)), mul(t, x));
  }
  if (reduction !== 'batchmean') return reduced(name, losses, reduction);
  return div(sum(losses), losses.shape[0] ?? 1);
}

export interface MultiMarginOptions extends LossOptions {
  /** Exponent of the violations, 1 or 2; 1 where left out. */
  p?: 1 | 2;
  /** How far the target's score shall be ahead; 1 where left out. */
  margin?: number;
  /** [C], how much each class counts as target; 1 where left out. */
  weight?: Tensor;
}

const multiMarginNames = ['p', 'margin', 'weight', 'reduction'] as const;

/**
 * Hinge loss over classes: Σ_{c ≠ t} w[t]·max(0, margin - x[t] + x[c])ᵖ / C per row.
 * @param prediction scores [N, C]
 * @param targets classes [N]
 */
export function multiMarginLoss(
  prediction: Tensor,
  targets: Tensor,
  options: MultiMarginOptions = {},
): Tensor {
  const name = 'multiMarginLoss';
  const { reduction, p = 1, margin = 1, weight } = expectOptions(name, options, multiMarginNames);
  const target = expectClasses(name, prediction, targets);
  const classes = prediction.shape[1] as number;
  expectClassWeights(name, weight, classes);
  if (prediction.rank !== 2 || classes === 0) {
    throw new RangeError(`${name}: scores must be [N,C], got [${prediction.shape}]`);
  }
  const power = expectInteger(name, 'p', p, 1, 2);
  const room = expectNumber(name, 'margin', margin);
  const x = forPrecision(prediction);
  const own = unsqueeze(picked(x, target), 1);
  const short = relu(add(sub(x, own), room));
  const violations = power === 2 ? square(short) : short;
  const column = arange(0, classes, 1, { device: prediction.device, dtype: 'int64' });
  const others = where(ne(column, unsqueeze(target, 1)), violations, 0);
  const losses = mul(div(sum(others, 1), classes), classWeights(x, target, weight));
  return reduced(name, losses, reduction);
}

/** {@link crossEntropy} as a module. */
export class CrossEntropyLoss extends Loss<CrossEntropyOptions> {
  constructor(options: CrossEntropyOptions = {}) {
    super(options, ['ignoreIndex', 'weight', 'labelSmoothing', 'reduction']);
  }
  forward(logits: Tensor, target: Tensor): Tensor {
    return crossEntropy(logits, target, this.options);
  }
}

/** {@link nllLoss} as a module. */
export class NLLLoss extends Loss<NLLOptions> {
  constructor(options: NLLOptions = {}) {
    super(options, nllNames);
  }
  forward(logProbabilities: Tensor, target: Tensor): Tensor {
    return nllLoss(logProbabilities, target, this.options);
  }
}

/** {@link binaryCrossEntropy} as a module. */
export class BCELoss extends Loss<BCEOptions> {
  constructor(options: BCEOptions = {}) {
    super(options, ['weight', 'reduction']);
  }
  forward(prediction: Tensor, target: Tensor): Tensor {
    return binaryCrossEntropy(prediction, target, this.options);
  }
}

/** {@link binaryCrossEntropyWithLogits} as a module. */
export class BCEWithLogitsLoss extends Loss<BCEWithLogitsOptions> {
  constructor(options: BCEWithLogitsOptions = {}) {
    super(options, logitsNames);
  }
  forward(logits: Tensor, target: Tensor): Tensor {
    return binaryCrossEntropyWithLogits(logits, target, this.options);
  }
}

/** {@link klDivLoss} as a module. */
export class KLDivLoss extends Loss<KLDivOptions> {
  constructor(options: KLDivOptions = {}) {
    super(options, ['logTarget', 'reduction'], ['mean', 'sum', 'none', 'batchmean']);
  }
  forward(prediction: Tensor, target: Tensor): Tensor {
    return klDivLoss(prediction, target, this.options);
  }
}

/** {@link multiMarginLoss} as a module. */
export class MultiMarginLoss extends Loss<MultiMarginOptions> {
  constructor(options: MultiMarginOptions = {}) {
    super(options, multiMarginNames);
  }
  forward(prediction: Tensor, target: Tensor): Tensor {
    return multiMarginLoss(prediction, target, this.options);
  }
}
