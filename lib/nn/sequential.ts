/** Layers one after another. */
import { describe } from '../check.js';
import type { Tensor } from '../tensor.js';
import { GELU, ReLU } from './activation.js';
import { Conv1d, Conv2d } from './conv.js';
import { Linear } from './linear.js';
import { Module } from './module.js';
import { MaxPool1d, MaxPool2d } from './pool.js';

/** A module from one tensor to one tensor. */
export interface Layer extends Module {
  forward(x: Tensor): Tensor;
}

/** Whether a layer is of one of these kinds, with a forward that nobody overrode, replaced or hooked. */
function isPlain(layer: Layer | undefined, ...kinds: (new (...args: never[]) => Layer)[]): boolean {
  return kinds.some((kind) => layer instanceof kind && layer.forward === kind.prototype.forward);
}

/**
 * Gives each layer what the one before returned. A Linear followed by a ReLU or GELU runs as one
 * kernel, as does a convolution by a ReLU; where a maximum is pooled next, ReLU is part of that
 * instead: the same numbers from fewer elements, and of the convolution's kernel too where that serves
 * (maxima of 2 by 2 of a first layer on a GPU). A layer with a forward of its own (a subclass's,
 * one put in its place, one with hooks) runs by itself.
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
    for (let i = 0; i < this.layers.length; ) {
      const count = this.joined(i);
      y = this.run(i, count, y);
      i += count;
    }
    return y;
  }

  /** How many layers from number `i` on run together. */
  protected joined(i: number): number {
    const [layer, next, afterNext] = this.layers.slice(i, i + 3);
    if (isPlain(layer, Linear)) return isPlain(next, ReLU, GELU) ? 2 : 1;
    if (!isPlain(layer, Conv1d, Conv2d) || !isPlain(next, ReLU)) return 1;
    return isPlain(afterNext, MaxPool1d, MaxPool2d) ? 3 : 2;
  }

  /** The result of `count` layers, which {@link joined} gave, from number `i` on. */
  protected run(i: number, count: number, x: Tensor): Tensor {
    const layer = this.layers[i] as Layer;
    if (count === 1) return layer.forward(x);
    if (count === 2) {
      if (!(layer instanceof Linear)) return (layer as Conv1d | Conv2d).forwardRelu(x);
      const next = this.layers[i + 1] as Layer;
      if (!(next instanceof GELU)) return layer.forwardWith('relu', x);
      return layer.forwardWith(next.approximate === 'tanh' ? 'geluTanh' : 'gelu', x);
    }
    const pool = this.layers[i + 2] as MaxPool1d | MaxPool2d;
    if (layer instanceof Conv2d && pool instanceof MaxPool2d && pool.takesPairs()) {
      const [from, to] = [layer, pool].map(({ options }) => options.layout ?? 'NCHW');
      if (from === to) return layer.forwardMaxPool(x);
    }
    return pool.forwardRelu(layer.forward(x));
  }

  override *namedChildren(): Generator<[string, Module]> {
    for (const [name, child] of super.namedChildren()) yield [name.replace(/^layers\./, ''), child];
  }
}
