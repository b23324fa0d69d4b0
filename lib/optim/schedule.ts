/**
 * Schedules of learning rates, by the closed formulas of torch.optim.lr_scheduler. A schedule sets
 * the rates of step 0 when it is made and those of the next step at each `step()`; the optimizer
 * keeps them in device memory, so captured steps see every change.
 */
import {
  describe,
  expectBoolean,
  expectFunction,
  expectInteger,
  expectNumber,
  expectObject,
  expectOneOf,
  expectOptions,
  expectRange,
} from '../check.js';
import { expectUncaptured } from '../guards.js';
import type { Optimizer } from './optimizer.js';

/** Any optimizer. */
// biome-ignore lint/suspicious/noExplicitAny: options differ between optimizers
export type AnyOptimizer = Optimizer<any>;

/** What a schedule needs to go on, as JSON can hold it. */
export interface ScheduleState {
  [name: string]: unknown;
}

/** @internal */
export function expectOptimizer(name: string, optimizer: AnyOptimizer): AnyOptimizer {
  if (typeof optimizer?.setLearningRate === 'function' && optimizer.groupCount > 0) {
    return optimizer;
  }
  throw new TypeError(`${name}: needs an optimizer, got ${describe(optimizer)}`);
}

/** @internal */
export function ratesOf(optimizer: AnyOptimizer): number[] {
  return Array.from({ length: optimizer.groupCount }, (_, i) => optimizer.optionsOf(i).lr);
}

/** Base class: rates per group as a function of the number of steps so far. */
export abstract class Schedule {
  /** The optimizer's rates when the schedule was made, per group. */
  baseRates: number[];
  /** Steps so far. */
  protected steps = 0;

  constructor(
    protected readonly name: string,
    protected readonly optimizer: AnyOptimizer,
  ) {
    this.baseRates = ratesOf(expectOptimizer(name, optimizer));
  }

  /** The rate of a group after `t` steps. */
  abstract rateAt(t: number, base: number, group: number): number;

  /** Sets the rates of step `t`; subclasses call it at the end of their constructors. */
  protected moveTo(t: number): void {
    this.steps = t;
    for (const [group, base] of this.baseRates.entries()) {
      this.optimizer.setLearningRate(group, this.rateAt(t, base, group));
    }
  }

  /** Sets the rates of the next step. Call it outside captured functions, which see the change. */
  step(): void {
    expectUncaptured(this.name, 'step()');
    this.moveTo(this.steps + 1);
  }

  /** The rates that are set now, per group. */
  get rates(): number[] {
    return ratesOf(this.optimizer);
  }

  /** How many steps were made, and the rates at first; for {@link loadStateDict}. */
  stateDict(): ScheduleState {
    return { steps: this.steps, baseRates: [...this.baseRates] };
  }

  /** Takes over what {@link stateDict} gave, and sets its rates. */
  loadStateDict(state: ScheduleState): void {
    const { steps, baseRates } = expectObject(this.name, state);
    if (!Array.isArray(baseRates) || baseRates.length !== this.baseRates.length) {
      throw new RangeError(
        `${this.name}: the state needs ${this.baseRates.length} base rates, got ${describe(baseRates)}`,
      );
    }
    const whole = expectInteger(this.name, 'steps', steps, 0);
    this.baseRates = baseRates.map((rate) => expectRange(this.name, 'each base rate', rate, 0));
    this.moveTo(whole);
  }
}

/** base·gamma^⌊t / stepSize⌋. */
export class StepLR extends Schedule {
  private readonly stepSize: number;
  private readonly gamma: number;
  /** @param options.gamma 0.1 where left out */
  constructor(optimizer: AnyOptimizer, options: { stepSize: number; gamma?: number }) {
    super('StepLR', optimizer);
    const { stepSize, gamma = 0.1 } = expectOptions('StepLR', options, ['stepSize', 'gamma']);
    this.stepSize = expectInteger('StepLR', 'stepSize', stepSize, 1);
    this.gamma = expectRange('StepLR', 'gamma', gamma, 0);
    this.moveTo(0);
  }
  rateAt(t: number, base: number): number {
    return base * this.gamma ** Math.floor(t / this.stepSize);
  }
}

