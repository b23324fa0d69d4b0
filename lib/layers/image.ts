/** Layers for images [N, C, H, W], channels first as everywhere in this package. */
import { Module } from '../nn/module.js';
import { AvgPool2d, MaxPool2d } from '../nn/pool.js';
import { max, mean } from '../ops/reduce.js';
import { expectPair, type Pair } from '../ops/spatial.js';
import type { Tensor } from '../tensor.js';
import { floats, type LayerOptions, type LazyLayer, named } from './layer.js';

export interface PoolOptions extends LayerOptions {
  /** The size of the windows where left out. */
  strides?: Pair;
}

function pool2d(
  kind: string,
  make: (size: Pair, stride: Pair) => Module,
  size: Pair,
  options: PoolOptions,
): LazyLayer {
  const { name, strides = size } = named(kind, options, ['name', 'strides']);
  expectPair(kind, 'poolSize', size, 1);
  expectPair(kind, 'strides', strides, 1);
  return {
    kind,
    name,
    needs: floats(3, 0),
    build: () => [make(size, strides) as MaxPool2d],
  };
}

/** The largest element of each window of an image. */
export function maxPool2d(poolSize: Pair = 2, options: PoolOptions = {}): LazyLayer {
  return pool2d('maxPool2d', (size, stride) => new MaxPool2d(size, { stride }), poolSize, options);
}

/** The average of each window of an image. */
export function avgPool2d(poolSize: Pair = 2, options: PoolOptions = {}): LazyLayer {
  return pool2d('avgPool2d', (size, stride) => new AvgPool2d(size, { stride }), poolSize, options);
}

/** @internal One number per channel: of all places, the mean or the maximum. */
export class GlobalPool extends Module {
  constructor(
    readonly of: 'mean' | 'max',
    readonly axes: readonly number[],
  ) {
    super();
  }
  forward(x: Tensor): Tensor {
    if (this.of === 'mean') return mean(x, [...this.axes]);
    return max(x, [...this.axes]);
  }
}

/** The mean of each channel of an image: [N, C, H, W] to [N, C]. */
export function globalAvgPool2d(options: LayerOptions = {}): LazyLayer {
  const { name } = named('globalAvgPool2d', options, ['name']);
  const build = () => [new GlobalPool('mean', [2, 3])];
  return { kind: 'globalAvgPool2d', name, needs: floats(3, 0), build };
}

/** The maximum of each channel of an image: [N, C, H, W] to [N, C]. */
export function globalMaxPool2d(options: LayerOptions = {}): LazyLayer {
  const { name } = named('globalMaxPool2d', options, ['name']);
  const build = () => [new GlobalPool('max', [2, 3])];
  return { kind: 'globalMaxPool2d', name, needs: floats(3, 0), build };
}
