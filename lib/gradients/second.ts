/**
 * Which gradient rules can be differentiated again (grad with createGraph): those composed of
 * recorded ops as they stand, those that call kernels of their own by an equal rule of recorded ops
 * given here and in the files beside. Any other op refuses createGraph.
 */
import { differentiable, type Rule } from '../autograd.js';
import type { UnaryName } from '../native.js';
import { binaryOps, div, gt, lt, mul, sub, where } from '../ops/binary.js';
import {
  type ConvAttributes,
  convOps,
  convPoolRule,
  convPoolRuleBy,
  dataGradientRule,
  weightGradientRule,
} from '../ops/conv.js';
import { convTransposeOps } from '../ops/convTranspose.js';
import { copyOps } from '../ops/copy.js';
import type { OpRow } from '../ops/define.js';
import { gatherOps } from '../ops/gather.js';
import { gemmOps, type LinearAttributes, linear, matmul, scaledProduct } from '../ops/gemm.js';
import { indexOps } from '../ops/index.js';
import { reduceOps, sum } from '../ops/reduce.js';
import { softmaxOps } from '../ops/softmax.js';
import { averageRule, statisticsOps } from '../ops/statistics.js';
import {
  abs,
  cos,
  cosh,
  erf,
  exp,
  neg,
  rsqrt,
  sigmoid,
  sign,
  sin,
  sinh,
  softplus,
  square,
  tanh,
  unaryOps,
} from '../ops/unary.js';
import { reshape, transpose, unsqueeze, viewOps } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import './attention.js';
import { recordedMaxPoolRule } from './linear.js';
import './losses.js';
import './norms.js';
import './products.js';

for (const rows of [binaryOps, copyOps, reduceOps, indexOps]) {
  for (const row of Object.values(rows as Record<string, OpRow>)) {
    // products.ts has the one of prod.
    if (typeof row.gradient === 'function' && row !== reduceOps.prod) differentiable(row.gradient);
  }
}
for (const name of ['reshape', 'permute', 'expand', 'alias'] as const) {
  differentiable(viewOps[name].gradient as Rule);
}

for (const row of [gatherOps.gather, gatherOps.scatter, gatherOps.scatterAdd]) {
  differentiable(row.gradient as Rule);
}

/** 1 strictly between two numbers, 0 elsewhere. */
function within(y: Tensor, low: number, high: number): Tensor {
  return mul(gt(y, low).to(y.dtype), lt(y, high).to(y.dtype));
}

/** The derivative from what the op saved: its input x or its output y. */
const derivatives: Record<UnaryName, (saved: Tensor) => Tensor | number> = {
  neg: () => -1,
  abs: (x) => sign(x),
  sign: () => 0,
  square: (x) => mul(x, 2),
  relu: (y) => gt(y, 0).to(y.dtype),
  exp: (y) => y,
  expm1: (y) => y.add(1),
  log: (x) => div(1, x),
  log1p: (x) => div(1, x.add(1)),
  sqrt: (y) => div(0.5, y),
  rsqrt: (y) => mul(mul(square(y), y), -0.5),
  reciprocal: (y) => neg(square(y)),
  sigmoid: (y) => mul(y, sub(1, y)),
  tanh: (y) => sub(1, square(y)),
  sin: (x) => cos(x),
  cos: (x) => neg(sin(x)),
  erf: (x) => mul(exp(neg(square(x))), 2 / Math.sqrt(Math.PI)),
  // Φ(x) + x·φ(x)
  gelu: (x) =>
    mul(erf(mul(x, Math.SQRT1_2)).add(1), 0.5).add(
      mul(mul(x, exp(mul(square(x), -0.5))), 1 / Math.sqrt(2 * Math.PI)),
    ),
  silu: (x) => {
    const s = sigmoid(x);
    return mul(s, mul(x, sub(1, s)).add(1));
  },
  softplus: (x) => sigmoid(x),
  floor: () => 0,
  ceil: () => 0,
  round: () => 0,
  trunc: () => 0,
  frac: () => 1,
  exp2: (y) => mul(y, Math.LN2),
  log2: (x) => div(Math.LOG2E, x),
  log10: (x) => div(Math.LOG10E, x),
  tan: (y) => square(y).add(1),
  asin: (x) => rsqrt(sub(1, square(x))),
  acos: (x) => neg(rsqrt(sub(1, square(x)))),
  atan: (x) => div(1, square(x).add(1)),
  sinh: (x) => cosh(x),
  cosh: (x) => sinh(x),
  asinh: (x) => rsqrt(square(x).add(1)),
  acosh: (x) => mul(rsqrt(x.sub(1)), rsqrt(x.add(1))),
  atanh: (x) => div(1, sub(1, square(x))),
  erfc: (x) => mul(exp(neg(square(x))), -2 / Math.sqrt(Math.PI)),
  logit: (x) => div(1, mul(x, sub(1, x))),
  logSigmoid: (x) => sigmoid(neg(x)),
  relu6: (y) => within(y, 0, 6),
  hardtanh: (y) => within(y, -1, 1),
  hardsigmoid: (y) => div(within(y, 0, 1), 6),
  hardswish: (x) => where(gt(x, 3), 1, where(lt(x, -3), 0, div(x, 3).add(0.5))),
  elu: (y) => where(gt(y, 0), 1, y.add(1)),
  // λ above 0 and y + λα below
  selu: (y) => where(gt(y, 0), 1.0507009873554805, y.add(1.7580993408473768)),
  mish: (x) => {
    const t = tanh(softplus(x));
    return t.add(mul(mul(x, sub(1, square(t))), sigmoid(x)));
  },
  softsign: (x) => square(div(1, abs(x).add(1))),
  geluTanh: (x) => {
    const slope = Math.sqrt(2 / Math.PI);
    const inner = mul(mul(x, square(x).mul(0.044715).add(1)), slope);
    const t = tanh(inner);
    const dinner = mul(
      square(x)
        .mul(3 * 0.044715)
        .add(1),
      slope,
    );
    return mul(t.add(1), 0.5).add(mul(mul(x, sub(1, square(t))), mul(dinner, 0.5)));
  },
};
for (const [name, derivative] of Object.entries(derivatives)) {
  differentiable(unaryOps[name as UnaryName].gradient as Rule, (dout, [saved]) => [
    mul(dout, derivative(saved as Tensor)),
  ]);
}