/** base·gammaⁿ, n the number of milestones that t has reached. */
export class MultiStepLR extends Schedule {
  private readonly milestones: number[];
  private readonly gamma: number;
  /** @param options.gamma 0.1 where left out */
  constructor(optimizer: AnyOptimizer, options: { milestones: readonly number[]; gamma?: number }) {
    super('MultiStepLR', optimizer);
    const { milestones, gamma = 0.1 } = expectOptions('MultiStepLR', options, [
      'milestones',
      'gamma',
    ]);
    this.milestones = expectMilestones('MultiStepLR', milestones);
    this.gamma = expectRange('MultiStepLR', 'gamma', gamma, 0);
    this.moveTo(0);
  }
  rateAt(t: number, base: number): number {
    return base * this.gamma ** this.milestones.filter((at) => at <= t).length;
  }
}

function expectMilestones(name: string, milestones: unknown): number[] {
  if (!Array.isArray(milestones)) {
    throw new TypeError(`${name}: milestones must be an array, got ${describe(milestones)}`);
  }
  const found = milestones.map((at) => expectInteger(name, 'each milestone', at, 0));
  if (found.some((at, i) => i > 0 && at < (found[i - 1] as number))) {
    throw new RangeError(`${name}: milestones must ascend, got ${describe(found)}`);
  }
  return found;
}

/** base·gammaᵗ. */
export class ExponentialLR extends Schedule {
  private readonly gamma: number;
  constructor(optimizer: AnyOptimizer, options: { gamma: number }) {
    super('ExponentialLR', optimizer);
    this.gamma = expectRange(
      'ExponentialLR',
      'gamma',
      expectOptions('ExponentialLR', options, ['gamma']).gamma,
      0,
    );
    this.moveTo(0);
  }
  rateAt(t: number, base: number): number {
    return base * this.gamma ** t;
  }
}

/** base times a factor that goes in a line from `startFactor` to `endFactor` over `totalIters`. */
export class LinearLR extends Schedule {
  private readonly start: number;
  private readonly end: number;
  private readonly total: number;
  /** @param options 1/3, 1 and 5 where left out */
  constructor(
    optimizer: AnyOptimizer,
    options: { startFactor?: number; endFactor?: number; totalIters?: number } = {},
  ) {
    super('LinearLR', optimizer);
    const given = expectOptions('LinearLR', options, ['startFactor', 'endFactor', 'totalIters']);
    const { startFactor = 1 / 3, endFactor = 1, totalIters = 5 } = given;
    this.start = expectRange('LinearLR', 'startFactor', startFactor, 0, 1);
    this.end = expectRange('LinearLR', 'endFactor', endFactor, 0, 1);
    this.total = expectInteger('LinearLR', 'totalIters', totalIters, 1);
    this.moveTo(0);
  }
  rateAt(t: number, base: number): number {
    const part = Math.min(t, this.total) / this.total;
    return base * (this.start + (this.end - this.start) * part);
  }
}

/** base times what a function of t gives; one function for all groups, or one each. */
export class LambdaLR extends Schedule {
  private readonly factors: ((t: number) => number)[];
  constructor(
    optimizer: AnyOptimizer,
    factor: ((t: number) => number) | readonly ((t: number) => number)[],
  ) {
    super('LambdaLR', optimizer);
    const groups = this.baseRates.length;
    const list = Array.isArray(factor) ? factor : new Array(groups).fill(factor);
    if (list.length !== groups) {
      throw new RangeError(`LambdaLR: needs ${groups} functions, got ${list.length}`);
    }
    this.factors = list.map((fn) => expectFunction('LambdaLR', 'each factor', fn));
    this.moveTo(0);
  }
  rateAt(t: number, base: number, group: number): number {
    const factor = (this.factors[group] as (t: number) => number)(t);
    return base * expectNumber('LambdaLR', 'a factor', factor);
  }
}

function cosine(from: number, to: number, part: number): number {
  return to + ((from - to) * (1 + Math.cos(Math.PI * part))) / 2;
}

/**
 * From base to etaMin along a half cosine over tMax steps, and back.
 * Source: Loshchilov and Hutter 2017 (SGDR), without restarts.
 */
