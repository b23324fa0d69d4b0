/** Elementwise functions of one tensor; formulas and derivatives are in core/elementwise.h. */

import { forPrecision } from '../autocast.js';
import { type Rule, record } from '../autograd.js';
import { expectTensor } from '../check.js';
import { native, type PredicateName, type UnaryName } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { addMethods, notDifferentiable, type OpRow, type OpRows } from './define.js';

type Saved = 'input' | 'output';

function elementwise(name: UnaryName, dtypes: OpRow['dtypes'], saved: Saved, summary: string) {
  const gradient: Rule<null> = (dout, [kept]) => {
    native[`${name}Backward`]((kept as Tensor).h, dout.h);
    return [take(0, dout.device)];
  };
  return { family: 'unary', summary, dtypes, gradient, saved } as const;
}

function predicate(summary: string): OpRow {
  return {
    family: 'unary',
    summary,
    dtypes: 'any',
    gradient: notDifferentiable('the result is bool'),
  };
}

const differentiable = {
  neg: elementwise('neg', 'numeric', 'input', '-x'),
  abs: elementwise('abs', 'numeric', 'input', '|x|'),
  sign: elementwise('sign', 'numeric', 'input', '-1, 0 or 1'),
  square: elementwise('square', 'numeric', 'input', 'x²'),
  relu: elementwise('relu', 'numeric', 'output', 'max(x, 0)'),
  exp: elementwise('exp', 'converted', 'output', 'eˣ'),
  expm1: elementwise('expm1', 'converted', 'output', 'eˣ - 1'),
  log: elementwise('log', 'converted', 'input', 'ln x'),
  log1p: elementwise('log1p', 'converted', 'input', 'ln(1 + x)'),
  sqrt: elementwise('sqrt', 'converted', 'output', '√x'),
  rsqrt: elementwise('rsqrt', 'converted', 'output', '1/√x'),
  reciprocal: elementwise('reciprocal', 'converted', 'output', '1/x'),
  sigmoid: elementwise('sigmoid', 'converted', 'output', '1/(1 + e⁻ˣ)'),
  tanh: elementwise('tanh', 'converted', 'output', 'hyperbolic tangent'),
  sin: elementwise('sin', 'converted', 'input', 'sine, radians'),
  cos: elementwise('cos', 'converted', 'input', 'cosine, radians'),
  erf: elementwise('erf', 'converted', 'input', 'error function'),
  gelu: elementwise('gelu', 'converted', 'input', 'x·Φ(x), exact form'),
  silu: elementwise('silu', 'converted', 'input', 'x·sigmoid(x)'),
  softplus: elementwise('softplus', 'converted', 'input', 'ln(1 + eˣ)'),
  floor: elementwise('floor', 'numeric', 'input', 'largest integer not above x'),
  ceil: elementwise('ceil', 'numeric', 'input', 'smallest integer not below x'),
  round: elementwise('round', 'numeric', 'input', 'nearest integer, halves to even'),
  trunc: elementwise('trunc', 'numeric', 'input', 'x without its fraction'),
  exp2: elementwise('exp2', 'converted', 'output', '2ˣ'),
  log2: elementwise('log2', 'converted', 'input', 'logarithm of base 2'),
  log10: elementwise('log10', 'converted', 'input', 'logarithm of base 10'),
  tan: elementwise('tan', 'converted', 'output', 'tangent, radians'),
  asin: elementwise('asin', 'converted', 'input', 'inverse sine, radians'),
  acos: elementwise('acos', 'converted', 'input', 'inverse cosine, radians'),
  atan: elementwise('atan', 'converted', 'input', 'inverse tangent, radians'),
  sinh: elementwise('sinh', 'converted', 'input', 'hyperbolic sine'),
  cosh: elementwise('cosh', 'converted', 'input', 'hyperbolic cosine'),
  asinh: elementwise('asinh', 'converted', 'input', 'inverse hyperbolic sine'),
  acosh: elementwise('acosh', 'converted', 'input', 'inverse hyperbolic cosine'),
  atanh: elementwise('atanh', 'converted', 'input', 'inverse hyperbolic tangent'),
  erfc: elementwise('erfc', 'converted', 'input', '1 - erf(x), without cancellation'),
  logit: elementwise('logit', 'converted', 'input', 'ln(x/(1 - x)), the inverse of sigmoid'),
  logSigmoid: elementwise('logSigmoid', 'converted', 'input', 'ln(1/(1 + e⁻ˣ))'),
  relu6: elementwise('relu6', 'numeric', 'output', 'min(max(x, 0), 6)'),
  hardtanh: elementwise('hardtanh', 'numeric', 'output', 'x limited to [-1, 1]'),
  hardsigmoid: elementwise('hardsigmoid', 'converted', 'output', 'relu6(x + 3)/6'),
  hardswish: elementwise('hardswish', 'converted', 'input', 'x·relu6(x + 3)/6'),
  elu: elementwise('elu', 'converted', 'output', 'x where positive, else eˣ - 1'),
  selu: elementwise('selu', 'converted', 'output', 'elu scaled to normalise itself'),
  mish: elementwise('mish', 'converted', 'input', 'x·tanh(ln(1 + eˣ))'),
  softsign: elementwise('softsign', 'converted', 'input', 'x/(1 + |x|)'),
  geluTanh: elementwise('geluTanh', 'converted', 'input', 'gelu by its tanh approximation'),
} as const satisfies OpRows<UnaryName>;

