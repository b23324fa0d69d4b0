/** Stochastic gradient descent, with momentum in two forms. */
import { expectBoolean, expectNames, expectNumber, expectOneOf, expectRange } from '../check.js';
import type { Parameters } from './groups.js';
import { Optimizer } from './optimizer.js';
import { flags, type StateNames } from './rules.js';

export interface SGDOptions {
  /** Learning rate; 0.001 where left out. */
  lr: number;
  momentum: number;
  dampening: number;
  /** Added to the gradient as weightDecay·w. */
  weightDecay: number;
  nesterov: boolean;
  /** Ascends instead. */
  maximize: boolean;
  /** Whether the velocity is of gradients ('pytorch') or of steps ('classical'). */
  form: 'pytorch' | 'classical';
}

const defaults: SGDOptions = {
  lr: 1e-3,
  momentum: 0,
  dampening: 0,
  weightDecay: 0,
  nesterov: false,
  maximize: false,
  form: 'pytorch',
};

/**
 * Stochastic gradient descent, in PyTorch's form:
 * g ← g + weightDecay·w; v ← momentum·v + (1 − dampening)·g (v ← g at first);
 * w ← w − lr·v, or w − lr·(g + momentum·v) with Nesterov.
 * In the classical form the learning rate is within the velocity: v ← momentum·v + lr·g;
 * w ← w − v, or w − (lr·g + momentum·v) with Nesterov. Both are the same while lr stays.
 * Sources: Polyak 1964 and Sutskever, Martens, Dahl and Hinton 2013 (classical); torch.optim.SGD.
 */
export class SGD extends Optimizer<SGDOptions> {
  constructor(parameters: Parameters<SGDOptions>, options: Partial<SGDOptions> = {}) {
    super('SGD', 'sgd', parameters, {
      ...defaults,
      ...expectNames('SGD', options, Object.keys(defaults)),
    });
  }

  protected validate(options: SGDOptions): void {
    expectRange('SGD', 'lr', options.lr, 0);
    expectRange('SGD', 'momentum', options.momentum, 0);
    expectNumber('SGD', 'dampening', options.dampening);
    expectRange('SGD', 'weightDecay', options.weightDecay, 0);
    expectBoolean('SGD', 'nesterov', options.nesterov);
    expectBoolean('SGD', 'maximize', options.maximize);
    expectOneOf('SGD', 'form', options.form, ['pytorch', 'classical']);
    if (options.form === 'classical' && options.dampening !== 0) {
      throw new RangeError(`SGD: the classical form takes no dampening, got ${options.dampening}`);
    }
    if (options.nesterov && (options.momentum === 0 || options.dampening !== 0)) {
      throw new RangeError(
        `SGD: nesterov needs momentum and no dampening, got ${options.momentum} and ${options.dampening}`,
      );
    }
  }

  protected hyperOf(options: SGDOptions): number[] {
    return [options.lr, options.momentum, options.dampening, 0, options.weightDecay, 0];
  }

  protected stateNames(options: SGDOptions): StateNames {
    return options.momentum > 0 ? { first: 'momentum' } : {};
  }

  protected flagsOf({ maximize, nesterov, form }: SGDOptions): number {
    return (
      (maximize ? flags.maximize : 0) +
      (nesterov ? flags.nesterov : 0) +
      (form === 'classical' ? flags.classical : 0)
    );
  }
}
