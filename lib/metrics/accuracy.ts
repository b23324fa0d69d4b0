/** Accuracies: the share of predictions that are right. Classes lie along the last axis. */
import { describe, expectInteger, expectNumber, expectOptions } from '../check.js';
import { eq, gt, logicalAnd, lt } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { gather } from '../ops/gather.js';
import { argmax, sum } from '../ops/reduce.js';
import { reshape } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import {
  above,
  aligned,
  areClasses,
  areNumbers,
  areShares,
  areWithin,
  classesOf,
  judged,
  Metric,
  rowOf,
  shareRule,
} from './metric.js';

/** A sum over a count. */
export abstract class MeanMetric extends Metric {
  protected result(sums: Float64Array | null): number {
    return sums ? (sums[0] as number) / (sums[1] as number) : Number.NaN;
  }
}

/** A share of rows, whose last sum counts those with a NaN score or a label that is none. */
abstract class Share extends MeanMetric {
  readonly mode = 'max';
  /** @internal What those that cannot be judged break. */
  rule = 'scores must be numbers and labels in the range of the classes';

  protected override result(sums: Float64Array | null): number {
    return super.result(sums && judged(this.name, this.rule, sums));
  }
}

/** The rule where targets are rows. */
const ofShares = `scores must be numbers and ${shareRule('BinaryAccuracy')}`;

/** How many of the rows are right, of how many, and how many cannot be judged. */
function counts(right: Tensor, valid: Tensor): Tensor {
  return rowOf(right, sum(right), right.size, sum(eq(valid, 0)));
}

/** Scores [N, C] and classes [N], with any axes before. */
function rowsAndClasses(name: string, scores: Tensor, target: Tensor): [Tensor, Tensor] {
  const classes = scores.shape[scores.rank - 1] ?? 0;
  if (scores.rank < 2 || classes === 0 || target.size * classes !== scores.size) {
    throw new RangeError(
      `${name}: needs scores [N,C] and classes [N], got [${scores.shape}] and [${target.shape}]`,
    );
  }
  return [reshape(scores, [target.size, classes]), reshape(target, [-1])];
}

/** The share of probabilities on the side of the threshold that their target of 0 or 1 asks for. */
export class BinaryAccuracy extends Share {
  override rule = 'scores must be numbers and labels in [0,1]';
  private readonly threshold: number;
  /** @param options.threshold 0.5 where left out; what is above it counts as 1 */
  constructor(options: { threshold?: number; name?: string } = {}) {
    const { threshold = 0.5, name = 'binaryAccuracy' } = expectOptions('BinaryAccuracy', options, [
      'threshold',
      'name',
    ]);
    super(name);
    this.threshold = expectNumber('BinaryAccuracy', 'threshold', threshold);
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    const [p, t] = aligned(this.name, prediction, target);
    const valid = logicalAnd(areWithin(t, 0, 1), areNumbers(reshape(p, [-1])));
    return counts(eq(above(p, this.threshold), above(t, 0.5)), valid);
  }
}

/** The share of rows whose largest score is where the one-hot target's largest number is. */
export class CategoricalAccuracy extends Share {
  override rule = ofShares;
  constructor(options: { name?: string } = {}) {
    super(expectOptions('CategoricalAccuracy', options, ['name']).name ?? 'categoricalAccuracy');
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    if (prediction.rank === 0 || prediction.shape.join() !== target.shape.join()) {
      throw new RangeError(
        `${this.name}: needs [N,C] twice, got [${prediction.shape}] and [${target.shape}]`,
      );
    }
    const columns = prediction.shape[prediction.rank - 1] as number;
    const shape = [columns === 0 ? 0 : target.size / columns, columns];
    const [p, t] = [reshape(prediction, shape), reshape(target, shape)];
    const valid = logicalAnd(areNumbers(p), areShares(t));
    return counts(eq(argmax(p, -1), argmax(t, -1)), valid);
  }
}

/** The share of rows whose largest score is that of the target's class. */
export class SparseCategoricalAccuracy extends Share {
  constructor(options: { name?: string } = {}) {
    super(
      expectOptions('SparseCategoricalAccuracy', options, ['name']).name ??
        'sparseCategoricalAccuracy',
    );
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    const [scores, labels] = rowsAndClasses(this.name, prediction, target);
    const valid = logicalAnd(areClasses(labels, scores.shape[1] as number), areNumbers(scores));
    return counts(eq(argmax(scores, -1), classesOf(labels)), valid);
  }
}

/** The share of rows in which fewer than k scores are above that of the target (class or one-hot). */
export class TopKAccuracy extends Share {
  private readonly k: number;
  /** @param options.k 5 where left out */
  constructor(options: { k?: number; name?: string } = {}) {
    const { k = 5, name = 'topKAccuracy' } = expectOptions('TopKAccuracy', options, ['k', 'name']);
    super(name);
    this.k = expectInteger('TopKAccuracy', 'k', k, 1);
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    const oneHot = prediction.rank > 1 && prediction.shape.join() === target.shape.join();
    const [scores, labels] = rowsAndClasses(
      this.name,
      prediction,
      oneHot ? argmax(target, -1) : target,
    );
    const fits = oneHot
      ? areShares(reshape(target, scores.shape))
      : areClasses(labels, scores.shape[1] as number);
    const valid = logicalAnd(fits, areNumbers(scores));
    if (oneHot) this.rule = ofShares;
    const own = gather(scores, 1, reshape(classesOf(labels), [-1, 1]));
    const ahead = to(sum(gt(scores, own), 1), 'float32');
    return counts(lt(ahead, this.k), valid);
  }
}

/**
 * Binary accuracy where there is one score per row, categorical where the target has the shape of
 * the scores, sparse where it is classes: as Keras's `accuracy` decides.
 */
export class Accuracy extends Share {
  private readonly kinds = {
    binary: new BinaryAccuracy({ name: 'accuracy' }),
    categorical: new CategoricalAccuracy({ name: 'accuracy' }),
    sparse: new SparseCategoricalAccuracy({ name: 'accuracy' }),
  } as const;
  constructor(options: { name?: string } = {}) {
    super(expectOptions('Accuracy', options, ['name']).name ?? 'accuracy');
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    const { shape, rank } = prediction;
    const single = rank < 2 || shape[rank - 1] === 1;
    const same = shape.join() === target.shape.join();
    const kind = single ? 'binary' : same ? 'categorical' : 'sparse';
    if (rank === 0) throw new RangeError(`${this.name}: needs rows, got ${describe(prediction)}`);
    const metric = this.kinds[kind];
    this.rule = metric.rule;
    return metric.measure(prediction, target);
  }
}
