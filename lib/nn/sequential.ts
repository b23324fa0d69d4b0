/** Layers one after another. */
import { describe } from '../check.js';
import type { Tensor } from '../tensor.js';
import { ReLU } from './activation.js';
import { hasHooks } from './hooks.js';
import { Linear } from './linear.js';
import { Module } from './module.js';

/** A module from one tensor to one tensor. */
export interface Layer extends Module {
  forward(x: Tensor): Tensor;
}

/**
 * Gives each layer what the one before returned. A Linear followed by a ReLU runs as one kernel.
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
      const next = this.layers[i + 1];
      if (layer instanceof Linear && next instanceof ReLU && !hasHooks(layer) && !hasHooks(next)) {
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
