/**
 * What all metrics share: a row of float64 sums on the device of the predictions, to which each batch
 * adds. Updates read nothing, so they may stand inside a captured step; `compute` waits and reads.
 */
import { describe, expectTensor } from '../check.js';
import { noGrad } from '../context.js';
import type { Device } from '../device.js';
import { isFloating } from '../dtype.js';
import { observe } from '../guards.js';
import { native } from '../native.js';
import { add, eq, ge, gt, le, logicalAnd } from '../ops/binary.js';
import { copyInto, to } from '../ops/copy.js';
import { full, tensor, zeros } from '../ops/fill.js';
import { cat } from '../ops/movement.js';
import { argmax, sum } from '../ops/reduce.js';
import { floor, isnan } from '../ops/unary.js';
import { reshape } from '../ops/view.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

/** Base class: `update` with each batch, `compute` at the end, `reset` before the next run. */
export abstract class Metric<Result = number> {
  private sums: Tensor | null = null;

  constructor(
    /** What logs call it. */
    readonly name: string,
  ) {}

  /** Whether its least value is the best or its largest; null where it has no best. */
  abstract readonly mode: 'min' | 'max' | null;
  /** @internal What a batch adds to the sums, [K]; K must not change. */
  abstract measure(prediction: Tensor, target: Tensor): Tensor;
  /** @internal The sums of all batches, from those so far and what a batch adds. */
  protected combine(sums: Tensor, added: Tensor): Tensor {
    return add(sums, added);
  }
  /** The metric of the sums so far; null before the first update. */
  protected abstract result(sums: Float64Array | null): Result;

  /** Counts a batch in. Neither waits nor reads. */
  update(prediction: Tensor, target: Tensor): void {
    expectTensor(this.name, prediction, 'the prediction');
    expectTensor(this.name, target, 'the target');
    if (prediction.device !== target.device) {
      throw new Error(
        `${this.name}: tensors must be on one device, got ${prediction.device.name} and ${target.device.name}`,
      );
    }
    noGrad(() =>
      scope(() => {
        const added = this.measure(prediction.detach(), target.detach());
        observe(this, 'sums');
        let { sums } = this;
        if (sums?.device !== added.device) {
          const values = sums ? Array.from(sums.data() as Float64Array) : null;
          this.dispose();
          sums = values
            ? tensor(values, { dtype: 'float64', device: added.device })
            : zeros(added.shape, { dtype: 'float64', device: added.device });
          sums.keep();
          sums.persistent = true;
          this.sums = sums;
        }
        if (sums.size !== added.size) {
          throw new RangeError(
            `${this.name}: the number of classes or outputs must stay the same between updates, got ${describe(prediction)}`,
          );
        }
        copyInto(sums, this.combine(sums, added));
      }),
    );
  }

  /** The metric of all batches since the last `reset`. Waits for the device. */
  compute(): Result {
    return this.result(this.sums ? (this.sums.data() as Float64Array) : null);
  }

  /** The same without blocking the event loop. */
  async read(): Promise<Result> {
    return this.result(this.sums ? ((await this.sums.read()) as Float64Array) : null);
  }

  /** Forgets all batches. */
  reset(): void {
    if (this.sums) native.fillInto(this.sums.h, 0);
  }

  /** Gives the memory back; the metric can be used again, from nothing. */
  dispose(): void {
    this.sums?.dispose();
    this.sums = null;
  }

  /** The sums, as JSON can hold them; null before the first update. */
  stateDict(): number[] | null {
    return this.sums ? Array.from(this.sums.data() as Float64Array) : null;
  }

  /** Takes over what {@link stateDict} gave. */
  loadStateDict(state: readonly number[] | null): void {
    if (state === null) {
      this.dispose();
      return;
    }
    if (!Array.isArray(state) || !state.every((value) => typeof value === 'number')) {
      throw new TypeError(`${this.name}: the state must be numbers, got ${describe(state)}`);
    }
    const { sums } = this;
    const values = (device?: Device): Tensor =>
      tensor(state as number[], { dtype: 'float64', ...(device && { device }) });
    // Where there are sums, recorded steps know them.
    if (sums?.size === state.length) {
      noGrad(() => scope(() => void copyInto(sums, values(sums.device))));
      return;
    }
    this.dispose();
    this.sums = scope(() => values()).keep();
    this.sums.persistent = true;
  }
}

