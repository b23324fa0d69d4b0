/**
 * The losses that `compile` takes: by Keras's names (in camel case), as modules and as functions. Each
 * gives the mean over a batch; with weights w per sample, Σ w·loss / N, as Keras has it.
 */
import { describe, expectBoolean, expectOptions, expectRange } from '../check.js';
import { isFloating } from '../dtype.js';
import { aligned } from '../metrics/metric.js';
import {
  binaryCrossEntropy,
  binaryCrossEntropyWithLogits,
  huberLoss,
  l1Loss,
  mseLoss,
} from '../nn/loss/index.js';
import { Module } from '../nn/module.js';
import { add, clampMax, clampMin, mul } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { gather } from '../ops/gather.js';
import { mean, sum } from '../ops/reduce.js';
import { crossEntropy, type Reduction } from '../ops/softmax.js';
import { log, neg } from '../ops/unary.js';
import { reshape } from '../ops/view.js';
import { Tensor } from '../tensor.js';

export const lossNames = [
  'binaryCrossentropy',
  'categoricalCrossentropy',
  'sparseCategoricalCrossentropy',
  'mse',
  'mae',
  'huber',
] as const;
export type LossName = (typeof lossNames)[number];

/** A loss with what it can be told. */
export interface NamedLoss {
  name: LossName;
  /** Whether the model gives scores rather than probabilities; false. For cross-entropies. */
  fromLogits?: boolean;
  /** Share of the target that is spread over the classes, in [0,1); 0. For cross-entropies. */
  labelSmoothing?: number;
  /** Where the loss goes from squared to linear; 1. For `huber`. */
  delta?: number;
}

/** From a prediction and a target to the mean loss of the batch, or the losses of its samples. */
export type LossFunction = (prediction: Tensor, target: Tensor) => Tensor;

/** What `compile` takes as a loss. */
export type LossLike = LossName | NamedLoss | LossFunction | (Module & { forward: LossFunction });

/** @internal A loss as the trainer uses it. */
export interface LossRule {
  readonly name: string;
  /** What its targets are; null where only the user knows. */
  readonly targets: 'classes' | 'shares' | 'numbers' | null;
  readonly mean: LossFunction;
  /** A loss per sample, [N, …]. */
  readonly each: LossFunction;
}

/** Losses of elements as losses of samples, weighted, and their mean. */
export function weightedLoss(
  rule: LossRule,
  prediction: Tensor,
  target: Tensor,
  weight: Tensor | null,
): Tensor {
  if (!weight) return rule.mean(prediction, target);
  const losses = rule.each(prediction, target);
  const samples = prediction.shape[0] as number;
  if (losses.size % samples !== 0 || losses.rank === 0) {
    throw new RangeError(
      `fit: weights need a loss per sample, got [${losses.shape}] from the loss ${rule.name}`,
    );
  }
  const rows =
    losses.rank > 1 || losses.size > samples ? mean(reshape(losses, [samples, -1]), 1) : losses;
  return mean(mul(rows, to(weight, rows.dtype)));
}

const least = 1e-7; // Keras's epsilon: probabilities stay this far from 0 and 1

type PairLoss = (p: Tensor, t: Tensor, options: { reduction: Reduction }) => Tensor;

function pairwise(name: string, loss: PairLoss): Pick<LossRule, 'mean' | 'each'> {
  const of =
    (reduction: Reduction): LossFunction =>
    (prediction, target) => {
      const [p, t] = aligned(name, prediction, target);
      return loss(p, to(t, p.dtype), { reduction });
    };
  return { mean: of('mean'), each: of('none') };
}

function binary(name: string, fromLogits: boolean, smoothing: number): LossRule {
  const loss = fromLogits ? binaryCrossEntropyWithLogits : binaryCrossEntropy;
  const smooth = (t: Tensor): Tensor =>
    smoothing === 0 ? t : add(mul(t, 1 - smoothing), smoothing / 2);
  const of =
    (reduction: Reduction): LossFunction =>
    (prediction, target) => {
      const [p, t] = aligned(name, prediction, target);
      return loss(p, smooth(to(t, p.dtype)), { reduction });
    };
  return { name, targets: 'shares', mean: of('mean'), each: of('none') };
}

function logOf(probabilities: Tensor): Tensor {
  return log(clampMax(clampMin(probabilities, least), 1 - least));
}

