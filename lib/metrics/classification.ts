/**
 * Metrics of a confusion matrix: counts by true class (rows) and predicted class (columns), added up
 * on the device. Names and averages are scikit-learn's; a share of nothing is 0.
 */
import {
  describe,
  expectBoolean,
  expectInteger,
  expectNumber,
  expectOneOf,
  expectOptions,
} from '../check.js';
import { isFloating } from '../dtype.js';
import { add, eq, gt, logicalAnd, mul, where } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { ones, zeros } from '../ops/fill.js';
import { scatterAdd } from '../ops/gather.js';
import { cat } from '../ops/movement.js';
import { sum } from '../ops/reduce.js';
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
  shareRule,
} from './metric.js';

export interface ConfusionOptions {
  /**
   * How many classes; the size of the prediction's last axis where left out, 2 where that is 1.
   * Needed where predictions are classes themselves, as integers.
   */
  classes?: number;
  /** What probabilities must exceed to count as class 1, where there is one per row; 0.5. */
  threshold?: number;
  /** What logs call it. */
  name?: string;
}

export interface AverageOptions extends ConfusionOptions {
  /**
   * 'binary': of class 1 alone; 'macro': the mean over classes; 'weighted': the same, each class by
   * how often it is the true one; 'micro': of all together.
   */
  average?: Average;
  /**
   * Whether a row may have several labels, or none: predictions and targets are [N,L], a label is
   * predicted where its probability exceeds the threshold, and averages are over labels; false.
   */
  multilabel?: boolean;
}

const averages = ['binary', 'macro', 'weighted', 'micro'] as const;
type Average = (typeof averages)[number];

/** What targets must be where they are rows. */
const ofShares = shareRule('multilabel of F1, Precision and Recall');

abstract class Confusion<Result> extends Metric<Result> {
  protected readonly threshold: number;
  protected classes: number | null;
  /** What targets must be. */
  private labels = 'labels one of the classes';

  constructor(op: string, name: string, options: ConfusionOptions) {
    const { classes, threshold = 0.5 } = expectOptions(op, options, [
      'classes',
      'threshold',
      'name',
    ]);
    super(options.name ?? name);
    this.threshold = expectNumber(op, 'threshold', threshold);
    this.classes = classes === undefined ? null : expectInteger(op, 'classes', classes, 2);
  }

  measure(prediction: Tensor, target: Tensor): Tensor {
    const floating = isFloating(prediction.dtype);
    const last = prediction.rank > 1 ? (prediction.shape[prediction.rank - 1] as number) : 1;
    let [p, t] = [prediction, target];
    if (floating && last === 1) {
      [p, t] = aligned(this.name, prediction, target);
      p = above(p, this.threshold);
    }
    const oneHot = isFloating(target.dtype) && last > 1 && target.shape.join() === p.shape.join();
    if (oneHot) this.labels = ofShares;
    const [predicted, actual] = [
      classesOf(p),
      oneHot ? classesOf(t) : to(t, 'int64').reshape([-1]),
    ];
    if (predicted.size !== actual.size) {
      throw new RangeError(
        `${this.name}: needs scores [N,C] or classes [N], and classes [N], got [${prediction.shape}] and [${target.shape}]`,
      );
    }
    if (!floating && prediction.dtype !== 'bool' && this.classes === null) {
      throw new TypeError(
        `${this.name}: classes must be given where predictions are integers, got ${describe(prediction)}`,
      );
    }
    this.classes ??= floating && last > 1 ? last : 2;
    const n = this.classes;
    if (floating && last > 1 && last !== n) {
      throw new RangeError(`${this.name}: needs scores of ${n} classes, got [${prediction.shape}]`);
    }
    const scores = reshape(prediction, [predicted.size, floating && last > 1 ? last : 1]);
    const labels = oneHot ? areShares(reshape(target, [actual.size, last])) : areClasses(target, n);
    const numbers = floating ? areNumbers(scores) : areClasses(scores, n);
    // What is none of the classes is counted behind the matrix.
    const place = where(logicalAnd(labels, numbers), add(mul(actual, n), predicted), n * n);
    const { device } = prediction;
    const count = ones([place.size], { device });
    return scatterAdd(zeros([n * n + 1], { device }), 0, place, count);
  }

  /** Counts by true class and predicted class. */
  protected matrix(sums: Float64Array | null): number[][] {
    const rule = `scores must be numbers and ${this.labels}`;
    const counts = sums && judged(this.name, rule, sums);
    const n = counts ? Math.round(Math.sqrt(counts.length)) : (this.classes ?? 2);
    return Array.from({ length: n }, (_, row) =>
      Array.from({ length: n }, (_, column) => counts?.[row * n + column] ?? 0),
    );
  }
}

/** Counts [true class][predicted class]. */
export class ConfusionMatrix extends Confusion<number[][]> {
  readonly mode = null;
  constructor(options: ConfusionOptions = {}) {
    super('ConfusionMatrix', 'confusionMatrix', options);
  }
  protected result(counts: Float64Array | null): number[][] {
    return this.matrix(counts);
  }
}

