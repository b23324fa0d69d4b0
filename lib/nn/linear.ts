/** The fully connected layer. */
import { expectInteger, expectOptions } from '../check.js';
import type { TensorOptions } from '../ops/fill.js';
import { zeros } from '../ops/fill.js';
import { type LinearActivation, linear } from '../ops/gemm.js';
import { gelu, geluTanh, relu } from '../ops/unary.js';
import type { Tensor } from '../tensor.js';
import { kaimingUniform, uniform } from './init.js';
import { Module, parameter } from './module.js';
import type { Layer } from './sequential.js';

const activations = { relu, gelu, geluTanh };

export interface LinearOptions extends Pick<TensorOptions, 'dtype' | 'device'> {
  /** Whether there is a bias; true where left out. */
  bias?: boolean;
}

/**
 * y = x·Wᵀ + b: [..., in] to [..., out]. Weight and bias start uniform in ±1/√in, as PyTorch's.
 * @example const layer = new nn.Linear(784, 128);
 */
export class Linear extends Module {
  /** [out, in] */
  weight: Tensor;
  /** [out], or null */
  bias: Tensor | null;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    options: LinearOptions = {},
  ) {
    super();
    expectInteger('Linear', 'inFeatures', inFeatures, 1);
    expectInteger('Linear', 'outFeatures', outFeatures, 1);
    const { bias = true, ...place } = expectOptions('Linear', options, ['bias', 'dtype', 'device']);
    this.weight = parameter(zeros([outFeatures, inFeatures], place));
    kaimingUniform(this.weight, { a: Math.sqrt(5) });
    this.bias = null;
    if (bias) {
      const bound = 1 / Math.sqrt(inFeatures);
      this.bias = parameter(zeros([outFeatures], place));
      uniform(this.bias, -bound, bound);
    }
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }

  /** The layer followed by an activation: as one kernel, where `forward` is this class's own. */
  forwardWith(activation: LinearActivation, x: Tensor): Tensor {
    if (this.forward !== Linear.prototype.forward) return activations[activation](this.forward(x));
    return linear(x, this.weight, this.bias, { activation });
  }

  protected override describe(): string {
    return `${this.inFeatures} → ${this.outFeatures}${this.bias ? '' : ', no bias'}`;
  }
}

/** @internal A layer, which another module may have replaced, followed by an activation. */
export function activated(layer: Layer, activation: LinearActivation, x: Tensor): Tensor {
  if (layer instanceof Linear) return layer.forwardWith(activation, x);
  return activations[activation](layer.forward(x));
}
