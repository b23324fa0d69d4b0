/** Layer norm and dropout as compositions, for the layers of transformer.ts. */
import { expectOptions, expectRange } from '../check.js';
import { mul } from '../ops/binary.js';
import type { TensorOptions } from '../ops/fill.js';
import { ones, zeros } from '../ops/fill.js';
import { bernoulli } from '../ops/random.js';
import { mean } from '../ops/reduce.js';
import type { Shape, Tensor } from '../tensor.js';
import { Module, parameter } from './module.js';

export interface LayerNormOptions extends Pick<TensorOptions, 'dtype' | 'device'> {
  /** Added to the variance; 1e-5 where left out. */
  eps?: number;
}

/** (x - mean) / √(variance + ε) over the last axes, of the given shape; times weight plus bias. */
export function layerNorm(
  x: Tensor,
  shape: Shape,
  weight: Tensor,
  bias: Tensor,
  eps = 1e-5,
): Tensor {
  const axes = shape.map((_, i) => i - shape.length);
  const centered = x.sub(mean(x, axes, true));
  const variance = mean(centered.square(), axes, true);
  return centered.mul(variance.add(eps).rsqrt()).mul(weight).add(bias);
}

/** Normalises the last axes, of the given shape, with a weight and a bias that are trained. */
export class LayerNorm extends Module {
  readonly shape: Shape;
  readonly eps: number;
  weight: Tensor;
  bias: Tensor;

  constructor(shape: number | Shape, options: LayerNormOptions = {}) {
    super();
    const { eps = 1e-5, ...place } = expectOptions('LayerNorm', options);
    this.shape = typeof shape === 'number' ? [shape] : shape;
    this.eps = expectRange('LayerNorm', 'eps', eps, 0);
    this.weight = parameter(ones(this.shape, place));
    this.bias = parameter(zeros(this.shape, place));
  }

  forward(x: Tensor): Tensor {
    return layerNorm(x, this.shape, this.weight, this.bias, this.eps);
  }
}

/** While training, zeros with probability p; what is left grows by 1 / (1 - p). */
export function dropout(x: Tensor, p: number, training: boolean): Tensor {
  if (!training || p === 0) return x;
  const kept = bernoulli(x.shape, 1 - p, { dtype: x.dtype, device: x.device });
  return mul(x, p < 1 ? mul(kept, 1 / (1 - p)) : kept);
}