export class CosineAnnealingLR extends Schedule {
  private readonly tMax: number;
  private readonly etaMin: number;
  /** @param options.etaMin 0 where left out */
  constructor(optimizer: AnyOptimizer, options: { tMax: number; etaMin?: number }) {
    super('CosineAnnealingLR', optimizer);
    const { tMax, etaMin = 0 } = expectOptions('CosineAnnealingLR', options, ['tMax', 'etaMin']);
    this.tMax = expectInteger('CosineAnnealingLR', 'tMax', tMax, 1);
    this.etaMin = expectRange('CosineAnnealingLR', 'etaMin', etaMin, 0);
    this.moveTo(0);
  }
  rateAt(t: number, base: number): number {
    return cosine(base, this.etaMin, t / this.tMax);
  }
}

/** From base to etaMin along half cosines, each tMult times as long as the one before. SGDR. */
export class CosineAnnealingWarmRestarts extends Schedule {
  private readonly first: number;
  private readonly factor: number;
  private readonly etaMin: number;
  /** @param options t0: length of the first; tMult: 1 where left out; etaMin: 0 where left out */
  constructor(optimizer: AnyOptimizer, options: { t0: number; tMult?: number; etaMin?: number }) {
    const name = 'CosineAnnealingWarmRestarts';
    super(name, optimizer);
    const { t0, tMult = 1, etaMin = 0 } = expectOptions(name, options, ['t0', 'tMult', 'etaMin']);
    this.first = expectInteger(name, 't0', t0, 1);
    this.factor = expectInteger(name, 'tMult', tMult, 1);
    this.etaMin = expectRange(name, 'etaMin', etaMin, 0);
    this.moveTo(0);
  }
  rateAt(t: number, base: number): number {
    let [length, at] = [this.first, t];
    if (this.factor === 1) at %= length;
    for (; at >= length; length *= this.factor) at -= length;
    return cosine(base, this.etaMin, at / length);
  }
}

export interface OneCycleOptions {
  /** The highest rate, of all groups or one for each. */
  maxLr: number | readonly number[];
  /** Length of the cycle; after it no step is allowed. */
  totalSteps: number;
  /** Share of the cycle in which the rate rises; 0.3 where left out. */
  pctStart?: number;
  annealStrategy?: 'cos' | 'linear';
  /** Whether momentum (or beta1) falls while the rate rises, where there is one; true. */
  cycleMomentum?: boolean;
  baseMomentum?: number;
  maxMomentum?: number;
  /** The first rate is maxLr / divFactor; 25 where left out. */
  divFactor?: number;
  /** The last rate is the first / finalDivFactor; 1e4 where left out. */
  finalDivFactor?: number;
  /** Comes down to the first rate as it went up, then to the last; false where left out. */
  threePhase?: boolean;
}

/** Rate up to maxLr and down below where it began, momentum opposite. Smith and Topin 2017. */
export class OneCycleLR extends Schedule {
  private readonly highest: number[];
  private readonly total: number;
  private readonly linear: boolean;
  private readonly momenta: readonly [number, number] | null;
  private readonly divisors: readonly [number, number];
  /** Where phases end, and between which of the three rates (first, highest, last) each goes. */
  private readonly phases: readonly (readonly [end: number, from: number, to: number])[];

