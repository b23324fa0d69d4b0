/** Layers for vectors, and for any shape. */
import {
  expectBoolean,
  expectFunction,
  expectInteger,
  expectNumber,
  expectRange,
  expectShape,
} from '../check.js';
import { isFloating } from '../dtype.js';
import { Flatten } from '../nn/activation.js';
import { Dropout } from '../nn/dropout.js';
import * as init from '../nn/init.js';
import { Linear } from '../nn/linear.js';
import { Module } from '../nn/module.js';
import { BatchNorm1d, BatchNorm2d, LayerNorm } from '../nn/norm.js';
import { add, mul } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { reshape } from '../ops/view.js';
import type { Shape, Tensor } from '../tensor.js';
import {
  type Activation,
  activationModules,
  anything,
  floats,
  type ImageLayout,
  type Initializer,
  imageLayout,
  initializerOf,
  known,
  type LayerOptions,
  type LazyLayer,
  named,
} from './layer.js';

export interface DenseOptions extends LayerOptions {
  activation?: Activation;
  /** Whether there is a bias, of zeros at first; true where left out. */
  useBias?: boolean;
  /** 'glorotUniform' where left out. */
  kernelInitializer?: Initializer;
}

/**
 * A fully connected layer over the last axis: [N, …, C] to [N, …, units].
 * @example layers.dense(128, { activation: 'relu' })
 */
export function dense(units: number, options: DenseOptions = {}): LazyLayer {
  const {
    name,
    activation,
    useBias = true,
    kernelInitializer = 'glorotUniform',
  } = named('dense', options, ['name', 'activation', 'useBias', 'kernelInitializer']);
  expectInteger('dense', 'units', units, 1);
  const bias = expectBoolean('dense', 'useBias', useBias);
  const initialize = initializerOf('dense', kernelInitializer);
  activationModules('dense', activation);
  return {
    kind: 'dense',
    name,
    needs: floats(null, -1),
    build: (shape, place) => {
      const layer = new Linear(known(shape, -1), units, { bias, ...place });
      initialize(layer.weight);
      if (layer.bias) init.zeros(layer.bias);
      return [layer, ...activationModules('dense', activation)];
    },
  };
}

/** An activation as a layer of its own. */
export function activation(kind: Activation, options: LayerOptions = {}): LazyLayer {
  const { name } = named('activation', options, ['name']);
  activationModules('activation', kind);
  return {
    kind: typeof kind === 'string' ? kind : 'activation',
    name,
    needs: anything,
    build: () => activationModules('activation', kind),
  };
}

/** Zeroes each element with the probability `rate` in training and scales the others. */
export function dropout(rate: number, options: LayerOptions = {}): LazyLayer {
  const { name } = named('dropout', options, ['name']);
  expectRange('dropout', 'rate', rate, 0, 1);
  return { kind: 'dropout', name, needs: anything, build: () => [new Dropout(rate)] };
}

/** All axes but the batch's as one. */
export function flatten(options: LayerOptions = {}): LazyLayer {
  const { name } = named('flatten', options, ['name']);
  return { kind: 'flatten', name, needs: anything, build: () => [new Flatten()] };
}

class Reshape extends Module {
  constructor(readonly sizes: Shape) {
    super();
  }
  forward(x: Tensor): Tensor {
    return reshape(x, [x.shape[0] as number, ...this.sizes]);
  }
}

/** Another shape for each sample; one size may be -1. */
export function reshapeTo(sizes: Shape, options: LayerOptions = {}): LazyLayer {
  const { name } = named('reshape', options, ['name']);
  expectShape('reshape', sizes);
  return { kind: 'reshape', name, needs: anything, build: () => [new Reshape([...sizes])] };
}

class Rescaling extends Module {
  constructor(
    readonly scale: number,
    readonly offset: number,
  ) {
    super();
  }
  forward(x: Tensor): Tensor {
    const scaled = mul(isFloating(x.dtype) ? x : to(x, 'float32'), this.scale);
    return this.offset === 0 ? scaled : add(scaled, this.offset);
  }
}

