/**
 * Lion: w ← w·(1 − lr·weightDecay) − lr·sign(β₁m + (1 − β₁)g); m ← β₂m + (1 − β₂)g.
 * Source: Chen et al. 2023, "Symbolic discovery of optimization algorithms", program 1.
 */
import { expectBoolean, expectNames, expectRange } from '../check.js';
import { expectBetas } from './adam.js';
import type { Parameters } from './groups.js';
import { Optimizer } from './optimizer.js';
import { flags, type StateNames } from './rules.js';

export interface LionOptions {
  /** Learning rate; 1e-4 where left out: a third to a tenth of AdamW's. */
  lr: number;
  /** Weight of the momentum in the update, and its decay; [0.9, 0.99] where left out. */
  betas: readonly [number, number];
  /** Decoupled, as AdamW's; 0 where left out. */
  weightDecay: number;
  /** Ascends instead. */
  maximize: boolean;
}

const defaults: LionOptions = { lr: 1e-4, betas: [0.9, 0.99], weightDecay: 0, maximize: false };

/** Steps of one size in the direction of the sign of the momentum. */
export class Lion extends Optimizer<LionOptions> {
  constructor(parameters: Parameters<LionOptions>, options: Partial<LionOptions> = {}) {
    super('Lion', 'lion', parameters, {
      ...defaults,
      ...expectNames('Lion', options, Object.keys(defaults)),
    });
  }

  protected validate(options: LionOptions): void {
    expectRange('Lion', 'lr', options.lr, 0);
    expectBetas('Lion', options.betas);
    expectRange('Lion', 'weightDecay', options.weightDecay, 0);
    expectBoolean('Lion', 'maximize', options.maximize);
  }

  protected hyperOf({ lr, betas, weightDecay }: LionOptions): number[] {
    return [lr, betas[0], betas[1], 0, weightDecay, 0];
  }

  protected stateNames(): StateNames {
    return { first: 'momentum' };
  }

  protected flagsOf({ maximize }: LionOptions): number {
    return maximize ? flags.maximize : 0;
  }
}