const share = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);
const total = (values: number[]): number => values.reduce((a, b) => a + b, 0);

/** Right, predicted and actual counts of a class, or of all. */
interface Counts {
  right: number;
  predicted: number;
  actual: number;
}

abstract class Averaged extends Confusion<number> {
  readonly mode = 'max';
  private readonly average: Average;
  private readonly multilabel: boolean;

  constructor(op: string, name: string, options: AverageOptions) {
    const {
      average = 'binary',
      multilabel = false,
      ...rest
    } = expectOptions(op, options, ['average', 'multilabel', 'classes', 'threshold', 'name']);
    super(op, name, rest);
    this.average = expectOneOf(op, 'average', average, averages);
    this.multilabel = expectBoolean(op, 'multilabel', multilabel);
    if (multilabel && average === 'binary') {
      throw new RangeError(`${op}: average must be macro, weighted or micro of labels, got binary`);
    }
    if (multilabel && rest.classes !== undefined) {
      throw new RangeError(`${op}: classes must be left out with multilabel, got ${rest.classes}`);
    }
  }

  protected abstract score(counts: Counts): number;

  override measure(prediction: Tensor, target: Tensor): Tensor {
    if (this.multilabel) return this.measureLabels(prediction, target);
    const added = super.measure(prediction, target);
    if (this.average === 'binary' && this.classes !== 2) {
      throw new RangeError(
        `${this.name}: average binary needs 2 classes, got ${this.classes}; choose macro, weighted or micro`,
      );
    }
    return added;
  }

  /** Right, predicted and actual counts of each label; behind them how many cannot be judged. */
  private measureLabels(prediction: Tensor, target: Tensor): Tensor {
    const { shape, rank } = prediction;
    if (rank !== 2 || shape.join() !== target.shape.join()) {
      throw new RangeError(
        `${this.name}: needs probabilities and labels [N,L], got [${shape}] and [${target.shape}]`,
      );
    }
    const [predicted, actual] = [gt(prediction, this.threshold), gt(target, 0.5)];
    const counts = [logicalAnd(predicted, actual), predicted, actual].map((of) => sum(of, 0));
    const valid = logicalAnd(areWithin(target, 0, 1), areNumbers(reshape(prediction, [-1])));
    return cat([...counts, reshape(sum(eq(valid, 0)), [1])]);
  }

  private countsOfLabels(sums: Float64Array | null): Counts[] {
    const rule = 'scores must be numbers and labels in [0,1]';
    const counts = sums ? judged(this.name, rule, sums) : new Float64Array();
    const labels = counts.length / 3;
    const count = (kind: number, label: number): number => counts[kind * labels + label] as number;
    return Array.from({ length: labels }, (_, i) => ({
      ...{ right: count(0, i), predicted: count(1, i), actual: count(2, i) },
    }));
  }

  private countsOfClasses(sums: Float64Array | null): Counts[] {
    const matrix = this.matrix(sums);
    return matrix.map((row, c) => ({
      right: row[c] as number,
      predicted: total(matrix.map((other) => other[c] as number)),
      actual: total(row),
    }));
  }

  protected result(sums: Float64Array | null): number {
    const classes = this.multilabel ? this.countsOfLabels(sums) : this.countsOfClasses(sums);
    if (this.average === 'binary') return this.score(classes[1] as Counts);
    if (this.average === 'macro') {
      // As scikit-learn has it, a class that does not occur is left out, a label counts as 0.
      const seen = this.multilabel
        ? classes
        : classes.filter(({ predicted, actual }) => predicted + actual > 0);
      return share(total(seen.map((counts) => this.score(counts))), seen.length);
    }
    const all = (key: keyof Counts): number => total(classes.map((counts) => counts[key]));
    if (this.average === 'weighted') {
      const parts = classes.map((counts) => this.score(counts) * counts.actual);
      return share(total(parts), all('actual'));
    }
    return this.score({ right: all('right'), predicted: all('predicted'), actual: all('actual') });
  }
}

/** Of what was predicted to be of the class, the share that is. */
export class Precision extends Averaged {
  constructor(options: AverageOptions = {}) {
    super('Precision', 'precision', options);
  }
  protected score({ right, predicted }: Counts): number {
    return share(right, predicted);
  }
}

/** Of what is of the class, the share that was predicted to be. */
export class Recall extends Averaged {
  constructor(options: AverageOptions = {}) {
    super('Recall', 'recall', options);
  }
  protected score({ right, actual }: Counts): number {
    return share(right, actual);
  }
}

/** The harmonic mean of precision and recall. */
export class F1 extends Averaged {
  constructor(options: AverageOptions = {}) {
    super('F1', 'f1', options);
  }
  protected score({ right, predicted, actual }: Counts): number {
    return share(2 * right, predicted + actual);
  }
}