/**
 * x·scale + offset, as floating-point numbers.
 * @example layers.rescaling(1 / 255)
 */
export function rescaling(
  scale: number,
  options: LayerOptions & { offset?: number } = {},
): LazyLayer {
  const { name, offset = 0 } = named('rescaling', options, ['name', 'offset']);
  expectNumber('rescaling', 'scale', scale);
  expectNumber('rescaling', 'offset', offset);
  return { kind: 'rescaling', name, needs: anything, build: () => [new Rescaling(scale, offset)] };
}

class Lambda extends Module {
  constructor(readonly fn: (x: Tensor) => Tensor) {
    super();
  }
  forward(x: Tensor): Tensor {
    return this.fn(x);
  }
}

/** A function as a layer. */
export function lambda(fn: (x: Tensor) => Tensor, options: LayerOptions = {}): LazyLayer {
  const { name } = named('lambda', options, ['name']);
  expectFunction('lambda', 'fn', fn);
  return { kind: 'lambda', name, needs: anything, build: () => [new Lambda(fn)] };
}

/** Batch norm of sequences [N, T, C] and images [N, H, W, C], per channel: all places are samples. */
class FeaturesLastNorm extends Module {
  readonly layer: BatchNorm1d;
  constructor(channels: number, options: ConstructorParameters<typeof BatchNorm1d>[1]) {
    super();
    this.layer = new BatchNorm1d(channels, options);
  }
  forward(x: Tensor): Tensor {
    const channels = x.shape.at(-1) as number;
    return reshape(this.layer.forward(reshape(x, [x.size / channels, channels])), x.shape);
  }
}

export interface BatchNormOptions extends LayerOptions, ImageLayout {
  /** How much of the running averages stays at each step; 0.99 where left out. */
  momentum?: number;
  /** Added to the variance; 1e-3 where left out. */
  epsilon?: number;
}

/**
 * Batch norm of vectors [N, C], sequences [N, T, C] and images [N, C, H, W] or, with the data format
 * 'channelsLast', [N, H, W, C], per channel.
 */
export function batchNorm(options: BatchNormOptions = {}): LazyLayer {
  const {
    name,
    momentum = 0.99,
    epsilon = 1e-3,
  } = named('batchNorm', options, ['name', 'momentum', 'epsilon', 'dataFormat']);
  expectRange('batchNorm', 'momentum', momentum, 0, 1);
  expectRange('batchNorm', 'epsilon', epsilon, 0);
  const { axis } = imageLayout('batchNorm', options);
  const channelAxis = (rank: number): number => (rank === 3 ? axis : -1);
  return {
    kind: 'batchNorm',
    name,
    needs: (shape) => {
      const own = floats(shape?.length ?? null, channelAxis(shape?.length ?? 0))(shape);
      return {
        text: shape ? own.text : 'floating-point numbers [N,C], [N,T,C] or [N,C,H,W]',
        holds: (found, dtype) => found.length > 0 && found.length < 4 && own.holds(found, dtype),
      };
    },
    build: (shape, place) => {
      const channels = known(shape, channelAxis(shape.length));
      const given = { momentum: 1 - momentum, eps: epsilon, ...place };
      if (shape.length === 1) return [new BatchNorm1d(channels, given)];
      const first = shape.length === 3 && axis === 0;
      return [first ? new BatchNorm2d(channels, given) : new FeaturesLastNorm(channels, given)];
    },
  };
}

/** Layer norm over the last axis. */
export function layerNorm(options: LayerOptions & { epsilon?: number } = {}): LazyLayer {
  const { name, epsilon = 1e-3 } = named('layerNorm', options, ['name', 'epsilon']);
  expectRange('layerNorm', 'epsilon', epsilon, 0);
  return {
    kind: 'layerNorm',
    name,
    needs: floats(null, -1),
    build: (shape, place) => [new LayerNorm(known(shape, -1), { eps: epsilon, ...place })],
  };
}
