/**
 * Adagrad and Adadelta, as torch.optim has them.
 * Adagrad: s ← s + g²; w ← w − lr / (1 + (t − 1)·lrDecay) · g / (√s + eps).
 * Adadelta: s ← rho·s + (1 − rho)·g²; Δ ← √(u + eps) / √(s + eps) · g;
 * u ← rho·u + (1 − rho)·Δ²; w ← w − lr·Δ.
 * Sources: Duchi, Hazan and Singer 2011; Zeiler 2012.
 */
import { expectBoolean, expectNames, expectRange } from '../check.js';
import type { Parameters } from './groups.js';
import { Optimizer } from './optimizer.js';
import { flags, type StateNames } from './rules.js';

export interface AdagradOptions {
  /** Learning rate; 0.01 where left out. */
  lr: number;
  /** How fast the learning rate falls with the steps; 0 where left out. */
  lrDecay: number;
  /** Added to the gradient as weightDecay·w. */
  weightDecay: number;
  /** What the sums of squares start from. */
  initialAccumulatorValue: number;
  /** Added to the denominator; 1e-10 where left out. */
  eps: number;
  /** Ascends instead. */
  maximize: boolean;
}

const adagradDefaults: AdagradOptions = {
  lr: 1e-2,
  lrDecay: 0,
  weightDecay: 0,
  initialAccumulatorValue: 0,
  eps: 1e-10,
  maximize: false,
};

/** Divides gradients by the root of the sum of their squares. */
export class Adagrad extends Optimizer<AdagradOptions> {
  constructor(parameters: Parameters<AdagradOptions>, options: Partial<AdagradOptions> = {}) {
    super('Adagrad', 'adagrad', parameters, {
      ...adagradDefaults,
      ...expectNames('Adagrad', options, Object.keys(adagradDefaults)),
    });
  }

  protected validate(options: AdagradOptions): void {
    for (const key of ['lr', 'lrDecay', 'weightDecay', 'initialAccumulatorValue', 'eps'] as const) {
      expectRange('Adagrad', key, options[key], 0);
    }
    expectBoolean('Adagrad', 'maximize', options.maximize);
  }

  protected hyperOf({ lr, lrDecay, eps, weightDecay }: AdagradOptions): number[] {
    return [lr, lrDecay, 0, eps, weightDecay, 0];
  }

  protected stateNames(): StateNames {
    return { second: 'squares' };
  }

  protected override initialState({ initialAccumulatorValue }: AdagradOptions): number {
    return initialAccumulatorValue;
  }

  protected flagsOf({ maximize }: AdagradOptions): number {
    return maximize ? flags.maximize : 0;
  }
}

export interface AdadeltaOptions {
  /** Factor of the step; 1 where left out. */
  lr: number;
  /** Decay of the running means; 0.9 where left out. */
  rho: number;
  /** Added within the roots; 1e-6 where left out. */
  eps: number;
  /** Added to the gradient as weightDecay·w. */
  weightDecay: number;
  /** Ascends instead. */
  maximize: boolean;
}

const adadeltaDefaults: AdadeltaOptions = {
  lr: 1,
  rho: 0.9,
  eps: 1e-6,
  weightDecay: 0,
  maximize: false,
};

/** Scales gradients by the ratio of the root mean squares of updates and gradients. */
export class Adadelta extends Optimizer<AdadeltaOptions> {
  constructor(parameters: Parameters<AdadeltaOptions>, options: Partial<AdadeltaOptions> = {}) {
    super('Adadelta', 'adadelta', parameters, {
      ...adadeltaDefaults,
      ...expectNames('Adadelta', options, Object.keys(adadeltaDefaults)),
    });
  }

  protected validate(options: AdadeltaOptions): void {
    expectRange('Adadelta', 'lr', options.lr, 0);
    expectRange('Adadelta', 'rho', options.rho, 0, 1);
    expectRange('Adadelta', 'eps', options.eps, 0);
    expectRange('Adadelta', 'weightDecay', options.weightDecay, 0);
    expectBoolean('Adadelta', 'maximize', options.maximize);
  }

  protected hyperOf({ lr, rho, eps, weightDecay }: AdadeltaOptions): number[] {
    return [lr, 0, rho, eps, weightDecay, 0];
  }

  protected stateNames(): StateNames {
    return { first: 'updates', second: 'squares' };
  }

  protected flagsOf({ maximize }: AdadeltaOptions): number {
    return maximize ? flags.maximize : 0;
  }
}
