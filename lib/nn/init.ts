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
import { add, mul, sub } from '../ops/binary.js';
import { copyInto, to } from '../ops/copy.js';
import { full, eye as identity, tensor } from '../ops/fill.js';
import { matmul } from '../ops/gemm.js';
import { cat } from '../ops/movement.js';
import * as random from '../ops/random.js';
import { truncatedNormal as truncated } from '../ops/sample.js';
import { cos, log, sqrt } from '../ops/unary.js';
import { reshape, slice, transpose } from '../ops/view.js';
import { scope } from '../scope.js';
import type { Shape, Tensor } from '../tensor.js';

/** Fills with what `make` gives, in float64 for a float64 tensor and else in float32. */
function fillWith(
  op: string,
  target: Tensor,
  make: (options: random.RandomOptions) => Tensor,
): Tensor {
  expectTensor(op, target, 'what to fill');
  const dtype = target.dtype === 'float64' ? 'float64' : 'float32';
  noGrad(() =>
    scope(() => {
      copyInto(target, to(make({ device: cpu, dtype }), target.device));
    }),
  );
  return target;
}

/** Uniform in [0, 1) with 48 bits in float64, since draws have 24 whatever their dtype. */
function wideUnit(shape: Shape, options: random.RandomOptions): Tensor {
  return add(random.rand(shape, options), mul(random.rand(shape, options), 2 ** -24));
}

/** Normal numbers, in float64 by the Box-Muller transform of as many digits. */
function normalOf(shape: Shape, mean: number, std: number, options: random.RandomOptions): Tensor {
  if (options.dtype !== 'float64') return random.normal(shape, mean, std, options);
  const centre = expectNumber('normal', 'mean', mean);
  const spread = expectRange('normal', 'std', std, 0);
  const radius = sqrt(mul(log(sub(1, wideUnit(shape, options))), -2));
  const angle = mul(wideUnit(shape, options), 2 * Math.PI);
  return add(mul(mul(radius, cos(angle)), spread), centre);
}

/** Fills with uniform numbers in [low, high). */
export function uniform(target: Tensor, low = 0, high = 1, generator?: random.Generator): Tensor {
  return fillWith('uniform', target, (place) => {
    const options = { ...place, ...(generator && { generator }) };
    if (options.dtype !== 'float64') return random.uniform(target.shape, low, high, options);
    const from = expectNumber('uniform', 'low', low);
    const width = expectRange('uniform', 'high', high, from) - from;
    return add(mul(wideUnit(target.shape, options), width), from);
  });
}

/** Fills with normal numbers. */
export function normal(target: Tensor, mean = 0, std = 1, generator?: random.Generator): Tensor {
  return fillWith('normal', target, (options) =>
    normalOf(target.shape, mean, std, { ...options, ...(generator && { generator }) }),
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

/** How many rows are made orthonormal one after another; products do the rest. */
const panelRows = 16;

/** Modified Gram-Schmidt on the host: rows [n, m] of float64, n at most {@link panelRows}. */
function orthonormalPanel(panel: Tensor): Tensor {
  const [n, m] = panel.shape as [number, number];
  const values = panel.data() as Float64Array;
  for (let i = 0; i < n; ++i) {
    const row = values.subarray(i * m, (i + 1) * m);
    let square = 0;
    for (let k = 0; k < m; ++k) square += (row[k] as number) ** 2;
    const scale = 1 / Math.sqrt(square);
    for (let k = 0; k < m; ++k) row[k] = (row[k] as number) * scale;
    for (let j = i + 1; j < n; ++j) {
      const other = values.subarray(j * m, (j + 1) * m);
      let dot = 0;
      for (let k = 0; k < m; ++k) dot += (row[k] as number) * (other[k] as number);
      for (let k = 0; k < m; ++k) other[k] = (other[k] as number) - dot * (row[k] as number);
    }
  }
  return tensor(values, [n, m], { device: cpu });
}

/**
 * Rows [n, m], n ≤ m, made orthonormal in their order, by halves: what the upper half spans is taken
 * from the lower by two products.
 */
function orthonormalRows(rows: Tensor): Tensor {
  const n = rows.shape[0] as number;
  if (n <= panelRows) return orthonormalPanel(rows);
  const half = Math.ceil(n / 2);
  const upper = orthonormalRows(slice(rows, 0, 0, half));
  const lower = slice(rows, 0, half, n);
  const rest = sub(lower, matmul(matmul(lower, transpose(upper)), upper));
  return cat([upper, orthonormalRows(rest)], 0);
}

/**
 * Fills a weight, as a matrix [first axis, the rest], with orthonormal rows or columns times a
 * gain: those of a random normal matrix, uniform over all rotations. They are the Q of its QR
 * decomposition whose R has a positive diagonal, in float64: by Gram and Schmidt in blocks, twice,
 * since once loses digits. Source: Giraud, Langou and Rozložník 2005, "The loss of orthogonality in
 * the Gram-Schmidt orthogonalization process".
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
    const made = orthonormalRows(orthonormalRows(normalOf([n, m], 0, 1, options)));
    return mul(reshape(rows < columns ? made : transpose(made), weight.shape), factor);
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

/** Fills with one number, rounded or cut to the tensor's dtype; a bigint is exact in int64. */
export function constant(target: Tensor, value: number | bigint): Tensor {
  const exact = typeof value === 'bigint';
  const number = exact ? Number(value) : expectNumber('constant', 'the value', value);
  return fillWith('constant', target, ({ device }) =>
    exact && target.dtype === 'int64'
      ? tensor(value, { device })
      : full([], number, { device, dtype: target.dtype }),
  );
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
export function xavierUniform(weight: Tensor, scale = 1, generator?: random.Generator): Tensor {
  const { fanIn, fanOut } = fans(weight);
  const bound = expectRange('xavierUniform', 'gain', scale, 0) * Math.sqrt(6 / (fanIn + fanOut));
  return uniform(weight, -bound, bound, generator);
}

/** Normal with standard deviation gain·√(2 / (fanIn + fanOut)). */
export function xavierNormal(weight: Tensor, scale = 1, generator?: random.Generator): Tensor {
  const { fanIn, fanOut } = fans(weight);
  const std = expectRange('xavierNormal', 'gain', scale, 0) * Math.sqrt(2 / (fanIn + fanOut));
  return normal(weight, 0, std, generator);
}

export interface KaimingOptions {
  mode?: 'fanIn' | 'fanOut';
  nonlinearity?: Nonlinearity;
  /** Slope of leaky ReLU. */
  a?: number;
  /** What to draw from; the default generator where left out. */
  generator?: random.Generator;
}

function kaimingStd(weight: Tensor, options: KaimingOptions): number {
  const {
    mode = 'fanIn',
    nonlinearity = 'leakyRelu',
    a = 0,
  } = expectOptions('kaiming', options, ['mode', 'nonlinearity', 'a', 'generator']);
  expectOneOf('kaiming', 'mode', mode, ['fanIn', 'fanOut']);
  return (
    calculateGain(nonlinearity, expectNumber('kaiming', 'a', a)) / Math.sqrt(fans(weight)[mode])
  );
}

/** Uniform in ±gain·√(3 / fan). */
export function kaimingUniform(weight: Tensor, options: KaimingOptions = {}): Tensor {
  const bound = Math.sqrt(3) * kaimingStd(weight, options);
  return uniform(weight, -bound, bound, options.generator);
}

/** Normal with standard deviation gain / √fan. */
export function kaimingNormal(weight: Tensor, options: KaimingOptions = {}): Tensor {
  return normal(weight, 0, kaimingStd(weight, options), options.generator);
}
