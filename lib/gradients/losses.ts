/**
 * Gradients of losses by recorded ops, so that they can be differentiated again; formulas are those
 * of core/families/loss.h and softmax.h.
 */
import { differentiable, type Rule } from '../autograd.js';
import type { DType } from '../dtype.js';
import { add, div, eq, le, lt, maximum, mul, ne, sub, where } from '../ops/binary.js';
import { arange } from '../ops/fill.js';
import { inside } from '../ops/index.js';
import {
  classAxis,
  type LossAttributes,
  type LossKind,
  lossOps,
  type NLLAttributes,
  savedOfNLL,
} from '../ops/loss.js';
import { sum } from '../ops/reduce.js';
import {
  type HardAttributes,
  logSoftmax,
  type SoftAttributes,
  softmaxOps,
} from '../ops/softmax.js';
import { abs, exp, log, log1p, neg, sigmoid, sign, softplus } from '../ops/unary.js';
import { reshape, unsqueeze } from '../ops/view.js';
import type { Shape, Tensor } from '../tensor.js';

type Slope = (x: Tensor, t: Tensor, parameter: number, factor: Tensor | number) => Tensor;

/** d/dx of losses of the difference x - t; d/dt is its negative. */
const ofDifference: Partial<Record<LossKind, (d: Tensor, parameter: number) => Tensor>> = {
  mse: (d) => mul(d, 2),
  l1: (d) => sign(d),
  smoothL1: (d, a) => (a > 0 ? where(lt(abs(d), a), div(d, a), sign(d)) : sign(d)),
  huber: (d, a) => where(le(abs(d), a), d, mul(sign(d), a)),
};

/** 1 + (f - 1)·t: how much the logarithm of the sigmoid counts. */
const weightOf = (t: Tensor, factor: Tensor | number): Tensor =>
  add(mul(typeof factor === 'number' ? factor - 1 : factor.sub(1), t), 1);

const byPrediction: Partial<Record<LossKind, Slope>> = {
  bce: (x, t) => div(sub(x, t), maximum(mul(sub(1, x), x), 1e-12)),
  bceLogits: (x, t, _, factor) => sub(sub(1, t), mul(weightOf(t, factor), sigmoid(neg(x)))),
};
const byTarget: Partial<Record<LossKind, Slope>> = {
  bce: (x) => sub(maximum(log1p(neg(x)), -100), maximum(log(x), -100)),
  bceLogits: (x, _t, _a, factor) =>
    sub(mul(softplus(neg(x)), typeof factor === 'number' ? factor - 1 : factor.sub(1)), x),
};

differentiable(
  lossOps.pointwiseLoss.gradient as Rule<LossAttributes>,
  (dout, saved, { kind, parameter }, needs) => {
    const [x, t, factor = 1] = saved as [Tensor, Tensor, Tensor?];
    const same = ofDifference[kind];
    const slope = (of: typeof byPrediction, turned: boolean): Tensor => {
      if (!same) return mul(dout, (of[kind] as Slope)(x, t, parameter, factor));
      return mul(dout, same(turned ? sub(t, x) : sub(x, t), parameter));
    };
    return [needs[0] ? slope(byPrediction, false) : null, needs[1] ? slope(byTarget, true) : null];
  },
);

/** Values of classes, [C], along the axis of classes in [N, C, …], or in [C]. */
const alongClasses = (values: Tensor, shape: Shape): Tensor =>
  reshape(values, [values.size, ...shape.slice(2).map(() => 1)]);

/** [N,C,…] or [C]: 1 at each row's class, NaN throughout where there is no such class. */
function shares(target: Tensor, shape: Shape, dtype: DType): Tensor {
  const axis = classAxis(shape);
  const classes = shape[axis] as number;
  const at = unsqueeze(target, axis);
  const places = alongClasses(arange(0, classes, 1, { device: target.device }), shape);
  return where(inside(at, classes), eq(at, places).to(dtype), Number.NaN);
}

differentiable(lossOps.nllLoss.gradient as Rule<NLLAttributes>, (dout, saved, attributes) => {
  const { target, weight, total } = savedOfNLL(saved, attributes);
  const { shape, dtype, ignoreIndex, reduction } = attributes;
  const axis = classAxis(shape);
  const hits = shares(target, shape, dtype);
  const weighted = weight ? mul(hits, alongClasses(weight, shape)) : hits;
  const upstream = total ? div(dout, total) : dout;
  const slopes = mul(weighted, reduction === 'none' ? unsqueeze(upstream, axis) : upstream);
  return [where(unsqueeze(ne(target, ignoreIndex), axis), neg(slopes), 0)];
});

differentiable(
  softmaxOps.crossEntropy.gradient as Rule<HardAttributes>,
  (dout, [logits, target], { ignoreIndex }) => {
    const [x, t] = [logits as Tensor, target as Tensor];
    const slopes = mul(
      unsqueeze(dout.to(x.dtype), 1),
      sub(exp(logSoftmax(x)), shares(t, x.shape, x.dtype)),
    );
    return [where(unsqueeze(ne(t, ignoreIndex), 1), slopes, 0), null];
  },
);

differentiable(
  softmaxOps.softCrossEntropy.gradient as Rule<SoftAttributes>,
  (dout, saved, { smoothing, ignoreIndex }, needs) => {
    const [x, target, , , weight] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor?];
    const classes = target.dtype === 'int64';
    const t = classes ? shares(target, x.shape, x.dtype) : target;
    const spread = add(mul(t, 1 - smoothing), smoothing / (x.shape[1] as number));
    const weighted = weight ? mul(spread, weight) : spread;
    const q = classes ? where(unsqueeze(ne(target, ignoreIndex), 1), weighted, 0) : weighted;
    const logs = logSoftmax(x);
    const dy = unsqueeze(dout, 1);
    const dx = mul(sub(mul(exp(logs), sum(q, -1, true)), q), dy);
    if (!needs[1]) return [dx, null];
    const dt = mul(mul(logs, smoothing - 1), dy);
    return [dx, weight ? mul(dt, weight) : dt];
  },
);
