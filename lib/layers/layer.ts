/**
 * Layers whose sizes are not known yet: `sequential` builds each from the shape that reaches it. What
 * they are built of are the modules of lib/nn; defaults and initial values are Keras's.
 */
import { type AllNames, describe, expectNames, expectOneOf, type NameOf } from '../check.js';
import { type DType, isFloating } from '../dtype.js';
import {
  ELU,
  GELU,
  Identity,
  LeakyReLU,
  ReLU,
  SELU,
  Sigmoid,
  SiLU,
  Softmax,
  Softplus,
  Softsign,
  Tanh,
} from '../nn/activation.js';
import * as init from '../nn/init.js';
import { Module } from '../nn/module.js';
import type { Layer } from '../nn/sequential.js';
import type { TensorOptions } from '../ops/fill.js';
import type { Layout2d } from '../ops/spatial.js';
import type { Tensor } from '../tensor.js';

/** Sizes without the batch's; null where any size will do. */
export type FreeShape = readonly (number | null)[];

/** Where parameters are put. */
export type Place = Pick<TensorOptions, 'device'>;

/** What a layer asks of its input, sizes without the batch's. */
export interface Requirement {
  /** As errors say it: `floating-point numbers [N,784]`. */
  readonly text: string;
  readonly holds: (shape: FreeShape, dtype: DType) => boolean;
}

/** A layer that is yet to be built. */
export interface LazyLayer {
  /** The factory's name: `dense`. */
  readonly kind: string;
  /** The user's name for it. */
  readonly name?: string | undefined;
  /** For a table of vectors, how many it holds: its input is indices below. */
  readonly vocabulary?: number;
  /** What it asks of its input, given the shape it was or is to be built for. */
  readonly needs: (shape: FreeShape | null) => Requirement;
  /** The modules that make it, in order. */
  readonly build: (shape: FreeShape, place: Place) => Layer[];
}

/** What layers of images take. */
export interface ImageLayout {
  /** Where channels are: 'channelsFirst' ([N, C, H, W]) where left out, or 'channelsLast'. */
  dataFormat?: 'channelsFirst' | 'channelsLast';
}

/** @internal The order of an image's axes as modules name it, and the channels' without the batch's. */
export function imageLayout(
  op: string,
  { dataFormat = 'channelsFirst' }: ImageLayout,
): { layout: Layout2d; axis: 0 | -1 } {
  expectOneOf(op, 'dataFormat', dataFormat, ['channelsFirst', 'channelsLast']);
  return dataFormat === 'channelsLast' ? { layout: 'NHWC', axis: -1 } : { layout: 'NCHW', axis: 0 };
}

/** What every factory takes. */
export interface LayerOptions {
  /** Its name in summaries, errors and state dicts; `dense`, `dense_1` … where left out. */
  name?: string;
}

const activations = {
  relu: () => new ReLU(),
  sigmoid: () => new Sigmoid(),
  tanh: () => new Tanh(),
  softmax: () => new Softmax(-1),
  gelu: () => new GELU(),
  silu: () => new SiLU(),
  swish: () => new SiLU(),
  elu: () => new ELU(),
  selu: () => new SELU(),
  leakyRelu: () => new LeakyReLU(0.2),
  softplus: () => new Softplus(),
  softsign: () => new Softsign(),
  linear: () => new Identity(),
} as const;

/** An activation by name, or a module. */
export type Activation = keyof typeof activations | Layer;

/** @internal The modules of an activation: none for `linear`. */
export function activationModules(op: string, given: Activation | undefined): Layer[] {
  if (given === undefined || given === 'linear') return [];
  if (given instanceof Module) return [given];
  const make = Object.hasOwn(activations, given) ? activations[given] : null;
  if (make) return [make()];
  const known = Object.keys(activations).join(', ');
  throw new TypeError(
    `${op}: activation must be a module or one of ${known}, got ${describe(given)}`,
  );
}

const initializers = {
  glorotUniform: (w: Tensor) => init.xavierUniform(w),
  glorotNormal: (w: Tensor) => init.xavierNormal(w),
  heUniform: (w: Tensor) => init.kaimingUniform(w),
  heNormal: (w: Tensor) => init.kaimingNormal(w),
  orthogonal: (w: Tensor) => init.orthogonal(w),
  randomNormal: (w: Tensor) => init.normal(w, 0, 0.05),
  randomUniform: (w: Tensor) => init.uniform(w, -0.05, 0.05),
  zeros: (w: Tensor) => init.zeros(w),
  ones: (w: Tensor) => init.ones(w),
} as const;

/** Initial values by Keras's name, or a function that overwrites a tensor. */
export type Initializer = keyof typeof initializers | ((weight: Tensor) => unknown);

/** @internal The function of an initializer. */
export function initializerOf(op: string, given: Initializer): (weight: Tensor) => unknown {
  if (typeof given === 'function') return given;
  if (typeof given === 'string' && Object.hasOwn(initializers, given)) return initializers[given];
  const known = Object.keys(initializers).join(', ');
  throw new TypeError(
    `${op}: an initializer must be a function or one of ${known}, got ${describe(given)}`,
  );
}

/** @internal Name and options of a layer, checked. */
export function named<T extends LayerOptions, const Known extends readonly NameOf<T>[]>(
  kind: string,
  options: T | undefined,
  known: AllNames<T, Known>,
): T {
  const given = expectNames(kind, options, known);
  const { name } = given;
  if (name !== undefined && (typeof name !== 'string' || !/^[^.]+$/.test(name))) {
    throw new TypeError(`${kind}: name must be text without dots, got ${describe(name)}`);
  }
  return given;
}

const letters: Record<number, string> = { 1: 'C', 2: 'T,C', 3: 'C,H,W' };

/**
 * @internal Floating-point numbers of a rank (that of a sample, given), whose size on `axis` is the
 * one that the layer was built for.
 */
export function floats(rank: number | null, axis: number): LazyLayer['needs'] {
  return (shape) => {
    const size = shape?.at(axis) ?? null;
    const sizes = (letters[rank ?? 0] ?? '…,C').split(',');
    if (size !== null) sizes[axis < 0 ? sizes.length + axis : axis] = String(size);
    return {
      text: `floating-point numbers [N,${sizes.join()}]`,
      holds: (found, dtype) =>
        isFloating(dtype) &&
        (rank === null ? found.length > 0 : found.length === rank) &&
        found.at(axis) !== null &&
        (size === null || found.at(axis) === size),
    };
  };
}

/** @internal Anything. */
export const anything: LazyLayer['needs'] = () => ({ text: 'anything', holds: () => true });

/** @internal A size that must be known. */
export function known(shape: FreeShape, axis: number): number {
  return shape.at(axis) as number;
}
