/** Draws that need more than one number each: permutations, classes by weight, masks, cut normals. */

import { record } from '../autograd.js';
import {
  expectBoolean,
  expectInteger,
  expectNumber,
  expectOptions,
  expectRange,
  expectShape,
  expectTensor,
} from '../check.js';
import { type DType, dtypeCode } from '../dtype.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { cast } from './copy.js';
import { notDifferentiable, type OpRow, type OpRows } from './define.js';
import { deviceIn, finish } from './fill.js';
import { type Generator, generatorIn, type RandomOptions, randomNames } from './random.js';

declare module '../native.js' {
  interface NativeOps {
    randperm(device: number, count: number, state: Handle): void;
    multinomial(weights: Handle, samples: number, replacement: boolean, state: Handle): void;
    bernoulliEach(probability: Handle, state: Handle, dtype: number): void;
    truncatedNormal(
      device: number,
      shape: Numbers,
      dtype: number,
      state: Handle,
      mean: number,
      std: number,
      low: number,
      high: number,
    ): void;
  }
}

function row(summary: string, dtypes: OpRow['dtypes']): OpRow {
  return {
    family: 'sample',
    summary,
    dtypes,
    gradient: notDifferentiable('draws are no function of their inputs'),
  };
}

export const sampleOps: OpRows<'randperm' | 'multinomial' | 'bernoulliEach' | 'truncatedNormal'> = {
  randperm: row('the numbers below n in random order', 'int64'),
  multinomial: row('classes drawn in proportion to their weights', 'floating'),
  bernoulliEach: row('1 with each probability, else 0', 'floating'),
  truncatedNormal: row('normal, given that it is in [low, high]', 'floating'),
};

/**
 * The numbers 0 … n-1 in random order, int64 unless `dtype` says otherwise: sorted by 64 random
 * bits each, so that a seed gives the same order on every device.
 */
export function randperm(n: number, options: RandomOptions = {}): Tensor {
  expectOptions('randperm', options, randomNames);
  const on = deviceIn(options);
  const count = expectInteger('randperm', 'n', n, 0, 2 ** 32);
  const { dtype = 'int64' } = options;
  dtypeCode('randperm', dtype);
  native.randperm(on.code, count, generatorIn('randperm', options).state(on).h);
  const order = take(0, on);
  return finish('randperm', dtype === 'int64' ? order : cast(order, dtype), options);
}

/**
 * Classes drawn in proportion to weights, as PyTorch's `multinomial`: int64 [samples] or
 * [R,samples]. Where nothing is left to draw the class is -1; weights that are not positive count
 * as 0. Without replacement by Efraimidis and Spirakis 2006.
 * @param weights [C] or [R,C], floating; they need not add up to 1
 */
export function multinomial(
  weights: Tensor,
  samples: number,
  replacement = false,
  options: { generator?: Generator } = {},
): Tensor {
  const { device } = expectTensor('multinomial', weights, 'weights');
  const count = expectInteger('multinomial', 'samples', samples, 1);
  expectBoolean('multinomial', 'replacement', replacement);
  const state = generatorIn(
    'multinomial',
    expectOptions('multinomial', options, ['generator']),
  ).state(device);
  native.multinomial(weights.h, count, replacement, state.h);
  return record('multinomial', null, take(0, device), [weights], null, null);
}

/** @internal `bernoulli` of a tensor of probabilities. */
export function bernoulliEach(
  probability: Tensor,
  options: { generator?: Generator; dtype?: DType } = {},
): Tensor {
  const { device } = expectTensor('bernoulli', probability, 'probabilities');
  const { dtype = probability.dtype } = expectOptions('bernoulli', options, ['generator', 'dtype']);
  const state = generatorIn('bernoulli', options).state(device);
  native.bernoulliEach(probability.h, state.h, dtypeCode('bernoulli', dtype));
  return record('bernoulli', null, take(0, device), [probability], null, null);
}

/**
 * Normally distributed, given that the number is in [low, high] (not in units of `std`), as
 * PyTorch's `trunc_normal_`: mean + std·√2·erf⁻¹(u), u uniform between erf of the ends. Meant for
 * intervals that hold a fair part of the distribution; drawn from 24 bits each.
 */
export function truncatedNormal(
  shape: Shape,
  mean = 0,
  std = 1,
  low = -2,
  high = 2,
  options: RandomOptions = {},
): Tensor {
  const op = 'truncatedNormal';
  const centre = expectNumber(op, 'mean', mean);
  const spread = expectRange(op, 'std', std, 0);
  const from = expectNumber(op, 'low', low);
  const until = expectRange(op, 'high', high, from);
  const { dtype = 'float32' } = expectOptions(op, options, randomNames);
  const on = deviceIn(options);
  const { h } = generatorIn(op, options).state(on);
  const sizes = expectShape(op, shape);
  native.truncatedNormal(on.code, sizes, dtypeCode(op, dtype), h, centre, spread, from, until);
  return finish(op, take(0, on), options);
}
