/** Optimizers and metrics by name, with Keras's names (in camel case) and default values. */
import { describe, expectRange } from '../check.js';
import {
  Accuracy,
  AUC,
  BinaryAccuracy,
  CategoricalAccuracy,
  F1,
  MeanAbsoluteError,
  MeanSquaredError,
  Metric,
  Precision,
  R2Score,
  Recall,
  RootMeanSquaredError,
  SparseCategoricalAccuracy,
  TopKAccuracy,
} from '../metrics/index.js';
import { Adadelta, Adagrad } from '../optim/adagrad.js';
import { Adam, AdamW } from '../optim/adam.js';
import { Lion } from '../optim/lion.js';
import { RMSprop } from '../optim/rmsprop.js';
import { type AnyOptimizer, expectOptimizer } from '../optim/schedule.js';
import { SGD } from '../optim/sgd.js';
import type { Tensor } from '../tensor.js';

type Given = { lr?: number };
const eps = 1e-7;
const optimizers = {
  sgd: (p: Tensor[], o: Given) => new SGD(p, { lr: 0.01, ...o }),
  adam: (p: Tensor[], o: Given) => new Adam(p, { lr: 1e-3, eps, ...o }),
  adamw: (p: Tensor[], o: Given) => new AdamW(p, { lr: 1e-3, eps, weightDecay: 0.004, ...o }),
  rmsprop: (p: Tensor[], o: Given) => new RMSprop(p, { lr: 1e-3, alpha: 0.9, eps, ...o }),
  adagrad: (p: Tensor[], o: Given) =>
    new Adagrad(p, { lr: 1e-3, initialAccumulatorValue: 0.1, eps, ...o }),
  adadelta: (p: Tensor[], o: Given) => new Adadelta(p, { lr: 1e-3, rho: 0.95, eps, ...o }),
  lion: (p: Tensor[], o: Given) => new Lion(p, { lr: 1e-3, betas: [0.9, 0.99], ...o }),
} as const;

export type OptimizerName = keyof typeof optimizers;

/** What `compile` takes: a name, an optimizer, or a function that makes one for the parameters. */
export type OptimizerLike =
  | OptimizerName
  | AnyOptimizer
  | ((parameters: Iterable<Tensor>) => AnyOptimizer);

/** @internal Makes the optimizer once the parameters are there. */
export function optimizerMaker(
  given: OptimizerLike,
  learningRate: number | undefined,
): (parameters: Tensor[]) => AnyOptimizer {
  const rate = learningRate;
  if (rate !== undefined) expectRange('compile', 'learningRate', rate, 0);
  if (typeof given === 'string') {
    const make = Object.hasOwn(optimizers, given) ? optimizers[given] : null;
    if (make) return (parameters) => make(parameters, rate === undefined ? {} : { lr: rate });
    throw new TypeError(
      `compile: optimizer must be one of ${Object.keys(optimizers).join(', ')}, an optimizer or a function that makes one, got ${describe(given)}`,
    );
  }
  if (rate !== undefined) {
    throw new TypeError('compile: learningRate goes with an optimizer given by name');
  }
  if (typeof given === 'function') {
    return (parameters) => expectOptimizer('compile', given(parameters));
  }
  expectOptimizer('compile', given);
  return () => given;
}

const metrics = {
  accuracy: () => new Accuracy(),
  binaryAccuracy: () => new BinaryAccuracy(),
  categoricalAccuracy: () => new CategoricalAccuracy(),
  sparseCategoricalAccuracy: () => new SparseCategoricalAccuracy(),
  topKAccuracy: () => new TopKAccuracy(),
  precision: () => new Precision(),
  recall: () => new Recall(),
  f1: () => new F1(),
  auc: () => new AUC(),
  mse: () => new MeanSquaredError(),
  mae: () => new MeanAbsoluteError(),
  rmse: () => new RootMeanSquaredError(),
  r2: () => new R2Score(),
} as const;

export type MetricName = keyof typeof metrics;

/** What `compile` takes as a metric. */
export type MetricLike = MetricName | Metric<number>;

/** @internal The metrics that were asked for. */
export function metricsOf(given: readonly MetricLike[]): Metric<number>[] {
  if (!Array.isArray(given)) {
    throw new TypeError(`compile: metrics must be an array, got ${describe(given)}`);
  }
  const found = given.map((item) => {
    if (item instanceof Metric) return item;
    if (typeof item === 'string' && Object.hasOwn(metrics, item)) {
      return metrics[item as MetricName]();
    }
    throw new TypeError(
      `compile: a metric must be one of ${Object.keys(metrics).join(', ')}, or an object, got ${describe(item)}`,
    );
  });
  const names = ['loss', ...found.map(({ name }) => name)];
  if (new Set(names).size === names.length) return found as Metric<number>[];
  throw new RangeError(`compile: metrics must have names that differ, got ${describe(names)}`);
}
