/** Layers one after another. */
import { describe } from '../check.js';
import { relu } from '../ops/unary.js';
import type { Tensor } from '../tensor.js';
import { ReLU } from './activation.js';
import { Conv1d, Conv2d } from './conv.js';
import { hasHooks } from './hooks.js';
import { Linear } from './linear.js';
import { Module } from './module.js';
import { MaxPool1d, MaxPool2d } from './pool.js';

/** A module from one tensor to one tensor. */
export interface Layer extends Module {
  forward(x: Tensor): Tensor;
}

function isConvolution(layer: Layer | undefined): layer is Conv1d | Conv2d {
  return layer instanceof Conv2d || layer instanceof Conv1d;
}

function isMaximum(layer: Layer | undefined): layer is MaxPool1d | MaxPool2d {
  return layer instanceof MaxPool2d || layer instanceof MaxPool1d;
}

/**
 * Gives each layer what the one before returned. A Linear followed by a ReLU runs as one kernel, as does a
 * convolution; where a maximum is pooled next, ReLU follows that instead: the same numbers from
 * fewer elements.
 * @example new nn.Sequential(new nn.Linear(784, 128), new nn.ReLU(), new nn.Linear(128, 10))
 */
export class Sequential extends Module {
  readonly layers: Layer[];

  constructor(...layers: Layer[]) {
    super();
    for (const layer of layers) {
      if (!(layer instanceof Module)) {
        throw new TypeError(`Sequential: layers must be modules, got ${describe(layer)}`);
      }
    }
    this.layers = layers;
  }

  forward(x: Tensor): Tensor {
    let y = x;
    for (let i = 0; i < this.layers.length; ++i) {
      const layer = this.layers[i] as Layer;
      const [next, afterNext] = [this.layers[i + 1], this.layers[i + 2]];
      const fusible = next instanceof ReLU && !hasHooks(layer) && !hasHooks(next);
      if (fusible && isMaximum(afterNext) && isConvolution(layer) && !hasHooks(afterNext)) {
        y = relu(afterNext.forward(layer.forward(y)));
        i += 2;
      } else if (fusible && (isConvolution(layer) || layer instanceof Linear)) {
        y = layer.forwardRelu(y);
        ++i;
      } else {
        y = layer.forward(y);
      }
    }
    return y;
  }

  override *namedChildren(): Generator<[string, Module]> {
    for (const [i, layer] of this.layers.entries()) yield [String(i), layer];
  }
}