export const unaryOps: OpRows<UnaryName | PredicateName> = {
  ...differentiable,
  isnan: predicate('whether x is NaN'),
  isfinite: predicate('whether x is neither NaN nor infinite'),
  isinf: predicate('whether x is infinite'),
  logicalNot: predicate('whether x is zero'),
};

type UnaryFunction = (x: Tensor) => Tensor;

/** What autocast computes in float32. */
const preciseNames: ReadonlySet<UnaryName> = new Set([
  'acos',
  'asin',
  'cosh',
  'exp',
  'expm1',
  'log',
  'log10',
  'log1p',
  'log2',
  'reciprocal',
  'rsqrt',
  'sinh',
  'softplus',
  'tan',
] as const);

function unary(name: UnaryName): UnaryFunction {
  const forward = native[name];
  const { gradient, saved, dtypes } = differentiable[name];
  const precise = preciseNames.has(name);
  return (input) => {
    expectTensor(name, input);
    const x = precise ? forPrecision(input) : input;
    forward(x.h);
    const out = take(0, x.device);
    // An integer argument of such an op was converted first, and is no variable anyway.
    const differentiates = dtypes !== 'converted' || out.dtype === x.dtype;
    return record(
      name,
      differentiates ? gradient : null,
      out,
      [x],
      () => [saved === 'input' ? x : out],
      null,
    );
  };
}

function unaryPredicate(name: PredicateName): UnaryFunction {
  const forward = native[name];
  return (x) => {
    forward(expectTensor(name, x).h);
    return record(name, null, take(0, x.device), [x], null, null);
  };
}

export const neg = unary('neg');
export const abs = unary('abs');
export const sign = unary('sign');
export const square = unary('square');
export const relu = unary('relu');
export const exp = unary('exp');
export const expm1 = unary('expm1');
export const log = unary('log');
export const log1p = unary('log1p');
export const sqrt = unary('sqrt');
export const rsqrt = unary('rsqrt');
export const reciprocal = unary('reciprocal');
export const sigmoid = unary('sigmoid');
export const tanh = unary('tanh');
export const sin = unary('sin');
export const cos = unary('cos');
export const erf = unary('erf');
export const gelu = unary('gelu');
export const silu = unary('silu');
export const softplus = unary('softplus');
export const floor = unary('floor');
export const ceil = unary('ceil');
export const round = unary('round');
export const trunc = unary('trunc');
export const exp2 = unary('exp2');
export const log2 = unary('log2');
export const log10 = unary('log10');
export const tan = unary('tan');
export const asin = unary('asin');
export const acos = unary('acos');
export const atan = unary('atan');
export const sinh = unary('sinh');
export const cosh = unary('cosh');
export const asinh = unary('asinh');
export const acosh = unary('acosh');
export const atanh = unary('atanh');
export const erfc = unary('erfc');
export const logit = unary('logit');
export const logSigmoid = unary('logSigmoid');
export const relu6 = unary('relu6');
export const hardtanh = unary('hardtanh');
export const hardsigmoid = unary('hardsigmoid');
export const hardswish = unary('hardswish');
export const elu = unary('elu');
export const selu = unary('selu');
export const mish = unary('mish');
export const softsign = unary('softsign');
export const geluTanh = unary('geluTanh');
export const isnan = unaryPredicate('isnan');
export const isfinite = unaryPredicate('isfinite');
export const isinf = unaryPredicate('isinf');
export const logicalNot = unaryPredicate('logicalNot');

const functions: Record<UnaryName | PredicateName, UnaryFunction> = {
  neg,
  abs,
  sign,
  square,
  relu,
  exp,
  expm1,
  log,
  log1p,
  sqrt,
  rsqrt,
  reciprocal,
  sigmoid,
  tanh,
  sin,
  cos,
  erf,
  gelu,
  silu,
  softplus,
  floor,
  ceil,
  round,
  trunc,
  exp2,
  log2,
  log10,
  tan,
  asin,
  acos,
  atan,
  sinh,
  cosh,
  asinh,
  acosh,
  atanh,
  erfc,
  logit,
  logSigmoid,
  relu6,
  hardtanh,
  hardsigmoid,
  hardswish,
  elu,
  selu,
  mish,
  softsign,
  geluTanh,
  isnan,
  isfinite,
  isinf,
  logicalNot,
};

type UnaryMethods = { [Name in UnaryName | PredicateName]: () => Tensor };

declare module '../tensor.js' {
  interface Tensor extends UnaryMethods {}
}

addMethods(
  Object.fromEntries(
    Object.entries(functions).map(([name, fn]) => [
      name,
      function (this: Tensor) {
        return fn(this);
      },
    ]),
  ),
);
