import * as ng from '../../../lib/index.js';
import { build, type Nd, nd, zip } from '../../support/nd.js';
import type { Domain, OpRow } from '../../support/op.js';

const { nn } = ng;

type Formula = (x: number, t: number) => number;

const safeLog = (x: number): number => Math.max(Math.log(x), -100);
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

interface Case {
  name: string;
  fn: (x: ng.Tensor, t: ng.Tensor) => ng.Tensor;
  formula: Formula;
  x?: Domain;
  target?: Domain;
}

const none = 'none' as const;
const unit: Domain = { low: 0.02, high: 0.98 };
const wide: Domain = { low: -3, high: 3 };

/** Huber's formula, the difference at which it becomes linear, and its steepest slope. */
const huber =
  (delta: number): Formula =>
  (x, t) => {
    const d = Math.abs(x - t);
    return d <= delta ? (d * d) / 2 : delta * (d - delta / 2);
  };

const cases: Case[] = [
  {
    name: 'mseLoss',
    fn: (x, t) => nn.mseLoss(x, t, none),
    formula: (x, t) => (x - t) ** 2,
  },
  {
    name: 'mseLoss, half',
    fn: (x, t) => nn.mseLoss(x, t, { reduction: none, half: true }),
    formula: (x, t) => (x - t) ** 2 / 2,
  },
  {
    name: 'l1Loss',
    fn: (x, t) => nn.l1Loss(x, t, { reduction: none }),
    formula: (x, t) => Math.abs(x - t),
    target: { low: -3, high: 3, avoid: (t) => Math.abs(t) < 0.01 },
  },
  {
    name: 'smoothL1Loss',
    fn: (x, t) => nn.smoothL1Loss(x, t, { reduction: none, beta: 0.5 }),
    formula: (x, t) => huber(0.5)(x, t) / 0.5,
  },
  {
    name: 'huberLoss',
    fn: (x, t) => nn.huberLoss(x, t, { reduction: none, delta: 1.5 }),
    formula: huber(1.5),
  },
  {
    name: 'binaryCrossEntropy',
    fn: (x, t) => nn.binaryCrossEntropy(x, t, { reduction: none }),
    formula: (x, t) => -t * safeLog(x) - (1 - t) * safeLog(1 - x),
    x: { low: 0.1, high: 0.9 },
    target: unit,
  },
  {
    name: 'binaryCrossEntropyWithLogits',
    fn: (x, t) => nn.binaryCrossEntropyWithLogits(x, t, { reduction: none }),
    formula: (x, t) => (1 - t) * x + softplus(-x),
    target: unit,
  },
];

const halves: OpRow['wider'] = {
  by: { bfloat16: 2, float16: 2 },
  because: 'the gradient is a difference of rounded inputs',
};

const pointwise = cases.map(
  ({ name, fn, formula, x = wide, target = wide }): OpRow => ({
    op: 'pointwiseLoss',
    variant: name,
    fn: (...inputs) => fn(inputs[0] as ng.Tensor, inputs[1] as ng.Tensor),
    reference: (a: Nd, b: Nd) => zip(formula, a, b),
    inputs: [
      { shape: (n) => [n, 3], domain: x },
      { shape: (n) => [n, 3], domain: target },
    ],
    large: 20_001,
    wider: halves,
    ...(name === 'mseLoss' && {
      errors: [
        {
          name: 'shapes that differ',
          call: (device) => nn.mseLoss(ng.zeros([2], { device }), ng.zeros([3], { device })),
          message: 'mseLoss: shapes must be equal, got [2] and [3]',
        },
        {
          name: 'integers',
          call: (device) => {
            const x = ng.zeros([2], { device, dtype: 'int32' });
            return nn.mseLoss(x, x);
          },
          message: 'mseLoss: needs a floating dtype, got int32',
        },
      ],
    }),
  }),
);

