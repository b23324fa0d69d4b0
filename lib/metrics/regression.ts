/** Metrics of regression, over all elements. */
import { expectOptions } from '../check.js';
import { add, clampMin, div, mul, sub } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { full } from '../ops/fill.js';
import { cat } from '../ops/movement.js';
import { sum } from '../ops/reduce.js';
import { abs, square } from '../ops/unary.js';
import { reshape, select } from '../ops/view.js';
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
  readonly mode = 'min';
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
  readonly mode = 'min';
  constructor(options: Named = {}) {
    super(expectOptions('MeanAbsoluteError', options, ['name']).name ?? 'mae');
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    const [error] = errors(this.name, prediction, target);
    return rowOf(error, sum(abs(error)), error.size);
  }
}

/**
 * The share of the target's variance that is explained: 1 - Σ(p - t)² / Σ(t - mean)², of each output
 * (along the last axis) by itself, and their mean; 0 where a target does not vary (1 where it is met
 * exactly), as scikit-learn has it. Variances of batches are merged by the formula of Chan, Golub and
 * LeVeque 1979, which loses no digits to a large mean.
 */
export class R2Score extends Metric {
  readonly mode = 'max';
  constructor(options: Named = {}) {
    super(expectOptions('R2Score', options, ['name']).name ?? 'r2');
  }
  // Rows of [4, outputs]: Σ(p - t)², the count, the mean, Σ(t - mean)².
  measure(prediction: Tensor, target: Tensor): Tensor {
    const [error, truth] = errors(this.name, prediction, target);
    const outputs = truth.rank > 1 ? (truth.shape[truth.rank - 1] as number) : 1;
    const rows = outputs === 0 ? 0 : truth.size / outputs;
    const [e, t] = [reshape(error, [rows, outputs]), reshape(truth, [rows, outputs])];
    const count = full([outputs], rows, { dtype: 'float64', device: truth.device });
    const middle = div(sum(t, 0), clampMin(count, 1));
    return cat([sum(square(e), 0), count, middle, sum(square(sub(t, middle)), 0)]);
  }
  protected override combine(sums: Tensor, added: Tensor): Tensor {
    const part = (of: Tensor, row: number): Tensor => select(reshape(of, [4, of.size / 4]), 0, row);
    const [[na, nb], [ma, mb]] = [
      [part(sums, 1), part(added, 1)],
      [part(sums, 2), part(added, 2)],
    ];
    const [n, apart] = [add(na, nb), sub(mb, ma)];
    const share = div(nb, clampMin(n, 1));
    return cat([
      add(part(sums, 0), part(added, 0)),
      n,
      add(ma, mul(apart, share)),
      add(add(part(sums, 3), part(added, 3)), mul(mul(square(apart), na), share)),
    ]);
  }
  protected result(sums: Float64Array | null): number {
    if (!sums || sums.length === 0) return Number.NaN;
    const outputs = sums.length / 4;
    let total = 0;
    for (let i = 0; i < outputs; ++i) {
      const [missed, spread] = [sums[i] as number, sums[3 * outputs + i] as number];
      if (sums[outputs + i] === 0 || Number.isNaN(missed + spread)) return Number.NaN;
      if (spread > 0) total += 1 - missed / spread;
      else total += missed === 0 ? 1 : 0;
    }
    return total / outputs;
  }
}
