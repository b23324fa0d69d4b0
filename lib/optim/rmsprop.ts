/**
 * RMSprop, as torch.optim.RMSprop has it: s ← alpha·s + (1 − alpha)·g²;
 * w ← w − lr·g / (√s + eps), with momentum over g / (√s + eps). Centered: √(s − m²) with the mean
 * gradient m ← alpha·m + (1 − alpha)·g.
 * Sources: Tieleman and Hinton 2012; Graves 2013 (centered).
 */
import { expectBoolean, expectNames, expectRange } from '../check.js';
import type { Parameters } from './groups.js';
import { Optimizer } from './optimizer.js';
import { flags, type StateNames } from './rules.js';

export interface RMSpropOptions {
  /** Learning rate; 0.01 where left out. */
  lr: number;
  /** Decay of the mean squared gradient; 0.99 where left out. */
  alpha: number;
  /** Added to the denominator; 1e-8 where left out. */
  eps: number;
  /** Added to the gradient as weightDecay·w. */
  weightDecay: number;
  momentum: number;
  /** Divides by the standard deviation of the gradient rather than its root mean square. */
  centered: boolean;
  /** Ascends instead. */
  maximize: boolean;
}

const defaults: RMSpropOptions = {
  lr: 1e-2,
  alpha: 0.99,
  eps: 1e-8,
  weightDecay: 0,
  momentum: 0,
  centered: false,
  maximize: false,
};

/** Divides gradients by the root of their running mean square. */
export class RMSprop extends Optimizer<RMSpropOptions> {
  constructor(parameters: Parameters<RMSpropOptions>, options: Partial<RMSpropOptions> = {}) {
    super('RMSprop', 'rmsprop', parameters, {
      ...defaults,
      ...expectNames('RMSprop', options, Object.keys(defaults)),
    });
  }

  protected validate(options: RMSpropOptions): void {
    expectRange('RMSprop', 'lr', options.lr, 0);
    expectRange('RMSprop', 'alpha', options.alpha, 0, 1);
    expectRange('RMSprop', 'eps', options.eps, 0);
    expectRange('RMSprop', 'weightDecay', options.weightDecay, 0);
    expectRange('RMSprop', 'momentum', options.momentum, 0);
    expectBoolean('RMSprop', 'centered', options.centered);
    expectBoolean('RMSprop', 'maximize', options.maximize);
  }

  protected hyperOf({ lr, momentum, alpha, eps, weightDecay }: RMSpropOptions): number[] {
    return [lr, momentum, alpha, eps, weightDecay, 0];
  }

  protected stateNames({ momentum, centered }: RMSpropOptions): StateNames {
    return {
      second: 'squares',
      ...(momentum > 0 && { first: 'momentum' }),
      ...(centered && { third: 'mean' }),
    };
  }

  protected flagsOf({ maximize }: RMSpropOptions): number {
    return maximize ? flags.maximize : 0;
  }
}