const posWeight = [0.5, 3, 1];
const positives: OpRow = {
  op: 'pointwiseLoss',
  variant: 'binaryCrossEntropyWithLogits, weighted',
  fn: (x, t) => {
    const { device, dtype } = x as ng.Tensor;
    return nn.binaryCrossEntropyWithLogits(x as ng.Tensor, t as ng.Tensor, {
      reduction: none,
      posWeight: ng.tensor(posWeight, { device, dtype }),
    });
  },
  reference: (x: Nd, t: Nd) =>
    zip(
      (a, b, p) => (1 - b) * a + (1 + (p - 1) * b) * softplus(-a),
      x,
      t,
      nd([posWeight.length], posWeight),
    ),
  inputs: [
    { shape: (n) => [n, 3], domain: wide },
    { shape: (n) => [n, 3], domain: unit },
  ],
  wider: halves,
};

/** Σ_c q_c·(lse - x_c) per row, q = w·((1 - ε)·t + ε/C). */
function softLoss(x: Nd, t: (row: number, c: number) => number, w: number[], epsilon: number): Nd {
  const [rows, classes] = x.shape as [number, number];
  return build([rows], ([n]) => {
    const values = x.data.subarray((n as number) * classes, ((n as number) + 1) * classes);
    const top = Math.max(...values);
    const lse = top + Math.log(values.reduce((sum, v) => sum + Math.exp(v - top), 0));
    return values.reduce((sum, v, c) => {
      const q =
        (w[c % w.length] as number) * ((1 - epsilon) * t(n as number, c) + epsilon / classes);
      return sum + q * (lse - v);
    }, 0);
  });
}

const weights = [0.5, 2, 1, 0.25, 3];

function weightOf(x: ng.Tensor): ng.Tensor {
  const values = Array.from({ length: x.shape[1] as number }, (_, c) => weights[c % 5] as number);
  return ng.tensor(values, { device: x.device, dtype: x.dtype });
}

const classes: Domain = { low: -0.49, high: 4.49, integer: true };

/** -w·x of each row's class in [N, 5, D], 0 where it is `ignored`. */
function classLosses(x: Nd, t: Nd, ignored = -1): Nd {
  const inner = x.data.length / 5 / Math.max(1, x.shape[0] as number);
  return nd(
    t.shape,
    t.data.map((c, row) => {
      const at = (Math.floor(row / inner) * 5 + c) * inner + (row % inner);
      return c === ignored ? 0 : -(weights[c] as number) * (x.data[at] as number);
    }),
  );
}

const nll: readonly OpRow[] = [
  {
    op: 'nllLoss',
    variant: 'per row of images, weighted',
    fn: (x, t) =>
      nn.nllLoss(x as ng.Tensor, t as ng.Tensor, {
        reduction: none,
        weight: weightOf(x as ng.Tensor),
        ignoreIndex: 2,
      }),
    reference: (x: Nd, t: Nd) => classLosses(x, t, 2),
    inputs: [
      { shape: (n) => [n, 5, 3], domain: wide },
      { shape: (n) => [n, 3], dtype: 'int64', domain: classes },
    ],
    sizes: [0, 1, 33],
    large: 20_001,
    errors: [
      {
        name: 'other rows',
        call: (device) =>
          nn.nllLoss(ng.zeros([2, 3], { device }), ng.zeros([3], { device, dtype: 'int64' })),
        message: 'nllLoss: shapes must be [N,C,…] and [N,…], got [2,3] and [3]',
      },
      {
        name: 'weights of another number',
        call: (device) =>
          nn.nllLoss(ng.zeros([2, 3], { device }), ng.zeros([2], { device, dtype: 'int64' }), {
            weight: ng.zeros([2], { device }),
          }),
        message: 'nllLoss: the weight must be [3], got [2]',
      },
    ],
  },
  {
    op: 'nllLoss',
    variant: 'mean, weighted',
    fn: (x, t) => nn.nllLoss(x as ng.Tensor, t as ng.Tensor, { weight: weightOf(x as ng.Tensor) }),
    reference: (x: Nd, t: Nd) => {
      const total = t.data.reduce((sum, c) => sum + (weights[c] as number), 0);
      return nd([], [classLosses(x, t).data.reduce((a, b) => a + b, 0) / total]);
    },
    inputs: [
      { shape: (n) => [n, 5], domain: wide },
      { shape: (n) => [n], dtype: 'int64', domain: classes },
    ],
    sizes: [1, 33, 5000],
    large: 20_001,
    terms: (n) => n,
  },
];

