/** Convolutions of images [N, C, H, W] and of sequences [N, T, C]. */
import { expectBoolean, expectInteger, expectOneOf } from '../check.js';
import { Conv1d, Conv2d } from '../nn/conv.js';
import * as init from '../nn/init.js';
import { Module } from '../nn/module.js';
import type { Layer } from '../nn/sequential.js';
import type { ConvOptions } from '../ops/conv.js';
import { expectPair, expectSingle, type Pair } from '../ops/spatial.js';
import { transpose } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import {
  type Activation,
  activationModules,
  type FreeShape,
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

/** @internal A layer of [N, C, T] for [N, T, C]. */
export class FeaturesLast extends Module {
  constructor(readonly layer: Layer) {
    super();
  }
  forward(x: Tensor): Tensor {
    return transpose(this.layer.forward(transpose(x, 1, 2)), 1, 2);
  }
}

/** What convolutions along one axis and along two have in common: all but their modules. */
function convolution<Size>(
  kind: string,
  filters: number,
  kernelSize: Size,
  options: ConvolutionOptions<Size | number>,
  expectSize: (op: string, name: string, value: unknown, least: number) => unknown,
  needs: LazyLayer['needs'],
  make: (shape: FreeShape, options: ConvOptions<Size | number>) => [Conv1d | Conv2d, Layer],
): LazyLayer {
  const given = named(kind, options, [
    'name',
    'activation',
    'strides',
    'padding',
    'dilationRate',
    'groups',
    'useBias',
    'kernelInitializer',
  ]);
  const { strides = 1, padding = 'valid', dilationRate = 1, groups = 1, useBias = true } = given;
  expectInteger(kind, 'filters', filters, 1);
  expectSize(kind, 'kernelSize', kernelSize, 1);
  expectSize(kind, 'strides', strides, 1);
  expectOneOf(kind, 'padding', padding, paddings);
  expectSize(kind, 'dilationRate', dilationRate, 1);
  expectInteger(kind, 'groups', groups, 1);
  const bias = expectBoolean(kind, 'useBias', useBias);
  const initialize = initializerOf(kind, given.kernelInitializer ?? 'glorotUniform');
  activationModules(kind, given.activation);
  return {
    kind,
    name: given.name,
    needs,
    build: (shape, place) => {
      const sizes = { stride: strides, padding, dilation: dilationRate, groups, bias };
      const [module, layer] = make(shape, { ...sizes, ...place });
      initialize(module.weight);
      if (module.bias) init.zeros(module.bias);
      return [layer, ...activationModules(kind, given.activation)];
    },
  };
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
  return convolution<Pair>(
    ...(['conv2d', filters, kernelSize, options, expectPair, floats(3, 0)] as const),
    (shape, sizes) => {
      const module = new Conv2d(known(shape, 0), filters, kernelSize, sizes);
      return [module, module];
    },
  );
}

/** Convolution along a sequence: [N, T, C] to [N, T', filters]. */
export function conv1d(
  filters: number,
  kernelSize: number,
  options: ConvolutionOptions<number> = {},
): LazyLayer {
  return convolution<number>(
    ...(['conv1d', filters, kernelSize, options, expectSingle, floats(2, -1)] as const),
    (shape, sizes) => {
      const module = new Conv1d(known(shape, -1), filters, kernelSize, sizes);
      return [module, new FeaturesLast(module)];
    },
  );
}
