/** Layers for images: [N, C, H, W], or [N, H, W, C] with the data format 'channelsLast'. */
import { Module } from '../nn/module.js';
import { AvgPool2d, MaxPool2d } from '../nn/pool.js';
import { max, mean } from '../ops/reduce.js';
import { expectPair, type Layout2d, type Pair } from '../ops/spatial.js';
import type { Tensor } from '../tensor.js';
import {
  floats,
  type ImageLayout,
  imageLayout,
  type LayerOptions,
  type LazyLayer,
  named,
} from './layer.js';

/** A layer of images that has no other options. */
export interface ImageOptions extends LayerOptions, ImageLayout {}

export interface PoolOptions extends LayerOptions, ImageLayout {
  /** The size of the windows where left out. */
  strides?: Pair;
}

function pool2d(
  kind: string,
  make: (size: Pair, options: { stride: Pair; layout: Layout2d }) => MaxPool2d | AvgPool2d,
  size: Pair,
  options: PoolOptions,
): LazyLayer {
  const { name, strides = size } = named(kind, options, ['name', 'strides', 'dataFormat']);
  const { layout, axis } = imageLayout(kind, options);
  expectPair(kind, 'poolSize', size, 1);
  expectPair(kind, 'strides', strides, 1);
  return {
    kind,
    name,
    needs: floats(3, axis),
    build: () => [make(size, { stride: strides, layout })],
  };
}

/** The largest element of each window of an image. */
export function maxPool2d(poolSize: Pair = 2, options: PoolOptions = {}): LazyLayer {
  return pool2d('maxPool2d', (size, given) => new MaxPool2d(size, given), poolSize, options);
}

/** The average of each window of an image. */
export function avgPool2d(poolSize: Pair = 2, options: PoolOptions = {}): LazyLayer {
  return pool2d('avgPool2d', (size, given) => new AvgPool2d(size, given), poolSize, options);
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

function globalPool(kind: string, of: 'mean' | 'max', options: ImageOptions): LazyLayer {
  const { name } = named(kind, options, ['name', 'dataFormat']);
  const { axis } = imageLayout(kind, options);
  const build = () => [new GlobalPool(of, axis === 0 ? [2, 3] : [1, 2])];
  return { kind, name, needs: floats(3, axis), build };
}

/** The mean of each channel of an image: [N, C, H, W] to [N, C]. */
export function globalAvgPool2d(options: ImageOptions = {}): LazyLayer {
  return globalPool('globalAvgPool2d', 'mean', options);
}

/** The maximum of each channel of an image: [N, C, H, W] to [N, C]. */
export function globalMaxPool2d(options: ImageOptions = {}): LazyLayer {
  return globalPool('globalMaxPool2d', 'max', options);
}