  constructor(optimizer: AnyOptimizer, options: OneCycleOptions) {
    const name = 'OneCycleLR';
    super(name, optimizer);
    const given = expectOptions(name, options, [
      'maxLr',
      'totalSteps',
      'pctStart',
      'annealStrategy',
      'cycleMomentum',
      'baseMomentum',
      'maxMomentum',
      'divFactor',
      'finalDivFactor',
      'threePhase',
    ]);
    const { maxLr, pctStart = 0.3, annealStrategy = 'cos', cycleMomentum = true } = given;
    const { baseMomentum = 0.85, maxMomentum = 0.95, threePhase = false } = given;
    const { divFactor = 25, finalDivFactor = 1e4 } = given;
    const groups = this.baseRates.length;
    const list: unknown[] = Array.isArray(maxLr) ? maxLr : new Array(groups).fill(maxLr);
    if (list.length !== groups) {
      throw new RangeError(`${name}: needs ${groups} maxLr, got ${describe(maxLr)}`);
    }
    this.highest = list.map((rate) => expectRange(name, 'maxLr', rate, 0));
    this.total = expectInteger(name, 'totalSteps', given.totalSteps, 1);
    this.linear =
      expectOneOf(name, 'annealStrategy', annealStrategy, ['cos', 'linear']) === 'linear';
    this.divisors = [
      expectRange(name, 'divFactor', divFactor, Number.MIN_VALUE),
      expectRange(name, 'finalDivFactor', finalDivFactor, Number.MIN_VALUE),
    ];
    expectRange(name, 'pctStart', pctStart, 0, 1);
    const low = expectRange(name, 'baseMomentum', baseMomentum, 0, 1, true);
    const high = expectRange(name, 'maxMomentum', maxMomentum, 0, 1, true);
    this.momenta = expectBoolean(name, 'cycleMomentum', cycleMomentum) ? [low, high] : null;
    const up = pctStart * this.total - 1;
    this.phases = expectBoolean(name, 'threePhase', threePhase)
      ? [
          [up, 0, 1],
          [2 * pctStart * this.total - 2, 1, 0],
          [this.total - 1, 0, 2],
        ]
      : [
          [up, 0, 1],
          [this.total - 1, 1, 2],
        ];
    this.moveTo(0);
  }

  /** Between the values of the first, highest and last point of the cycle. */
  private between(t: number, values: readonly [number, number, number]): number {
    if (t >= this.total) {
      throw new RangeError(`OneCycleLR: the cycle has ${this.total} steps, got step ${t}`);
    }
    let start = 0;
    for (const [i, [end, from, to]] of this.phases.entries()) {
      if (t <= end || i === this.phases.length - 1) {
        const part = end === start ? 1 : (t - start) / (end - start);
        const [a, b] = [values[from] as number, values[to] as number];
        return this.linear ? a + (b - a) * part : cosine(a, b, part);
      }
      start = end;
    }
    return values[2];
  }

  rateAt(t: number, _: number, group: number): number {
    const highest = this.highest[group] as number;
    const first = highest / this.divisors[0];
    return this.between(t, [first, highest, first / this.divisors[1]]);
  }

  protected override moveTo(t: number): void {
    super.moveTo(t);
    if (!this.momenta) return;
    const [low, high] = this.momenta;
    const momentum = this.between(t, [high, low, high]);
    for (let group = 0; group < this.optimizer.groupCount; ++group) {
      const options = this.optimizer.optionsOf(group);
      if (Array.isArray(options.betas)) {
        this.optimizer.setOptions(group, { betas: [momentum, options.betas[1]] });
      } else if (options.momentum > 0) {
        this.optimizer.setOptions(group, { momentum });
      }
    }
  }
}

/** One schedule after another: number i+1 begins, at its own step 0, at `milestones[i]`. */
export class SequentialLR extends Schedule {
  private readonly milestones: number[];
  private readonly parts: readonly Schedule[];

  constructor(
    optimizer: AnyOptimizer,
    options: { schedules: readonly Schedule[]; milestones: readonly number[] },
  ) {
    const name = 'SequentialLR';
    super(name, optimizer);
    const { schedules, milestones } = expectOptions(name, options, ['schedules', 'milestones']);
    this.milestones = expectMilestones(name, milestones);
    const fits = Array.isArray(schedules) && schedules.length === this.milestones.length + 1;
    if (!fits || !schedules.every((part) => part instanceof Schedule)) {
      throw new TypeError(
        `${name}: needs ${this.milestones.length + 1} schedules, got ${describe(schedules)}`,
      );
    }
    this.parts = schedules;
    // Every part was made from the rates that the one before had set.
    this.baseRates = [...(this.parts[0] as Schedule).baseRates];
    this.moveTo(0);
  }

  rateAt(t: number, base: number, group: number): number {
    const at = this.milestones.filter((milestone) => milestone <= t).length;
    const part = this.parts[at] as Schedule;
    return part.rateAt(t - (at > 0 ? (this.milestones[at - 1] as number) : 0), base, group);
  }
}
