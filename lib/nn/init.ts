/**
 * Initialisers, by PyTorch's definitions. They draw on the CPU and copy, so that a seed makes the
 * same network on every device.
 * Sources: Glorot and Bengio 2010 (Xavier); He, Zhang, Ren and Sun 2015 (Kaiming); Saxe,
 * McClelland and Ganguli 2014 (orthogonal).
 */
import {
  describe,
  expectNumber,
  expectOneOf,
  expectOptions,
  expectRange,
  expectTensor,
} from '../check.js';
import { noGrad } from '../context.js';
import { cpu } from '../device.js';
import { mul } from '../ops/binary.js';
import { copyInto, to } from '../ops/copy.js';
import { full, eye as identity, tensor } from '../ops/fill.js';
import * as random from '../ops/random.js';
import { truncatedNormal as truncated } from '../ops/sample.js';
import { reshape, transpose } from '../ops/view.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

function fillWith(
  op: string,
  target: Tensor,
  make: (options: random.RandomOptions) => Tensor,
): Tensor {
  expectTensor(op, target, 'what to fill');
  noGrad(() =>
    scope(() => {
      copyInto(target, to(make({ device: cpu, dtype: 'float32' }), target.device));
    }),
  );
  return target;
}

/** Fills with uniform numbers in [low, high). */
export function uniform(target: Tensor, low = 0, high = 1, generator?: random.Generator): Tensor {
  return fillWith('uniform', target, (options) =>
    random.uniform(target.shape, low, high, { ...options, ...(generator && { generator }) }),
  );
}

/** Fills with normal numbers. */
export function normal(target: Tensor, mean = 0, std = 1, generator?: random.Generator): Tensor {
  return fillWith('normal', target, (options) =>
    random.normal(target.shape, mean, std, { ...options, ...(generator && { generator }) }),
  );
}

/** Fills with normal numbers that are in [low, high], as PyTorch's `trunc_normal_`. */
export function truncatedNormal(
  target: Tensor,
  mean = 0,
  std = 1,
  low = -2,
  high = 2,
  generator?: random.Generator,
): Tensor {
  return fillWith('truncatedNormal', target, (options) =>
    truncated(target.shape, mean, std, low, high, { ...options, ...(generator && { generator }) }),
  );
}

/**
 * Makes [n, vectors of length m], m ≥ n, orthonormal in place, in their order: twice by Gram and
 * Schmidt, since once loses digits. It is the Q of a QR decomposition whose R has a positive
 * diagonal.
 */
function orthonormalize(rows: Float64Array, n: number, m: number): void {
  for (let i = 0; i < n; ++i) {
    const row = rows.subarray(i * m, (i + 1) * m);
    for (let pass = 0; pass < 2; ++pass) {
      for (let j = 0; j < i; ++j) {
        const other = rows.subarray(j * m, (j + 1) * m);
        let dot = 0;
        for (let k = 0; k < m; ++k) dot += (row[k] as number) * (other[k] as number);
        for (let k = 0; k < m; ++k) row[k] = (row[k] as number) - dot * (other[k] as number);
      }
    }
    let square = 0;
    for (let k = 0; k < m; ++k) square += (row[k] as number) ** 2;
    const scale = 1 / Math.sqrt(square);
    for (let k = 0; k < m; ++k) row[k] = (row[k] as number) * scale;
  }
}

/**
 * Fills a weight, as a matrix [first axis, the rest], with orthonormal rows or columns times a
 * gain: those of a random normal matrix, uniform over all rotations. Computed on the host, in
 * float64.
 */
export function orthogonal(weight: Tensor, scale = 1, generator?: random.Generator): Tensor {
  expectTensor('orthogonal', weight, 'the weight');
  const factor = expectNumber('orthogonal', 'gain', scale);
  if (weight.rank < 2) {
    throw new RangeError(`orthogonal: needs a weight of rank 2 or more, got [${weight.shape}]`);
  }
  const rows = weight.shape[0] as number;
  const columns = rows === 0 ? 0 : weight.size / rows;
  const [n, m] = rows < columns ? [rows, columns] : [columns, rows];
  return fillWith('orthogonal', weight, ({ device }) => {
    const options = { device, dtype: 'float64' as const, ...(generator && { generator }) };
    const values = random.normal([n, m], 0, 1, options).data() as Float64Array;
    orthonormalize(values, n, m);
    const made = mul(tensor(values, [n, m], { device }), factor);
    return reshape(rows < columns ? made : transpose(made), weight.shape);
  });
}

