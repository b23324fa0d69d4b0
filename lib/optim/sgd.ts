/**
 * Stochastic gradient descent, in PyTorch's form:
 * g ← g + weightDecay·w; v ← momentum·v + (1 − dampening)·g (v ← g at first);
 * w ← w − lr·v, or w − lr·(g + momentum·v) with Nesterov.
 * Source: Sutskever, Martens, Dahl and Hinton 2013, as torch.optim.SGD has it.
 */
import { expectBoolean, expectNumber, expectOptions, expectRange } from '../check.js';
import { native } from '../native.js';
import { Optimizer, type Parameters } from './optimizer.js';

declare module '../native.js' {
  interface NativeKernels {
    sgd(
      params: Numbers,
      grads: Numbers,
      momenta: Numbers,
      hyper: Handle,
      nesterov: boolean,
      maximize: boolean,
    ): void;
  }
}

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
}

const defaults: SGDOptions = {
  lr: 1e-3,
  momentum: 0,
  dampening: 0,
  weightDecay: 0,
  nesterov: false,
  maximize: false,
};

export class SGD extends Optimizer<SGDOptions> {
  constructor(parameters: Parameters<SGDOptions>, options: Partial<SGDOptions> = {}) {
    super('SGD', parameters, { ...defaults, ...expectOptions('SGD', options) });
  }

  protected validate(options: SGDOptions): void {
    expectRange('SGD', 'lr', options.lr, 0);
    expectRange('SGD', 'momentum', options.momentum, 0);
    expectNumber('SGD', 'dampening', options.dampening);
    expectRange('SGD', 'weightDecay', options.weightDecay, 0);
    expectBoolean('SGD', 'nesterov', options.nesterov);
    expectBoolean('SGD', 'maximize', options.maximize);
    if (options.nesterov && (options.momentum === 0 || options.dampening !== 0)) {
      throw new RangeError(
        `SGD: nesterov needs momentum and no dampening, got ${options.momentum} and ${options.dampening}`,
      );
    }
  }

  protected hyperOf(options: SGDOptions): number[] {
    return [options.lr, options.momentum, options.dampening, 0, options.weightDecay, 0];
  }

  protected stateNames(options: SGDOptions): string[] {
    return options.momentum > 0 ? ['momentum'] : [];
  }

  protected update(
    options: SGDOptions,
    hyperHandle: number,
    parameters: Float64Array,
    gradients: Float64Array,
    [momenta = new Float64Array()]: Float64Array[],
  ): void {
    native.sgd(parameters, gradients, momenta, hyperHandle, options.nesterov, options.maximize);
  }
}
