/** Convolutions of images [N, C, H, W] or [N, H, W, C] and of sequences [N, T, C]. */
import { expectBoolean, expectInteger, expectOneOf } from '../check.js';
import { Conv1d, Conv2d } from '../nn/conv.js';
import * as init from '../nn/init.js';
import type { ConvOptions } from '../ops/conv.js';
import { expectPair, expectSingle, type Pair } from '../ops/spatial.js';
import {
  type Activation,
  activationModules,
  type FreeShape,
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

const paddings = ['valid', 'same'] as const;

export interface ConvolutionOptions<Size> extends LayerOptions {
  activation?: Activation;
  /** 1 where left out. */
  strides?: Size;
  /** 'valid' (none) where left out; 'same' gives ⌈size / strides⌉, an odd zero behind. */
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

export interface Conv2dOptions extends ConvolutionOptions<Pair>, ImageLayout {}

const names = [
  'name',
  'activation',
  'strides',
  'padding',
  'dilationRate',
  'groups',
  'useBias',
  'kernelInitializer',
] as const;

/** The options of a module, but for the order of its axes. */
type Sizes<Size> = Omit<ConvOptions<Size | number>, 'layout'>;

/** What convolutions along one axis and along two have in common: all but their modules. */
function convolution<Size>(
  kind: string,
  filters: number,
  kernelSize: Size,
  given: ConvolutionOptions<Size | number>,
  expectSize: (op: string, name: string, value: unknown, least: number) => unknown,
  needs: LazyLayer['needs'],
  make: (shape: FreeShape, options: Sizes<Size>) => Conv1d | Conv2d,
): LazyLayer {
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
      const around = padding === 'same' ? 'sameUpper' : padding;
      const sizes = {
        stride: strides,
        padding: around,
        dilation: dilationRate,
        groups,
        bias,
      } as const;
      const module = make(shape, { ...sizes, ...place });
      initialize(module.weight);
      if (module.bias) init.zeros(module.bias);
      return [module, ...activationModules(kind, given.activation)];
    },
  };
}

/**
 * Convolution of images: [N, C, H, W] to [N, filters, H', W'], channels last where `dataFormat` says so.
 * @example layers.conv2d(32, 3, { activation: 'relu' })
 */
export function conv2d(filters: number, kernelSize: Pair, options: Conv2dOptions = {}): LazyLayer {
  const given = named('conv2d', options, [...names, 'dataFormat']);
  const { layout, axis } = imageLayout('conv2d', given);
  return convolution<Pair>(
    ...(['conv2d', filters, kernelSize, given, expectPair, floats(3, axis)] as const),
    (shape, sizes) => new Conv2d(known(shape, axis), filters, kernelSize, { ...sizes, layout }),
  );
}

/** Convolution along a sequence: [N, T, C] to [N, T', filters]. */
export function conv1d(
  filters: number,
  kernelSize: number,
  options: ConvolutionOptions<number> = {},
): LazyLayer {
  const given = named('conv1d', options, names);
  return convolution<number>(
    ...(['conv1d', filters, kernelSize, given, expectSingle, floats(2, -1)] as const),
    (shape, sizes) =>
      new Conv1d(known(shape, -1), filters, kernelSize, { ...sizes, layout: 'NLC' }),
  );
}
