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
  frac: elementwise('frac', 'converted', 'input', 'x - trunc(x)'),
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

/**
 * A function of each element: the result has x's shape and device. Where the table says converted,
 * integers and bools give float32. @throws where x is no tensor, or of a dtype that is refused
 */
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

/** −x. Integers too; bool is refused. */
export const neg = unary('neg');
/** |x|. Integers too; bool is refused. The gradient at 0 is 0. */
export const abs = unary('abs');
/** -1, 0 or 1 by the sign of x. Integers too; bool is refused. The gradient is 0. */
export const sign = unary('sign');
/** x². Integers too; bool is refused. */
export const square = unary('square');
/** max(x, 0); NaN stays NaN. Integers too; bool is refused. The gradient at 0 is 0. */
export const relu = unary('relu');
/** eˣ. */
export const exp = unary('exp');
/** eˣ − 1, exact for small x. */
export const expm1 = unary('expm1');
/** ln x; NaN below 0, −∞ at 0. */
export const log = unary('log');
/** ln(1 + x), exact for small x; NaN below −1. */
export const log1p = unary('log1p');
/** √x; NaN below 0. */
export const sqrt = unary('sqrt');
/** 1/√x; NaN below 0, ∞ at 0. */
export const rsqrt = unary('rsqrt');
/** 1/x; ±∞ at ±0. */
export const reciprocal = unary('reciprocal');
/** 1/(1 + e⁻ˣ), in (0, 1). */
export const sigmoid = unary('sigmoid');
/** (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ), in (-1, 1). */
export const tanh = unary('tanh');
/** The sine of x, in radians. */
export const sin = unary('sin');
/** The cosine of x, in radians. */
export const cos = unary('cos');
/** The error function, 2/√π · ∫₀ˣ exp(−t²) dt. */
export const erf = unary('erf');
/**
 * x·Φ(x), Φ the distribution function of the standard normal, by erf; {@link geluTanh} is the
 * approximation. Source: Hendrycks and Gimpel 2016.
 */
export const gelu = unary('gelu');
/** x·sigmoid(x), also called swish. */
export const silu = unary('silu');
/** ln(1 + eˣ), and x itself above 20. */
export const softplus = unary('softplus');
/** The largest integer not above x. The gradient is 0. */
export const floor = unary('floor');
/** The smallest integer not below x. The gradient is 0. */
export const ceil = unary('ceil');
/** The nearest integer, halves to even. The gradient is 0. */
export const round = unary('round');
/** x without its fraction, towards 0. The gradient is 0. */
export const trunc = unary('trunc');
/** The fraction x − trunc(x), with the sign of x; NaN for infinities. */
export const frac = unary('frac');
/** 2ˣ. */
export const exp2 = unary('exp2');
/** The logarithm of base 2; NaN below 0, −∞ at 0. */
export const log2 = unary('log2');
/** The logarithm of base 10; NaN below 0, −∞ at 0. */
export const log10 = unary('log10');
/** The tangent of x, in radians. */
export const tan = unary('tan');
/** The inverse sine, in [−π/2, π/2]; NaN outside [-1, 1]. */
export const asin = unary('asin');
/** The inverse cosine, in [0, π]; NaN outside [-1, 1]. */
export const acos = unary('acos');
/** The inverse tangent, in (−π/2, π/2). */
export const atan = unary('atan');
/** (eˣ − e⁻ˣ)/2. */
export const sinh = unary('sinh');
/** (eˣ + e⁻ˣ)/2. */
export const cosh = unary('cosh');
/** ln(x + √(x² + 1)), the inverse of sinh. */
export const asinh = unary('asinh');
/** ln(x + √(x² − 1)), the inverse of cosh; NaN below 1. */
export const acosh = unary('acosh');
/** ½·ln((1 + x)/(1 − x)), the inverse of tanh; NaN outside [-1, 1]. */
export const atanh = unary('atanh');
/** 1 − erf(x), exact where erf is near 1. */
export const erfc = unary('erfc');
/** ln(x/(1 − x)), the inverse of sigmoid; NaN outside [0, 1]. */
export const logit = unary('logit');
/** ln(1/(1 + e⁻ˣ)), without overflow. */
export const logSigmoid = unary('logSigmoid');
/** min(max(x, 0), 6). The gradient is 0 from the bounds on. */
export const relu6 = unary('relu6');
/** x limited to [-1, 1]. The gradient is 0 from the bounds on. */
export const hardtanh = unary('hardtanh');
/** min(max(x + 3, 0), 6)/6. */
export const hardsigmoid = unary('hardsigmoid');
/** x·min(max(x + 3, 0), 6)/6. Source: Howard et al. 2019. */
export const hardswish = unary('hardswish');
/** x where positive, else eˣ − 1. Source: Clevert, Unterthiner and Hochreiter 2016. */
export const elu = unary('elu');
/** 1.0507·x where positive, else 1.0507·1.6733·(eˣ − 1). Source: Klambauer et al. 2017. */
export const selu = unary('selu');
/** x·tanh(ln(1 + eˣ)). Source: Misra 2019. */
export const mish = unary('mish');
/** x/(1 + |x|), in (-1, 1). */
export const softsign = unary('softsign');
/** ½x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), which approximates {@link gelu}. */
export const geluTanh = unary('geluTanh');
/** Whether each element is NaN: bool, of x's shape. */
export const isnan = unaryPredicate('isnan');
/** Whether each element is neither NaN nor infinite: bool, of x's shape. */
export const isfinite = unaryPredicate('isfinite');
/** Whether each element is ∞ or −∞: bool, of x's shape. */
export const isinf = unaryPredicate('isinf');
/** Whether each element is 0: bool, of x's shape. */
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
  frac,
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

// Mapped from the functions, so that the methods have their docstrings.
type Functions = Pick<typeof import('./unary.js'), UnaryName | PredicateName>;
type UnaryMethods = { [Name in keyof Functions]: () => Tensor };

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
