/**
 * Adam and AdamW:
 * m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²;
 * w ← w − lr·(m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε).
 * Adam adds weightDecay·w to the gradient, AdamW takes lr·weightDecay·w from the weight first.
 * With `amsgrad` the largest v so far takes v's place in the update.
 * Sources: Kingma and Ba 2015; Loshchilov and Hutter 2019; Reddi, Kale and Kumar 2018 (AMSGrad).
 */
import { expectBoolean, expectNames, expectRange } from '../check.js';
import type { Parameters } from './groups.js';
import { Optimizer } from './optimizer.js';
import { flags, type StateNames } from './rules.js';

export interface AdamOptions {
  /** Learning rate; 0.001 where left out. */
  lr: number;
  /** Decay of the first and the second moment; [0.9, 0.999] where left out. */
  betas: readonly [number, number];
  /** Added to the denominator; 1e-8 where left out. */
  eps: number;
  /** 0 for Adam and 0.01 for AdamW where left out. */
  weightDecay: number;
  /** Divides by the largest second moment so far. */
  amsgrad: boolean;
  /** Ascends instead. */
  maximize: boolean;
}

const defaults: AdamOptions = {
  lr: 1e-3,
  betas: [0.9, 0.999],
  eps: 1e-8,
  weightDecay: 0,
  amsgrad: false,
  maximize: false,
};

/** @internal Two decays in [0, 1). */
export function expectBetas(name: string, betas: unknown): void {
  if (!Array.isArray(betas) || betas.length !== 2) {
    throw new TypeError(`${name}: betas must be two numbers`);
  }
  for (const beta of betas) expectRange(name, 'each beta', beta, 0, 1, true);
}

class AdamFamily extends Optimizer<AdamOptions> {
  constructor(
    name: string,
    private readonly decoupled: boolean,
    parameters: Parameters<AdamOptions>,
    options: AdamOptions,
  ) {
    super(name, 'adam', parameters, options);
  }

  protected validate(options: AdamOptions): void {
    expectRange(this.name, 'lr', options.lr, 0);
    expectBetas(this.name, options.betas);
    expectRange(this.name, 'eps', options.eps, 0);
    expectRange(this.name, 'weightDecay', options.weightDecay, 0);
    expectBoolean(this.name, 'amsgrad', options.amsgrad);
    expectBoolean(this.name, 'maximize', options.maximize);
  }

  protected hyperOf({ lr, betas, eps, weightDecay }: AdamOptions): number[] {
    return [lr, betas[0], betas[1], eps, weightDecay, 0];
  }

  protected stateNames({ amsgrad }: AdamOptions): StateNames {
    return { first: 'first', second: 'second', ...(amsgrad && { third: 'largest' }) };
  }

  protected flagsOf({ maximize }: AdamOptions): number {
    return (maximize ? flags.maximize : 0) + (this.decoupled ? flags.decoupled : 0);
  }
}

/** Adam; weight decay, if any, joins the gradient. */
export class Adam extends AdamFamily {
  constructor(parameters: Parameters<AdamOptions>, options: Partial<AdamOptions> = {}) {
    super('Adam', false, parameters, {
      ...defaults,
      ...expectNames('Adam', options, Object.keys(defaults)),
    });
  }
}

/** Adam with decoupled weight decay. */
export class AdamW extends AdamFamily {
  constructor(parameters: Parameters<AdamOptions>, options: Partial<AdamOptions> = {}) {
    super('AdamW', true, parameters, {
      ...defaults,
      weightDecay: 0.01,
      ...expectNames('AdamW', options, Object.keys(defaults)),
    });
  }
}
