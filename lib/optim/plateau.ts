/**
 * Lower learning rates when a measure stops improving, as torch.optim.lr_scheduler's
 * ReduceLROnPlateau. The measure is a number that the caller has read: an evaluation's loss, say.
 */
import {
  describe,
  expectInteger,
  expectNumber,
  expectObject,
  expectOneOf,
  expectOptions,
  expectRange,
} from '../check.js';
import { expectUncaptured } from '../guards.js';
import { type AnyOptimizer, expectOptimizer, ratesOf, type ScheduleState } from './schedule.js';

export interface PlateauOptions {
  /** Whether lower ('min') or higher measures are better; 'min' where left out. */
  mode?: 'min' | 'max';
  /** What rates are multiplied by, below 1; 0.1 where left out. */
  factor?: number;
  /** How many steps without improvement are borne; 10 where left out. */
  patience?: number;
  /** What counts as an improvement: by more than 1e-4 of the best, or in absolute terms. */
  threshold?: number;
  thresholdMode?: 'rel' | 'abs';
  /** Steps after a reduction in which nothing is counted; 0 where left out. */
  cooldown?: number;
  /** The lowest rate; 0 where left out. */
  minLr?: number;
  /** Smaller reductions are not made; 1e-8 where left out. */
  eps?: number;
}

const name = 'ReduceLROnPlateau';

/** @internal The names of {@link PlateauOptions}. */
export const plateauNames = [
  'mode',
  'factor',
  'patience',
  'threshold',
  'thresholdMode',
  'cooldown',
  'minLr',
  'eps',
] as const;

/**
 * Multiplies the learning rates by `factor` where a measure, given to `step`, has not improved by
 * `threshold` for more than `patience` steps. As torch.optim.lr_scheduler.ReduceLROnPlateau.
 * @example const schedule = new optim.ReduceLROnPlateau(optimizer, { patience: 3 });
 */
export class ReduceLROnPlateau {
  private readonly options: Required<PlateauOptions>;
  private best: number;
  private bad = 0;
  private cooling = 0;

  constructor(
    private readonly optimizer: AnyOptimizer,
    options: PlateauOptions = {},
  ) {
    expectOptimizer(name, optimizer);
    const given = {
      mode: 'min' as const,
      factor: 0.1,
      patience: 10,
      threshold: 1e-4,
      thresholdMode: 'rel' as const,
      cooldown: 0,
      minLr: 0,
      eps: 1e-8,
      ...expectOptions(name, options, plateauNames),
    };
    expectOneOf(name, 'mode', given.mode, ['min', 'max']);
    expectOneOf(name, 'thresholdMode', given.thresholdMode, ['rel', 'abs']);
    expectRange(name, 'factor', given.factor, 0, 1, true);
    expectInteger(name, 'patience', given.patience, 0);
    expectInteger(name, 'cooldown', given.cooldown, 0);
    expectNumber(name, 'threshold', given.threshold);
    expectRange(name, 'minLr', given.minLr, 0);
    expectRange(name, 'eps', given.eps, 0);
    this.options = given;
    this.best = this.worst;
  }

  private get worst(): number {
    return this.options.mode === 'min' ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY;
  }

  private improves(measure: number): boolean {
    const { mode, threshold, thresholdMode } = this.options;
    const margin = thresholdMode === 'abs' ? threshold : threshold * this.best;
    // An infinite best must not make the bound NaN.
    if (this.best === this.worst) return mode === 'min' ? measure < this.best : measure > this.best;
    return mode === 'min' ? measure < this.best - margin : measure > this.best + margin;
  }

  /** Counts one measure, and lowers the rates where patience is over. */
  step(measure: number): void {
    expectUncaptured(name, 'step()');
    expectNumber(name, 'the measure', measure);
    const { patience, cooldown, factor, minLr, eps } = this.options;
    if (this.improves(measure)) {
      this.best = measure;
      this.bad = 0;
    } else {
      ++this.bad;
    }
    if (this.cooling > 0) {
      --this.cooling;
      this.bad = 0;
    }
    if (this.bad <= patience) return;
    for (const [group, rate] of this.rates.entries()) {
      const lower = Math.max(rate * factor, minLr);
      if (rate - lower > eps) this.optimizer.setLearningRate(group, lower);
    }
    this.cooling = cooldown;
    this.bad = 0;
  }

  /** The rates that are set now, per group. */
  get rates(): number[] {
    return ratesOf(this.optimizer);
  }

  /** `best` is null before the first measure, so that JSON can hold it. */
  stateDict(): ScheduleState {
    const best = Number.isFinite(this.best) ? this.best : null;
    return { best, bad: this.bad, cooling: this.cooling, rates: this.rates };
  }

  /** Takes over what {@link stateDict} gave, and sets its rates. */
  loadStateDict(state: ScheduleState): void {
    const { best, bad, cooling, rates } = expectObject(name, state);
    if (!Array.isArray(rates) || rates.length !== this.optimizer.groupCount) {
      throw new RangeError(
        `${name}: the state needs ${this.optimizer.groupCount} rates, got ${describe(rates)}`,
      );
    }
    const measure = best === null ? this.worst : expectNumber(name, 'best', best);
    const counts = [bad, cooling].map((count) => expectInteger(name, 'a count', count, 0));
    const checked = rates.map((rate) => expectRange(name, 'each rate', rate, 0));
    this.best = measure;
    [this.bad, this.cooling] = counts as [number, number];
    for (const [group, rate] of checked.entries()) this.optimizer.setLearningRate(group, rate);
  }
}