differentiable(gemmOps.matmul.gradient as Rule<number>, (dout, [left, right], scale, needs) => {
  const [a, b] = [left as Tensor, right as Tensor];
  const rows = a.rank === 1 ? unsqueeze(a, 0) : a;
  const columns = b.rank === 1 ? unsqueeze(b, 1) : b;
  let dc = a.rank === 1 ? unsqueeze(dout, b.rank === 1 ? 0 : -2) : dout;
  if (b.rank === 1) dc = unsqueeze(dc, -1);
  const without = (x: Tensor, axis: -1 | -2): Tensor => {
    const shape = [...x.shape];
    shape.splice(axis, 1);
    return reshape(x, shape);
  };
  const times = (x: Tensor, y: Tensor): Tensor => scaledProduct('matmul', x, y, scale);
  const da = needs[0] ? times(dc, transpose(columns)) : null;
  const db = needs[1] ? times(transpose(rows), dc) : null;
  return [da && (a.rank === 1 ? without(da, -2) : da), db && (b.rank === 1 ? without(db, -1) : db)];
});

differentiable(
  gemmOps.linear.gradient as Rule<LinearAttributes>,
  (dout, [x, weight, saved, offset], { activation, bias, residual }, needs) => {
    const [input, w] = [x as Tensor, weight as Tensor];
    const last = residual ? [needs.at(-1) ? dout : null] : [];
    const wanted = needs.slice(0, bias ? 3 : 2);
    if (!wanted.some(Boolean)) return [...wanted.map(() => null), ...last];
    let dy = dout;
    if (activation === 'relu') {
      dy = mul(dout, gt(saved as Tensor, 0).to(dout.dtype));
    } else if (activation !== 'none') {
      // The kernel's sums are no part of the graph: the same ones that are.
      const sums = linear(input, w, offset ?? null);
      dy = mul(dout, (derivatives[activation] as (s: Tensor) => Tensor)(sums));
    }
    const lead = input.shape.slice(0, -1).reduce((a, b) => a * b, 1);
    const matrix = (t: Tensor): Tensor => reshape(t, [lead, t.shape[t.rank - 1] as number]);
    return [
      needs[0] ? matmul(dy, w) : null,
      needs[1] ? matmul(transpose(matrix(dy)), matrix(input)) : null,
      ...(bias ? [needs[2] ? sum(matrix(dy), 0) : null] : []),
      ...last,
    ];
  },
);

differentiable(softmaxOps.softmax.gradient as Rule<boolean>, (dout, [out], logarithm) => {
  const y = out as Tensor;
  return [
    logarithm
      ? sub(dout, mul(exp(y), sum(dout, -1, true)))
      : mul(y, sub(dout, sum(mul(dout, y), -1, true))),
  ];
});

differentiable(
  convOps.conv2d.gradient as Rule<ConvAttributes>,
  (dout, saved, { relu, ...attributes }, needs) => {
    const dy = relu ? mul(dout, gt(saved[2] as Tensor, 0).to(dout.dtype)) : dout;
    const plain = convOps.conv2d.gradient as Rule<ConvAttributes>;
    return plain(dy, saved, { ...attributes, relu: false }, needs);
  },
);
differentiable(
  convPoolRule,
  convPoolRuleBy(recordedMaxPoolRule, convOps.conv2d.gradient as Rule<ConvAttributes>),
);
for (const rule of [dataGradientRule, weightGradientRule]) differentiable(rule);
differentiable(convTransposeOps.convTranspose2d.gradient as Rule);
differentiable(statisticsOps.variance.gradient as Rule);
differentiable(averageRule);