export const lossRows: readonly OpRow[] = [...pointwise, positives, ...nll];

const logits: Domain = { low: -4, high: 4 };
const wider: OpRow['wider'] = {
  by: { bfloat16: 4, float16: 4 },
  because: 'the gradient is a difference of sums over rounded inputs',
};

export const softCrossEntropyRows: readonly OpRow[] = [
  {
    op: 'softCrossEntropy',
    variant: 'of probabilities [n,5]',
    fn: (x, t) => ng.crossEntropy(x as ng.Tensor, t as ng.Tensor, { reduction: none }),
    reference: (x: Nd, t: Nd) => softLoss(x, (n, c) => t.data[n * 5 + c] as number, [1], 0),
    inputs: [
      { shape: (n) => [n, 5], domain: logits },
      { shape: (n) => [n, 5], domain: unit },
    ],
    terms: () => 5,
    large: 20_001,
    wider,
  },
  {
    op: 'softCrossEntropy',
    variant: 'of probabilities [3,n], weighted and smoothed',
    fn: (x, t) =>
      ng.crossEntropy(x as ng.Tensor, t as ng.Tensor, {
        reduction: none,
        weight: weightOf(x as ng.Tensor),
        labelSmoothing: 0.1,
      }),
    reference: (x: Nd, t: Nd) =>
      softLoss(x, (n, c) => t.data[n * (x.shape[1] as number) + c] as number, weights, 0.1),
    inputs: [
      { shape: (n) => [3, n], domain: logits },
      { shape: (n) => [3, n], domain: unit },
    ],
    sizes: [1, 31, 33, 1025],
    terms: (n) => n,
    wider,
  },
  {
    op: 'softCrossEntropy',
    variant: 'of classes, weighted and smoothed',
    fn: (x, t) =>
      ng.crossEntropy(x as ng.Tensor, t as ng.Tensor, {
        reduction: none,
        weight: weightOf(x as ng.Tensor),
        labelSmoothing: 0.3,
        ignoreIndex: 2,
      }),
    reference: (x: Nd, t: Nd) => {
      const all = softLoss(x, (n, c) => (t.data[n] === c ? 1 : 0), weights, 0.3);
      return nd(
        all.shape,
        all.data.map((loss, n) => (t.data[n] === 2 ? 0 : loss)),
      );
    },
    inputs: [
      { shape: (n) => [n, 5], domain: logits },
      {
        shape: (n) => [n],
        dtype: 'int64',
        domain: { low: -0.49, high: 4.49, integer: true },
      },
    ],
    terms: () => 5,
    large: 20_001,
    wider,
    errors: [
      {
        name: 'weights of another number',
        call: (device) =>
          ng.crossEntropy(ng.zeros([2, 3], { device }), ng.zeros([2, 3], { device }), {
            weight: ng.ones([2], { device }),
          }),
        message: 'crossEntropy: the weight must be float32[3], got float32[2]',
      },
      {
        name: 'an ignored class beside probabilities',
        call: (device) =>
          ng.crossEntropy(ng.zeros([2, 3], { device }), ng.zeros([2, 3], { device }), {
            ignoreIndex: 1,
          }),
        message: 'crossEntropy: ignoreIndex needs class indices, got a tensor float32[2,3]',
      },
      {
        name: 'smoothing out of range',
        call: (device) =>
          ng.crossEntropy(ng.zeros([2, 3], { device }), ng.zeros([2, 3], { device }), {
            labelSmoothing: 1.5,
          }),
        message: 'crossEntropy: labelSmoothing must be in [0,1], got 1.5',
      },
    ],
  },
];
