import * as ng from '../../../lib/index.js';
import { erf, map, type Nd, roundHalfEven } from '../../support/nd.js';
import { type Domain, type OpRow, specialValues, vector } from '../../support/op.js';

type UnaryFn = (x: ng.Tensor) => ng.Tensor;

interface Options extends Partial<OpRow> {
  domain?: Domain;
}

const integers = ['int32', 'int64', 'uint8'] as const;
const positive: Domain = { low: 0.1, high: 4 };
const nearZero = (x: number): boolean => Math.abs(x) < 0.01;
const nearHalf = (x: number): boolean => Math.abs(x * 2 - Math.round(x * 2)) < 0.02;

function unary(
  op: OpRow['op'],
  fn: UnaryFn,
  f: (x: number) => number,
  { domain, ...options }: Options = {},
): OpRow {
  return {
    op,
    fn,
    reference: (x: Nd) => map(x, f),
    inputs: [{ shape: vector, ...(domain && { domain }) }],
    special: specialValues,
    large: 70_001,
    errors: [
      {
        name: 'what is no tensor',
        call: () => fn(3 as unknown as ng.Tensor),
        message: `${op}: its argument must be a tensor, got 3`,
      },
      {
        name: 'a released tensor',
        call: (device) => {
          const x = ng.zeros([2], { device });
          x.dispose();
          return fn(x);
        },
        message: new RegExp(`^${op}: its argument is a tensor that was released`),
      },
    ],
    ...options,
  };
}

const boolRefused = (op: string, fn: UnaryFn): OpRow['errors'] => [
  {
    name: 'bool',
    call: (device) => fn(ng.tensor([true], { device })),
    message: `${op}: needs a numeric dtype, got bool`,
  },
];

const limit = (x: number, low: number, high: number): number =>
  Number.isNaN(x) ? x : Math.min(Math.max(x, low), high);

// A floating function of integers computes in float32.
const wide = {
  result: (dtype: ng.DType): ng.DType => (integers.includes(dtype as never) ? 'float32' : dtype),
};
// The derivative comes from the output, whose rounding 1 - y amplifies where y is near 1.
const fromOutput: Options = {
  wider: {
    by: { bfloat16: 3, float16: 3 },
    because:
      'the derivative comes from the rounded output, near whose limits it is ill-conditioned',
  },
};
const steps: Options = {
  domain: { low: -3, high: 3, avoid: (x) => !Number.isInteger(x) && nearHalf(x) },
  exact: integers,
};
const predicate: Options = {
  differentiable: false,
  result: () => 'bool',
  exact: [...integers, 'bool'],
};

