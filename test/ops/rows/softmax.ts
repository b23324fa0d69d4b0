import * as ng from '../../../lib/index.js';
import { at, build, type Nd, nd, reduce, zip } from '../../support/nd.js';
import type { Domain, OpRow } from '../../support/op.js';

function softmax(x: Nd, axis: number, logarithm: boolean): Nd {
  if (x.shape.length === 0) return nd([], [logarithm ? 0 : 1]);
  const highest = (values: number[]): number =>
    values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const lse = reduce(x, axis, true, (values) => {
    const top = highest(values);
    return top + Math.log(values.reduce((sum, v) => sum + Math.exp(v - top), 0));
  });
  return zip((v, l) => (logarithm ? v - l : Math.exp(v - l)), x, lse);
}

const domain: Domain = { low: -4, high: 4 };
const halves: OpRow['wider'] = {
  by: { bfloat16: 3, float16: 3 },
  because: 'the gradient subtracts a sum over rounded outputs',
};

function softmaxRows(logarithm: boolean): OpRow[] {
  const fn = logarithm ? ng.logSoftmax : ng.softmax;
  const name = logarithm ? 'logSoftmax' : 'softmax';
  const variants: [string, (n: number) => ng.Shape, number | undefined, number[]?][] = [
    [`${name} of [n]`, (n) => [n], undefined],
    [`${name} of [5,n]`, (n) => [5, n], undefined],
    [`${name} over axis 0 of [n,3]`, (n) => [n, 3], 0],
    [`${name} over axis 1 of [2,n,3]`, (n) => [2, n, 3], 1, [0, 1, 33]],
    [`${name} over axis -1 of [2,3,n]`, (n) => [2, 3, n], -1, [0, 1, 33]],
    [`${name} of a scalar`, () => [], undefined, [1]],
  ];
  return variants.map(
    ([variant, shape, axis, sizes], i): OpRow => ({
      op: 'softmax',
      variant,
      fn: (x) => fn(x as ng.Tensor, axis),
      reference: (x: Nd) => softmax(x, axis ?? -1, logarithm),
      inputs: [{ shape, domain }],
      ...(sizes && { sizes }),
      terms: (n) => n,
      large: 20_001,
      wider: halves,
      ...(i === 0 && {
        errors: [
          {
            name: 'an axis out of range',
            call: (device) => fn(ng.zeros([2, 3], { device }), 2),
            message: `${name}: axis must be an integer in [-2,1], got 2`,
          },
          {
            name: 'integers',
            call: (device) => fn(ng.zeros([2], { device, dtype: 'int32' })),
            message: `${name}: needs a floating dtype, got int32`,
          },
        ],
      }),
    }),
  );
}

const classes = 7;
const ignored = 3;

function crossEntropy(reduction: ng.Reduction, ignoreIndex?: number) {
  return (logits: Nd, target: Nd): Nd => {
    const rows = build([logits.shape[0] as number], ([n]) => {
      const row = n as number;
      const wanted = target.data[row] as number;
      if (wanted === ignoreIndex) return 0;
      const values = Array.from({ length: logits.shape[1] as number }, (_, c) =>
        at(logits, [row, c]),
      );
      const top = Math.max(...values);
      const lse = top + Math.log(values.reduce((sum, v) => sum + Math.exp(v - top), 0));
      return lse - (values[wanted] as number);
    });
    if (reduction === 'none') return rows;
    const total = rows.data.reduce((a, b) => a + b, 0);
    const counted = target.data.filter((t) => t !== ignoreIndex).length;
    return nd([], [reduction === 'sum' ? total : total / counted]);
  };
}

const target: OpRow['inputs'][number] = {
  shape: (n) => [n],
  dtype: 'int64',
  domain: { low: -0.49, high: classes - 0.51, integer: true },
};

const crossEntropyErrors: OpRow['errors'] = [
  {
    name: 'a target that is neither classes nor probabilities',
    call: (device) =>
      ng.crossEntropy(ng.zeros([2, 3], { device }), ng.zeros([2], { device, dtype: 'bool' })),
    message: 'crossEntropy: the target must be int64, int32 or uint8, got a tensor bool[2]',
  },
  {
    name: 'shapes that do not fit',
    call: (device) =>
      ng.crossEntropy(ng.zeros([2, 3], { device }), ng.zeros([3], { device, dtype: 'int64' })),
    message: 'crossEntropy: shapes must be [N,C,…] and [N,…], got [2,3] and [3]',
  },
  {
    name: 'no classes',
    call: (device) =>
      ng.crossEntropy(ng.zeros([2, 0], { device }), ng.zeros([2], { device, dtype: 'int64' })),
    message: 'crossEntropy: needs at least one class, got none',
  },
  {
    name: 'an unknown reduction',
    call: (device) =>
      ng.crossEntropy(ng.zeros([2, 3], { device }), ng.zeros([2], { device, dtype: 'int64' }), {
        reduction: 'max' as ng.Reduction,
      }),
    message: 'crossEntropy: reduction must be one of mean, sum, none, got "max"',
  },
];

const crossEntropyRows = (['mean', 'sum', 'none'] as const).flatMap((reduction) =>
  [undefined, ignored].map(
    (ignoreIndex): OpRow => ({
      op: 'crossEntropy',
      variant: `${reduction}${ignoreIndex === undefined ? '' : ', some ignored'}`,
      fn: (logits, classIndex) =>
        ng.crossEntropy(logits as ng.Tensor, classIndex as ng.Tensor, {
          reduction,
          ...(ignoreIndex !== undefined && { ignoreIndex }),
        }),
      reference: crossEntropy(reduction, ignoreIndex),
      inputs: [{ shape: (n) => [n, classes], domain }, target],
      sizes: ignoreIndex === undefined ? [0, 1, 31, 33, 1025] : [0, 31, 33],
      large: 20_001,
      terms: (n) => (reduction === 'none' ? 1 : n),
      wider: halves,
      ...(reduction === 'mean' && ignoreIndex === undefined && { errors: crossEntropyErrors }),
    }),
  ),
);

const wide: OpRow = {
  op: 'crossEntropy',
  variant: 'of [3,n]',
  fn: (logits, classIndex) =>
    ng.crossEntropy(logits as ng.Tensor, classIndex as ng.Tensor, { reduction: 'none' }),
  reference: crossEntropy('none'),
  inputs: [
    { shape: (n) => [3, n], domain },
    { shape: () => [3], dtype: 'int64', domain: (n) => ({ low: 0, high: n - 1, integer: true }) },
  ],
  sizes: [1, 31, 33, 1025],
  terms: (n) => n,
  wider: halves,
};

export const softmaxRowsAll: readonly OpRow[] = [
  ...softmaxRows(false),
  ...softmaxRows(true),
  ...crossEntropyRows,
  wide,
];
