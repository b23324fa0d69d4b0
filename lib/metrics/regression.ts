/** Metrics of regression, over all elements. */
import { expectOptions } from '../check.js';
import { sub } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { sum } from '../ops/reduce.js';
import { abs, square } from '../ops/unary.js';
import type { Tensor } from '../tensor.js';
import { MeanMetric } from './accuracy.js';
import { aligned, Metric, rowOf } from './metric.js';

interface Named {
  /** What logs call it. */
  name?: string;
}

/** What is missing from each prediction, in float64: sums of squares lose no digits. */
function errors(name: string, prediction: Tensor, target: Tensor): [Tensor, Tensor] {
  const [p, t] = aligned(name, prediction, target);
  const truth = to(t, 'float64');
  return [sub(to(p, 'float64'), truth), truth];
}

/** The mean of (p - t)². */
export class MeanSquaredError extends MeanMetric {
  constructor(options: Named = {}) {
    super(expectOptions('MeanSquaredError', options, ['name']).name ?? 'mse');
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    const [error] = errors(this.name, prediction, target);
    return rowOf(error, sum(square(error)), error.size);
  }
}

/** The root of the mean of (p - t)². */
export class RootMeanSquaredError extends MeanSquaredError {
  constructor(options: Named = {}) {
    super({ name: expectOptions('RootMeanSquaredError', options, ['name']).name ?? 'rmse' });
  }
  protected override result(sums: Float64Array | null): number {
    return Math.sqrt(super.result(sums));
  }
}

/** The mean of |p - t|. */
export class MeanAbsoluteError extends MeanMetric {
  constructor(options: Named = {}) {
    super(expectOptions('MeanAbsoluteError', options, ['name']).name ?? 'mae');
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    const [error] = errors(this.name, prediction, target);
    return rowOf(error, sum(abs(error)), error.size);
  }
}

/**
 * The share of the target's variance that is explained: 1 - Σ(p - t)² / Σ(t - mean)², over all
 * elements; 0 where the target does not vary, as scikit-learn has it (1 where it is met exactly).
 */
export class R2Score extends Metric {
  constructor(options: Named = {}) {
    super(expectOptions('R2Score', options, ['name']).name ?? 'r2');
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    const [error, truth] = errors(this.name, prediction, target);
    return rowOf(error, sum(square(error)), sum(truth), sum(square(truth)), error.size);
  }
  protected result(sums: Float64Array | null): number {
    if (!sums) return Number.NaN;
    const [missed, total, squares, count] = sums as unknown as [number, number, number, number];
    const spread = squares - (total * total) / count;
    if (spread > 0) return 1 - missed / spread;
    return missed === 0 ? 1 : 0;
  }
}