/** @internal A row of numbers, each a tensor of one element or a number. */
export function rowOf(like: Tensor, ...items: (Tensor | number)[]): Tensor {
  const options = { dtype: 'float64', device: like.device } as const;
  return cat(
    items.map((item) =>
      typeof item === 'number' ? full([1], item, options) : to(reshape(item, [1]), 'float64'),
    ),
  );
}

/**
 * @internal The sums without their last, which counts what the metric cannot judge.
 * @throws RangeError where it has counted any
 */
export function judged(name: string, rule: string, sums: Float64Array): Float64Array {
  const refused = sums.at(-1) as number;
  if (refused === 0) return sums.subarray(0, -1);
  throw new RangeError(`${name}: ${rule}, got ${refused} of another kind`);
}

/** @internal Whether each label is a class from 0 to n - 1, as a row of bool. */
export function areClasses(labels: Tensor, n: number): Tensor {
  const row = reshape(labels, [-1]);
  if (row.dtype === 'bool') return ge(to(row, 'uint8'), 0);
  const inside = areWithin(row, 0, n - 1);
  return isFloating(row.dtype) ? logicalAnd(inside, eq(floor(row), row)) : inside;
}

/** @internal Whether each number lies in [low, high], as a row of bool; NaN does not. */
export function areWithin(x: Tensor, low: number, high: number): Tensor {
  const row = reshape(wide(x), [-1]);
  return logicalAnd(ge(row, low), le(row, high));
}

/** @internal Whether no number in a row of scores [N,…] is NaN: [N]. */
export function areNumbers(scores: Tensor): Tensor {
  const rows = scores.shape[0] as number;
  if (!isFloating(scores.dtype)) return eq(full([rows], 1, { device: scores.device }), 1);
  const lacking = isnan(reshape(scores, [rows, scores.size === 0 ? 0 : scores.size / rows]));
  return eq(sum(lacking, 1), 0);
}

/** @internal Whether each row of [N,C] adds up to 1, as one-hot rows and shares do: [N]. */
export function areShares(rows: Tensor): Tensor {
  return areWithin(sum(wide(rows), 1), 0.99, 1.01);
}

/** @internal What targets must be where they are rows; `instead` is for rows of several labels. */
export function shareRule(instead: string): string {
  return `targets rows that add up to 1 (where rows have several labels, use ${instead})`;
}

/** @internal Numbers wide enough to add up. */
export function wide(x: Tensor): Tensor {
  return x.dtype === 'float64' ? x : to(x, 'float32');
}

/** @internal Prediction and target of equal shape; one of them may lack a last axis of 1. */
export function aligned(name: string, prediction: Tensor, target: Tensor): [Tensor, Tensor] {
  const [p, t] = [prediction.shape.join(), target.shape.join()];
  const lacks = (short: Tensor, long: Tensor): boolean =>
    long.rank === short.rank + 1 && [...short.shape, 1].join() === long.shape.join();
  if (p === t) return [prediction, target];
  if (lacks(target, prediction) || lacks(prediction, target)) {
    return [prediction, reshape(target, prediction.shape)];
  }
  throw new RangeError(`${name}: shapes must be equal, got [${p}] and [${t}]`);
}

/** @internal Int64 classes as one row: of integers themselves, of scores by their largest. */
export function classesOf(scores: Tensor): Tensor {
  const found = isFloating(scores.dtype) && scores.rank > 1 ? argmax(scores, -1) : scores;
  return reshape(to(found, 'int64'), [-1]);
}

/** @internal Whether each number is above the threshold, as a row of bool. */
export function above(scores: Tensor, threshold: number): Tensor {
  return reshape(gt(scores, threshold), [-1]);
}