function sparse(name: string, fromLogits: boolean): LossRule {
  const of =
    (reduction: Reduction): LossFunction =>
    (prediction, target) => {
      const classes = prediction.shape[prediction.rank - 1] ?? 0;
      if (prediction.rank < 2 || target.size * classes !== prediction.size) {
        throw new RangeError(
          `${name}: needs scores [N,C] and classes [N], got [${prediction.shape}] and [${target.shape}]`,
        );
      }
      const x = prediction.rank === 2 ? prediction : reshape(prediction, [target.size, classes]);
      const index = to(target, 'int64');
      const t = target.rank === 1 ? index : reshape(index, [target.size]);
      if (fromLogits) return crossEntropy(x, t, { reduction });
      const losses = neg(reshape(logOf(gather(x, 1, reshape(t, [t.size, 1]))), [t.size]));
      return reduction === 'mean' ? mean(losses) : losses;
    };
  return { name, targets: 'classes', mean: of('mean'), each: of('none') };
}

function categorical(name: string, fromLogits: boolean, labelSmoothing: number): LossRule {
  const of =
    (reduction: Reduction): LossFunction =>
    (prediction, target) => {
      const classes = prediction.shape[prediction.rank - 1] ?? 0;
      if (prediction.rank < 2 || prediction.shape.join() !== target.shape.join()) {
        throw new RangeError(
          `${name}: needs scores and one-hot targets [N,C], got [${prediction.shape}] and [${target.shape}]`,
        );
      }
      const rows = (x: Tensor): Tensor => (x.rank === 2 ? x : reshape(x, [-1, classes]));
      const [x, t] = [rows(prediction), rows(to(target, prediction.dtype))];
      if (fromLogits) return crossEntropy(x, t, { reduction, labelSmoothing });
      const shares =
        labelSmoothing === 0 ? t : add(mul(t, 1 - labelSmoothing), labelSmoothing / classes);
      const losses = neg(sum(mul(shares, logOf(x)), -1));
      return reduction === 'mean' ? mean(losses) : losses;
    };
  return { name, targets: 'shares', mean: of('mean'), each: of('none') };
}

function byName(options: NamedLoss): LossRule {
  const { name, fromLogits = false, labelSmoothing = 0, delta = 1 } = options;
  expectBoolean('compile', 'fromLogits', fromLogits);
  expectRange('compile', 'labelSmoothing', labelSmoothing, 0, 1, true);
  switch (name) {
    case 'binaryCrossentropy':
      return binary(name, fromLogits, labelSmoothing);
    case 'sparseCategoricalCrossentropy':
      return sparse(name, fromLogits);
    case 'categoricalCrossentropy':
      return categorical(name, fromLogits, labelSmoothing);
    case 'mse':
      return { name, targets: 'numbers', ...pairwise(name, mseLoss) };
    case 'mae':
      return { name, targets: 'numbers', ...pairwise(name, l1Loss) };
    case 'huber':
      expectRange('compile', 'delta', delta, Number.MIN_VALUE);
      return {
        name,
        targets: 'numbers',
        ...pairwise(name, (p, t, more) => huberLoss(p, t, { ...more, delta })),
      };
    default:
      throw new TypeError(
        `compile: loss must be one of ${lossNames.join(', ')}, a function or a module, got ${describe(name)}`,
      );
  }
}

/** @internal A loss from what `compile` was given. */
export function lossRule(given: LossLike): LossRule {
  if (typeof given === 'string') return byName({ name: given });
  if (typeof given === 'function' || given instanceof Module) {
    const name = given instanceof Module ? given.constructor.name : given.name || 'loss';
    const run: LossFunction =
      given instanceof Module ? (p, t) => given.forward(p, t) : (given as LossFunction);
    const checked: LossFunction = (prediction, target) => {
      const losses = run(prediction, target);
      if (losses instanceof Tensor && isFloating(losses.dtype)) return losses;
      throw new TypeError(
        `compile: the loss must give a tensor of floats, got ${describe(losses)}`,
      );
    };
    return {
      ...{ name, targets: null, each: checked },
      mean: (prediction, target) => {
        const losses = checked(prediction, target);
        return losses.rank === 0 ? losses : mean(losses);
      },
    };
  }
  return byName(expectOptions('compile', given, ['name', 'fromLogits', 'labelSmoothing', 'delta']));
}
