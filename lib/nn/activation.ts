/** Activations as modules. */
import { forPrecision } from '../autocast.js';
import {
  expectInteger,
  expectNumber,
  expectOneOf,
  expectOptions,
  expectRange,
  expectTensor,
} from '../check.js';
import { div, gt, leakyRelu, logaddexp, mul, where } from '../ops/binary.js';
import { celu, clamp, glu } from '../ops/blend.js';
import { full, type TensorOptions, tensorNames } from '../ops/fill.js';
import { logSoftmax, softmax } from '../ops/softmax.js';
import * as unary from '../ops/unary.js';
import { flatten, reshape } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import { Module, parameter } from './module.js';

/** The base of activations that are one function without options. */
function pointwise(fn: (x: Tensor) => Tensor): new () => Module & { forward(x: Tensor): Tensor } {
  return class extends Module {
    forward(x: Tensor): Tensor {
      return fn(x);
    }
  };
}

/** max(x, 0) */
export class ReLU extends pointwise(unary.relu) {}

/** 1 / (1 + e⁻ˣ) */
export class Sigmoid extends pointwise(unary.sigmoid) {}

/** Hyperbolic tangent. */
export class Tanh extends pointwise(unary.tanh) {}

/** x·Φ(x): exact, or by its tanh approximation 0.5x(1 + tanh(√(2/π)(x + 0.044715x³))). */
export class GELU extends Module {
  readonly approximate: 'none' | 'tanh';
  constructor(options: { approximate?: 'none' | 'tanh' } = {}) {
    super();
    const { approximate = 'none' } = expectOptions('GELU', options, ['approximate']);
    this.approximate = expectOneOf('GELU', 'approximate', approximate, ['none', 'tanh'] as const);
  }
  forward(x: Tensor): Tensor {
    return this.approximate === 'tanh' ? unary.geluTanh(x) : unary.gelu(x);
  }
}

/** x·sigmoid(x) */
export class SiLU extends pointwise(unary.silu) {}

/** ln(1 + e^(beta·x))/beta, and x itself where beta·x is above the threshold. */
export class Softplus extends Module {
  constructor(
    readonly beta = 1,
    readonly threshold = 20,
  ) {
    super();
    if (expectNumber('Softplus', 'beta', beta) === 0) {
      throw new RangeError('Softplus: beta must not be 0, got 0');
    }
    expectNumber('Softplus', 'threshold', threshold);
  }
  forward(input: Tensor): Tensor {
    if (this.beta === 1 && this.threshold === 20) return unary.softplus(input);
    const x = forPrecision(expectTensor('Softplus', input));
    const scaled = mul(x, this.beta);
    const curve = div(logaddexp(scaled, 0), this.beta);
    return where(gt(scaled, this.threshold), x, curve);
  }
}

/** min(max(x, 0), 6) */
export class ReLU6 extends pointwise(unary.relu6) {}

/** relu6(x + 3)/6 */
export class Hardsigmoid extends pointwise(unary.hardsigmoid) {}

/** x·relu6(x + 3)/6 */
export class Hardswish extends pointwise(unary.hardswish) {}

/** elu scaled so that activations keep mean 0 and variance 1 (Klambauer et al., 2017). */
export class SELU extends pointwise(unary.selu) {}

/** x·tanh(ln(1 + eˣ)) */
export class Mish extends pointwise(unary.mish) {}

/** x/(1 + |x|) */
export class Softsign extends pointwise(unary.softsign) {}

/** ln(1/(1 + e⁻ˣ)) */
export class LogSigmoid extends pointwise(unary.logSigmoid) {}

/** x limited to [min, max], to [-1, 1] where left out. */
export class Hardtanh extends Module {
  constructor(
    readonly min = -1,
    readonly max = 1,
  ) {
    super();
    expectNumber('Hardtanh', 'min', min);
    expectRange('Hardtanh', 'max', max, min);
  }
  forward(x: Tensor): Tensor {
    return this.min === -1 && this.max === 1 ? unary.hardtanh(x) : clamp(x, this.min, this.max);
  }
}

/** x where positive, else x·slope. */
export class LeakyReLU extends Module {
  constructor(readonly slope = 0.01) {
    super();
    expectNumber('LeakyReLU', 'slope', slope);
  }
  forward(x: Tensor): Tensor {
    return leakyRelu(x, this.slope);
  }
}

/** x where positive, else x·weight: one parameter, or one per channel of [N, C, …]; 0.25 at first. */
export class PReLU extends Module {
  readonly weight: Tensor;
  constructor(numParameters = 1, options: TensorOptions & { init?: number } = {}) {
    super();
    const { init = 0.25, ...place } = expectOptions('PReLU', options, ['init', ...tensorNames]);
    const count = expectInteger('PReLU', 'numParameters', numParameters, 1);
    this.weight = parameter(full([count], expectNumber('PReLU', 'init', init), place));
  }
  forward(x: Tensor): Tensor {
    const { rank, shape } = expectTensor('PReLU', x);
    const { size } = this.weight;
    if (size === 1) return leakyRelu(x, reshape(this.weight, []));
    if (rank < 2 || shape[1] !== size) {
      throw new RangeError(`PReLU: the input must be [N,${size},…], got [${shape}]`);
    }
    return leakyRelu(x, reshape(this.weight, [size, ...new Array<number>(rank - 2).fill(1)]));
  }
}

/** The first half of an even axis, the last where left out, times the sigmoid of the second. */
export class GLU extends Module {
  constructor(readonly axis = -1) {
    super();
    expectInteger('GLU', 'axis', axis);
  }
  forward(x: Tensor): Tensor {
    return glu(x, this.axis);
  }
}

/** x where positive, else alpha·(eˣ - 1). */
export class ELU extends Module {
  constructor(readonly alpha = 1) {
    super();
    expectNumber('ELU', 'alpha', alpha);
  }
  forward(x: Tensor): Tensor {
    const y = unary.elu(x);
    return this.alpha === 1 ? y : where(gt(x, 0), y, mul(y, this.alpha));
  }
}

/** x where positive, else alpha·(exp(x/alpha) - 1). */
export class CELU extends Module {
  constructor(readonly alpha = 1) {
    super();
    expectNumber('CELU', 'alpha', alpha);
  }
  forward(x: Tensor): Tensor {
    return celu(x, this.alpha);
  }
}

/** eˣ / Σ eˣ over an axis, the last where left out. */
export class Softmax extends Module {
  constructor(readonly axis = -1) {
    super();
    expectInteger('Softmax', 'axis', axis);
  }
  forward(x: Tensor): Tensor {
    return softmax(x, this.axis);
  }
}

/** The logarithm of softmax over an axis, the last where left out. */
export class LogSoftmax extends Module {
  constructor(readonly axis = -1) {
    super();
    expectInteger('LogSoftmax', 'axis', axis);
  }
  forward(x: Tensor): Tensor {
    return logSoftmax(x, this.axis);
  }
}

/** Axes from `start` to `end`, both included, as one; all but the batch where left out. */
export class Flatten extends Module {
  constructor(
    readonly start = 1,
    readonly end = -1,
  ) {
    super();
    expectInteger('Flatten', 'start', start);
    expectInteger('Flatten', 'end', end);
  }
  forward(x: Tensor): Tensor {
    return flatten(x, this.start, this.end);
  }
}

/** The input itself. */
export class Identity extends Module {
  forward(x: Tensor): Tensor {
    return x;
  }
}
