/** Layers for images [N, C, H, W], channels first as everywhere in this package. */
import { expectBoolean, expectInteger, expectOneOf } from '../check.js';
import { Conv2d } from '../nn/conv.js';
import * as init from '../nn/init.js';
import { Module } from '../nn/module.js';
import { AvgPool2d, MaxPool2d } from '../nn/pool.js';
import { max, mean } from '../ops/reduce.js';
import { expectPair, type Pair } from '../ops/spatial.js';
import type { Tensor } from '../tensor.js';
import {
  type Activation,
  activationModules,
  floats,
  type Initializer,
  initializerOf,
  known,
  type LayerOptions,
  type LazyLayer,
  named,
} from './layer.js';

const paddings = ['valid', 'same'] as const;

export interface ConvolutionOptions<Size> extends LayerOptions {
  activation?: Activation;
  /** 1 where left out. */
  strides?: Size;
  /** 'valid' (none) where left out; 'same' keeps the size and needs strides of 1. */
  padding?: (typeof paddings)[number];
  /** 1 where left out. */
  dilationRate?: Size;
  /** 1 where left out. */
  groups?: number;
  /** Whether there is a bias, of zeros at first; true where left out. */
  useBias?: boolean;
  /** 'glorotUniform' where left out. */
  kernelInitializer?: Initializer;
}

/**
 * Convolution of images: [N, C, H, W] to [N, filters, H', W'].
 * @example layers.conv2d(32, 3, { activation: 'relu' })
 */
export function conv2d(
  filters: number,
  kernelSize: Pair,
  options: ConvolutionOptions<Pair> = {},
): LazyLayer {
  const op = 'conv2d';
  const given = named(op, options);
  const { strides = 1, padding = 'valid', dilationRate = 1, groups = 1, useBias = true } = given;
  expectInteger(op, 'filters', filters, 1);
  expectPair(op, 'kernelSize', kernelSize, 1);
  expectPair(op, 'strides', strides, 1);
  expectOneOf(op, 'padding', padding, paddings);
  expectPair(op, 'dilationRate', dilationRate, 1);
  expectInteger(op, 'groups', groups, 1);
  const bias = expectBoolean(op, 'useBias', useBias);
  const initialize = initializerOf(op, given.kernelInitializer ?? 'glorotUniform');
  activationModules(op, given.activation);
  return {
    kind: op,
    name: given.name,
    needs: floats(3, 0),
    build: (shape, place) => {
      const layer = new Conv2d(known(shape, 0), filters, kernelSize, {
        ...{ stride: strides, padding, dilation: dilationRate, groups, bias },
        ...place,
      });
      initialize(layer.weight);
      if (layer.bias) init.zeros(layer.bias);
      return [layer, ...activationModules(op, given.activation)];
    },
  };
}

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
  const { name, strides = size } = named(kind, options);
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
  const { name } = named('globalAvgPool2d', options);
  const build = () => [new GlobalPool('mean', [2, 3])];
  return { kind: 'globalAvgPool2d', name, needs: floats(3, 0), build };
}

/** The maximum of each channel of an image: [N, C, H, W] to [N, C]. */
export function globalMaxPool2d(options: LayerOptions = {}): LazyLayer {
  const { name } = named('globalMaxPool2d', options);
  const build = () => [new GlobalPool('max', [2, 3])];
  return { kind: 'globalMaxPool2d', name, needs: floats(3, 0), build };
}