export const unaryRows: readonly OpRow[] = [
  unary('neg', ng.neg, (x) => -x, { exact: integers, errors: boolRefused('neg', ng.neg) }),
  unary('abs', ng.abs, Math.abs, {
    exact: integers,
    domain: { low: -2, high: 2, avoid: nearZero },
  }),
  unary('sign', ng.sign, Math.sign, {
    exact: integers,
    domain: { low: -2, high: 2, avoid: nearZero },
  }),
  unary('square', ng.square, (x) => x * x, { exact: integers, domain: { low: -9, high: 9 } }),
  unary('relu', ng.relu, (x) => (x > 0 || Number.isNaN(x) ? x : 0), {
    exact: integers,
    domain: { low: -2, high: 2, avoid: nearZero },
  }),
  unary('exp', ng.exp, Math.exp, { exact: ['int32', 'uint8'], ...wide }),
  unary('expm1', ng.expm1, Math.expm1),
  unary('log', ng.log, Math.log, { domain: positive }),
  unary('log1p', ng.log1p, Math.log1p, { domain: { low: -0.9, high: 4 } }),
  unary('sqrt', ng.sqrt, Math.sqrt, { domain: positive, exact: ['int64'], ...wide }),
  unary('rsqrt', ng.rsqrt, (x) => 1 / Math.sqrt(x), {
    domain: { low: 0.5, high: 4 },
    ...fromOutput,
  }),
  unary('reciprocal', ng.reciprocal, (x) => 1 / x, { domain: { low: 0.5, high: 4 } }),
  unary('sigmoid', ng.sigmoid, (x) => 1 / (1 + Math.exp(-x)), {
    domain: { low: -8, high: 8 },
    ...fromOutput,
  }),
  unary('tanh', ng.tanh, Math.tanh, fromOutput),
  unary('sin', ng.sin, Math.sin, { domain: { low: -7, high: 7 } }),
  unary('cos', ng.cos, Math.cos, { domain: { low: -7, high: 7 } }),
  unary('erf', ng.erf, erf),
  unary('gelu', ng.gelu, (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)), {
    domain: { low: -4, high: 4 },
  }),
  unary('silu', ng.silu, (x) => x / (1 + Math.exp(-x)), { domain: { low: -6, high: 6 } }),
  unary('softplus', ng.softplus, (x) => (x > 20 ? x : Math.log1p(Math.exp(x))), {
    domain: { low: -8, high: 25, avoid: (x) => Math.abs(x - 20) < 0.1 },
    wider: {
      by: { float64: 1e4 },
      because: 'beyond 20 it is x itself, as PyTorch has it, which leaves 2e-9 out',
    },
  }),
  unary('floor', ng.floor, Math.floor, steps),
  unary('ceil', ng.ceil, Math.ceil, steps),
  unary('round', ng.round, roundHalfEven, steps),
  unary('trunc', ng.trunc, Math.trunc, steps),
  unary('frac', ng.frac, (x) => x - Math.trunc(x), {
    domain: { low: -3, high: 3, avoid: (x) => Math.abs(x - Math.round(x)) < 0.05 },
  }),
  unary('exp2', ng.exp2, (x) => 2 ** x),
  unary('log2', ng.log2, Math.log2, { domain: positive }),
  unary('log10', ng.log10, Math.log10, { domain: positive }),
  unary('tan', ng.tan, Math.tan, { domain: { low: -1.2, high: 1.2 } }),
  unary('asin', ng.asin, Math.asin, { domain: { low: -0.95, high: 0.95 } }),
  unary('acos', ng.acos, Math.acos, { domain: { low: -0.95, high: 0.95 } }),
  unary('atan', ng.atan, Math.atan, { domain: { low: -4, high: 4 } }),
  unary('sinh', ng.sinh, Math.sinh),
  unary('cosh', ng.cosh, Math.cosh),
  unary('asinh', ng.asinh, Math.asinh, { domain: { low: -9, high: 9 } }),
  unary('acosh', ng.acosh, Math.acosh, { domain: { low: 1.3, high: 9 } }),
  unary('atanh', ng.atanh, Math.atanh, { domain: { low: -0.9, high: 0.9 } }),
  unary('erfc', ng.erfc, (x) => 1 - erf(x)),
  unary('logit', ng.logit, (x) => Math.log(x / (1 - x)), { domain: { low: 0.05, high: 0.95 } }),
  unary('logSigmoid', ng.logSigmoid, (x) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x))), {
    domain: { low: -8, high: 8 },
  }),
  unary('relu6', ng.relu6, (x) => limit(x, 0, 6), {
    domain: { low: -3, high: 9, avoid: nearHalf },
  }),
  unary('hardtanh', ng.hardtanh, (x) => limit(x, -1, 1), {
    domain: { low: -3, high: 3, avoid: nearHalf },
  }),
  unary('hardsigmoid', ng.hardsigmoid, (x) => limit(x + 3, 0, 6) / 6, {
    domain: { low: -5, high: 5, avoid: nearHalf },
  }),
  unary('hardswish', ng.hardswish, (x) => (x <= -3 ? 0 : (x * limit(x + 3, 0, 6)) / 6), {
    domain: { low: -5, high: 5, avoid: nearHalf },
  }),
  unary('elu', ng.elu, (x) => (x > 0 ? x : Math.expm1(x)), fromOutput),
  unary(
    'selu',
    ng.selu,
    (x) => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
    {
      domain: { low: -2, high: 2, avoid: nearZero },
      ...fromOutput,
    },
  ),
  unary('mish', ng.mish, (x) => x * Math.tanh(Math.log1p(Math.exp(x))), {
    domain: { low: -6, high: 6 },
  }),
  unary('softsign', ng.softsign, (x) =>
    Math.abs(x) === Infinity ? Number.NaN : x / (1 + Math.abs(x)),
  ),
  unary(
    'geluTanh',
    ng.geluTanh,
    (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    { domain: { low: -4, high: 4 } },
  ),
  unary('isinf', ng.isinf, (x) => (Math.abs(x) === Infinity ? 1 : 0), predicate),
  unary('isnan', ng.isnan, (x) => (Number.isNaN(x) ? 1 : 0), predicate),
  unary('isfinite', ng.isfinite, (x) => (Number.isFinite(x) ? 1 : 0), predicate),
  unary('logicalNot', ng.logicalNot, (x) => (x === 0 ? 1 : 0), predicate),
];