/** Fills a matrix with ones where both indices are equal, zeros elsewhere. */
export function eye(target: Tensor): Tensor {
  expectTensor('eye', target, 'what to fill');
  if (target.rank !== 2) {
    throw new RangeError(`eye: needs a matrix, got [${target.shape}]`);
  }
  const [rows, columns] = target.shape as [number, number];
  return fillWith('eye', target, ({ device }) => identity(rows, columns, { device }));
}

/** Fills with one number. */
export function constant(target: Tensor, value: number): Tensor {
  const number = expectNumber('constant', 'the value', value);
  return fillWith('constant', target, (options) => full(target.shape, number, options));
}

/** Every element 0, in place; returns the tensor. */
export function zeros(target: Tensor): Tensor {
  return constant(target, 0);
}

/** Every element 1, in place; returns the tensor. */
export function ones(target: Tensor): Tensor {
  return constant(target, 1);
}

/** Inputs and outputs per unit of a weight [out, in, ...receptive field]. */
export function fans(weight: Tensor): { fanIn: number; fanOut: number } {
  expectTensor('init', weight, 'the weight');
  if (weight.rank < 2) {
    throw new RangeError(`init: fans need a weight of rank 2 or more, got [${weight.shape}]`);
  }
  const [out, input, ...field] = weight.shape as [number, number, ...number[]];
  const receptive = field.reduce((a, b) => a * b, 1);
  return { fanIn: input * receptive, fanOut: out * receptive };
}

export type Nonlinearity = 'linear' | 'sigmoid' | 'tanh' | 'relu' | 'leakyRelu' | 'selu';

/** The factor that keeps the variance through a nonlinearity; `param` is leaky ReLU's slope. */
export function calculateGain(nonlinearity: Nonlinearity, param = 0.01): number {
  expectNumber('calculateGain', 'param', param);
  switch (nonlinearity) {
    case 'tanh':
      return 5 / 3;
    case 'relu':
      return Math.SQRT2;
    case 'leakyRelu':
      return Math.sqrt(2 / (1 + param * param));
    case 'selu':
      return 3 / 4;
    case 'linear':
    case 'sigmoid':
      return 1;
    default:
      throw new TypeError(`calculateGain: unknown nonlinearity ${describe(nonlinearity)}`);
  }
}

/** Uniform in ±gain·√(6 / (fanIn + fanOut)). */
export function xavierUniform(weight: Tensor, scale = 1): Tensor {
  const { fanIn, fanOut } = fans(weight);
  const bound = expectRange('xavierUniform', 'gain', scale, 0) * Math.sqrt(6 / (fanIn + fanOut));
  return uniform(weight, -bound, bound);
}

/** Normal with standard deviation gain·√(2 / (fanIn + fanOut)). */
export function xavierNormal(weight: Tensor, scale = 1): Tensor {
  const { fanIn, fanOut } = fans(weight);
  return normal(
    weight,
    0,
    expectRange('xavierNormal', 'gain', scale, 0) * Math.sqrt(2 / (fanIn + fanOut)),
  );
}

export interface KaimingOptions {
  mode?: 'fanIn' | 'fanOut';
  nonlinearity?: Nonlinearity;
  /** Slope of leaky ReLU. */
  a?: number;
}

function kaimingStd(weight: Tensor, options: KaimingOptions): number {
  const {
    mode = 'fanIn',
    nonlinearity = 'leakyRelu',
    a = 0,
  } = expectOptions('kaiming', options, ['mode', 'nonlinearity', 'a']);
  expectOneOf('kaiming', 'mode', mode, ['fanIn', 'fanOut']);
  return (
    calculateGain(nonlinearity, expectNumber('kaiming', 'a', a)) / Math.sqrt(fans(weight)[mode])
  );
}

/** Uniform in ±gain·√(3 / fan). */
export function kaimingUniform(weight: Tensor, options: KaimingOptions = {}): Tensor {
  const bound = Math.sqrt(3) * kaimingStd(weight, options);
  return uniform(weight, -bound, bound);
}

/** Normal with standard deviation gain / √fan. */
export function kaimingNormal(weight: Tensor, options: KaimingOptions = {}): Tensor {
  return normal(weight, 0, kaimingStd(weight, options));
}
