/**
 * Receiver operating characteristics: the rate of true positives over that of false ones as the
 * threshold falls. `AUC` counts by thresholds on the device, as Keras does; `rocCurve` and `rocAuc` are
 * exact, on the host, from all scores (ties count half).
 */
import { expectInteger, expectOptions, expectTensor } from '../check.js';
import { add, clampMax, clampMin, gt, logicalAnd, mul, where } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { ones, zeros } from '../ops/fill.js';
import { scatterAdd } from '../ops/gather.js';
import { ceil } from '../ops/unary.js';
import { reshape } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import { aligned, areWithin, judged, Metric, wide } from './metric.js';

/** The area under a curve of points from left to right, by trapezoids. */
function area(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let total = 0;
  for (let i = 1; i < x.length; ++i) {
    const width = (x[i] as number) - (x[i - 1] as number);
    total += (width * ((y[i] as number) + (y[i - 1] as number))) / 2;
  }
  return total;
}

/**
 * Area under the curve of probabilities at evenly spaced thresholds over [0,1]: exact to about one part
 * in their number. Formula and default (200) are those of Keras's `AUC`; for exact values use `rocAuc`.
 */
export class AUC extends Metric {
  readonly mode = 'max';
  private readonly thresholds: number;
  constructor(options: { thresholds?: number; name?: string } = {}) {
    const { thresholds = 200, name = 'auc' } = expectOptions('AUC', options, [
      'thresholds',
      'name',
    ]);
    super(name);
    this.thresholds = expectInteger('AUC', 'thresholds', thresholds, 3, 2 ** 20);
  }

  measure(prediction: Tensor, target: Tensor): Tensor {
    const n = this.thresholds;
    const [p, t] = aligned(this.name, prediction, target);
    // How many of the thresholds -ε, 1/(n-1), 2/(n-1), …, 1+ε a probability is above.
    const above = clampMax(clampMin(ceil(mul(wide(p), n - 1)), 1), n - 1);
    const label = to(gt(t, 0.5), 'int64');
    const valid = logicalAnd(areWithin(p, 0, 1), areWithin(t, 0, 1));
    // What cannot be judged is counted behind the thresholds.
    const place = where(valid, reshape(add(to(above, 'int64'), mul(label, n)), [-1]), 2 * n);
    const { device } = prediction;
    return scatterAdd(zeros([2 * n + 1], { device }), 0, place, ones([place.size], { device }));
  }

  protected result(sums: Float64Array | null): number {
    if (!sums) return Number.NaN;
    const counts = judged(this.name, 'probabilities and labels must be in [0,1]', sums);
    const n = this.thresholds;
    const rates = (part: Float64Array): number[] => {
      const total = part.reduce((a, b) => a + b, 0);
      const found: number[] = [0];
      let sum = 0;
      for (let i = n - 1; i > 0; --i) {
        sum += part[i] as number;
        found.push(sum / total);
      }
      return found;
    };
    return area(rates(counts.subarray(0, n)), rates(counts.subarray(n)));
  }
}

/** Points of a curve, by falling threshold; the first is (0, 0). */
export interface RocCurve {
  falsePositiveRate: number[];
  truePositiveRate: number[];
  /** A score at or above it counts as 1; the first is infinite. */
  thresholds: number[];
}

/**
 * The exact curve, with a point per distinct score. Waits for the device.
 * @param scores of any range, [N] or [N,1]
 * @param labels 0 and 1, as many
 */
export function rocCurve(scores: Tensor, labels: Tensor): RocCurve {
  expectTensor('rocCurve', scores, 'scores');
  expectTensor('rocCurve', labels, 'labels');
  const [x, t] = aligned('rocCurve', scores, labels);
  const values = Float64Array.from(x.detach().data() as Float32Array, Number);
  const truth = Array.from(t.data() as Float32Array, Number);
  const bad = truth.findIndex((label, i) => !(label >= 0 && label <= 1) || Number.isNaN(values[i]));
  if (bad >= 0) {
    throw new RangeError(
      `rocCurve: scores must be numbers and labels in [0,1], got ${values[bad]} and ${truth[bad]} in row ${bad}`,
    );
  }
  const positive = truth.map((label) => label > 0.5);
  const order = Uint32Array.from(values.keys()).sort(
    (a, b) => (values[b] as number) - (values[a] as number),
  );
  const [hits, misses, thresholds] = [[0], [0], [Number.POSITIVE_INFINITY]];
  let [tp, fp] = [0, 0];
  for (const [at, i] of order.entries()) {
    if (positive[i]) ++tp;
    else ++fp;
    const next = order[at + 1];
    if (next !== undefined && values[next] === values[i]) continue;
    hits.push(tp);
    misses.push(fp);
    thresholds.push(values[i] as number);
  }
  return {
    falsePositiveRate: misses.map((count) => count / fp),
    truePositiveRate: hits.map((count) => count / tp),
    thresholds,
  };
}

/** The exact area under {@link rocCurve}; NaN where labels are all alike. */
export function rocAuc(scores: Tensor, labels: Tensor): number {
  const { falsePositiveRate, truePositiveRate } = rocCurve(scores, labels);
  return area(falsePositiveRate, truePositiveRate);
}
