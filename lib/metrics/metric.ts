/**
 * What all metrics share: a row of float64 sums on the device of the predictions, to which each batch
 * adds. Updates read nothing, so they may stand inside a captured step; `compute` waits and reads.
 */
import { describe, expectTensor } from '../check.js';
import { noGrad } from '../context.js';
import { isFloating } from '../dtype.js';
import { observe } from '../guards.js';
import { native } from '../native.js';
import { add, gt } from '../ops/binary.js';
import { copyInto, to } from '../ops/copy.js';
import { full, tensor, zeros } from '../ops/fill.js';
import { cat } from '../ops/movement.js';
import { argmax } from '../ops/reduce.js';
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

  /** @internal What a batch adds to the sums, [K]; K must not change. */
  abstract measure(prediction: Tensor, target: Tensor): Tensor;
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
            `${this.name}: the number of classes must stay the same between updates, got ${describe(prediction)}`,
          );
        }
        copyInto(sums, add(sums, added));
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
    this.dispose();
    if (state === null) return;
    if (!Array.isArray(state) || !state.every((value) => typeof value === 'number')) {
      throw new TypeError(`${this.name}: the state must be numbers, got ${describe(state)}`);
    }
    this.sums = scope(() => tensor(state as number[], { dtype: 'float64' }));
    this.sums.keep();
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
