/**
 * Whether targets are such as the loss expects: all of them before training where they are in memory;
 * of other sources the range of each batch, which is read with its loss.
 */
import { noGrad } from '../context.js';
import { isFloating } from '../dtype.js';
import { rowOf, wide } from '../metrics/metric.js';
import { sub } from '../ops/binary.js';
import { max, min } from '../ops/reduce.js';
import { floor } from '../ops/unary.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { LossRule } from './losses.js';

type Bounds = readonly [low: number, high: number, fraction: number];

export class TargetCheck {
  /** @param classes how many scores the model gives per row; null while that is not known */
  constructor(
    private readonly rule: LossRule,
    private readonly classes: () => number | null,
  ) {}

  /** Whether the loss has a rule for its targets. */
  get applies(): boolean {
    return this.rule.targets === 'classes' || this.rule.targets === 'shares';
  }

  /**
   * The least and the largest target and, of classes, the largest part behind the point: [3], on the
   * device. Null for whole numbers as classes, of which a wrong one makes the loss NaN.
   */
  bounds(target: Tensor): Tensor | null {
    const told = this.rule.targets === 'classes' && !isFloating(target.dtype);
    return target.size === 0 || told ? null : this.boundsOf(target);
  }

  /** Whether targets within these bounds may be trained on. */
  allows([low, high, fraction]: Bounds): boolean {
    // Shares that are no numbers are for the loss to report.
    if (this.rule.targets === 'shares') return !(low < 0 || high > 1);
    return low >= 0 && high < (this.classes() ?? Number.POSITIVE_INFINITY) && fraction === 0;
  }

  /** What the loss expects, and the first target that is something else; null where none is. */
  async firstWrong(target: Tensor): Promise<string | null> {
    return this.tell(target, (await target.read()) as ArrayLike<number>);
  }

  /** Looks at all targets. */
  expect(op: string, target: Tensor, where = ''): void {
    if (target.size === 0 || !this.applies) return;
    const bounds = noGrad(() => scope(() => this.boundsOf(target).data()));
    if (this.allows(Array.from(bounds, Number) as unknown as Bounds)) return;
    const [low, high] = bounds;
    const told = this.tell(target, target.data() as ArrayLike<number>);
    throw new RangeError(`${op}: ${told}${where}; values go from ${low} to ${high}`);
  }

  private boundsOf(target: Tensor): Tensor {
    const x = wide(target.detach());
    const parts = this.rule.targets === 'classes' && isFloating(target.dtype);
    return rowOf(x, min(x), max(x), parts ? max(sub(x, floor(x))) : 0);
  }

  private tell(target: Tensor, values: ArrayLike<number | bigint>): string | null {
    const { name, targets } = this.rule;
    const classes = this.classes();
    const rows = target.shape[0] ?? 1;
    for (let i = 0; i < values.length; ++i) {
      const value = Number(values[i]);
      if (this.allows([value, value, value - Math.floor(value)])) continue;
      const wanted =
        targets === 'shares'
          ? 'targets in [0,1]'
          : `classes from 0${classes === null ? '' : ` to ${classes - 1}`}`;
      const row = Math.floor(i / (values.length / rows));
      return `the loss ${name} expects ${wanted}, got ${value} in row ${row}`;
    }
    return null;
  }
}
