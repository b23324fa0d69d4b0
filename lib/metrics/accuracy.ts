/** Accuracies: the share of predictions that are right. Classes lie along the last axis. */
import { describe, expectInteger, expectNumber, expectOptions } from '../check.js';
import { eq, gt } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { gather } from '../ops/gather.js';
import { argmax, sum } from '../ops/reduce.js';
import { reshape } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import { above, aligned, classesOf, Metric, rowOf } from './metric.js';

/** A sum over a count. */
export abstract class MeanMetric extends Metric {
  protected result(sums: Float64Array | null): number {
    return sums ? (sums[0] as number) / (sums[1] as number) : Number.NaN;
  }
}

/** How many elements of two rows are equal, and of how many. */
function matches(a: Tensor, b: Tensor): Tensor {
  return rowOf(a, sum(eq(a, b)), a.size);
}

/** Scores [N, C] and classes [N], with any axes before. */
function rowsAndClasses(name: string, scores: Tensor, target: Tensor): [Tensor, Tensor] {
  const classes = scores.shape[scores.rank - 1] ?? 0;
  if (scores.rank < 2 || classes === 0 || target.size * classes !== scores.size) {
    throw new RangeError(
      `${name}: needs scores [N,C] and classes [N], got [${scores.shape}] and [${target.shape}]`,
    );
  }
  return [reshape(scores, [target.size, classes]), classesOf(reshape(target, [-1]))];
}

/** The share of probabilities on the side of the threshold that their target of 0 or 1 asks for. */
export class BinaryAccuracy extends MeanMetric {
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
    return matches(above(p, this.threshold), above(t, 0.5));
  }
}

/** The share of rows whose largest score is where the one-hot target's largest number is. */
export class CategoricalAccuracy extends MeanMetric {
  constructor(options: { name?: string } = {}) {
    super(expectOptions('CategoricalAccuracy', options, ['name']).name ?? 'categoricalAccuracy');
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    if (prediction.rank === 0 || prediction.shape.join() !== target.shape.join()) {
      throw new RangeError(
        `${this.name}: needs [N,C] twice, got [${prediction.shape}] and [${target.shape}]`,
      );
    }
    return matches(argmax(prediction, -1), argmax(target, -1));
  }
}

/** The share of rows whose largest score is that of the target's class. */
export class SparseCategoricalAccuracy extends MeanMetric {
  constructor(options: { name?: string } = {}) {
    super(
      expectOptions('SparseCategoricalAccuracy', options, ['name']).name ??
        'sparseCategoricalAccuracy',
    );
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    const [scores, classes] = rowsAndClasses(this.name, prediction, target);
    return matches(argmax(scores, -1), classes);
  }
}

/** The share of rows in which fewer than k scores are above that of the target (class or one-hot). */
export class TopKAccuracy extends MeanMetric {
  private readonly k: number;
  /** @param options.k 5 where left out */
  constructor(options: { k?: number; name?: string } = {}) {
    const { k = 5, name = 'topKAccuracy' } = expectOptions('TopKAccuracy', options, ['k', 'name']);
    super(name);
    this.k = expectInteger('TopKAccuracy', 'k', k, 1);
  }
  measure(prediction: Tensor, target: Tensor): Tensor {
    const oneHot = prediction.rank > 1 && prediction.shape.join() === target.shape.join();
    const [scores, classes] = rowsAndClasses(
      this.name,
      prediction,
      oneHot ? argmax(target, -1) : target,
    );
    const own = gather(scores, 1, reshape(classes, [-1, 1]));
    const ahead = sum(gt(scores, own), 1);
    return rowOf(scores, sum(gt(to(ahead, 'float32').neg(), -this.k)), classes.size);
  }
}

/**
 * Binary accuracy where there is one score per row, categorical where the target has the shape of
 * the scores, sparse where it is classes: as Keras's `accuracy` decides.
 */
export class Accuracy extends MeanMetric {
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
    return this.kinds[kind].measure(prediction, target);
  }
}
