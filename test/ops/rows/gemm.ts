import * as ng from '../../../lib/index.js';
import { erf, map, matmul, type Nd, permute, zip } from '../../support/nd.js';
import type { Domain, Input, OpRow } from '../../support/op.js';

const half: Domain = { low: -1, high: 1 };

interface Shapes {
  variant: string;
  a: (n: number) => ng.Shape;
  b: (n: number) => ng.Shape;
  sizes?: number[];
}

// n is the inner size where it can be, so that 0 is a product of nothing.
const shapes: Shapes[] = [
  { variant: '[7,n] by [n,5]', a: (n) => [7, n], b: (n) => [n, 5], sizes: [0, 1, 31, 33, 257] },
  { variant: '[n,9] by [9,n]', a: (n) => [n, 9], b: (n) => [9, n], sizes: [0, 1, 31, 33] },
  { variant: '[n,n] by [n,n]', a: (n) => [n, n], b: (n) => [n, n], sizes: [1, 17, 33, 64] },
  { variant: '[1,n] by [n,1]', a: (n) => [1, n], b: (n) => [n, 1], sizes: [0, 1, 33, 1025] },
  { variant: '[n,1] by [1,n]', a: (n) => [n, 1], b: (n) => [1, n], sizes: [0, 1, 33] },
  { variant: '[n] by [n]', a: (n) => [n], b: (n) => [n], sizes: [0, 1, 33, 1025] },
  { variant: '[n] by [n,4]', a: (n) => [n], b: (n) => [n, 4], sizes: [0, 1, 33] },
  { variant: '[4,n] by [n]', a: (n) => [4, n], b: (n) => [n], sizes: [0, 1, 33] },
  { variant: 'a batch', a: (n) => [3, 4, n], b: (n) => [3, n, 5], sizes: [0, 1, 33] },
  { variant: 'one right operand', a: (n) => [3, 4, n], b: (n) => [n, 5], sizes: [1, 33] },
  { variant: 'one left operand', a: (n) => [4, n], b: (n) => [3, n, 5], sizes: [1, 33] },
  {
    variant: 'batches that broadcast',
    a: (n) => [2, 1, 3, n],
    b: (n) => [4, n, 2],
    sizes: [0, 1, 33],
  },
  { variant: 'a batch by a vector', a: (n) => [3, 4, n], b: (n) => [n], sizes: [1, 33] },
  { variant: 'a vector by a batch', a: (n) => [n], b: (n) => [3, n, 4], sizes: [1, 33] },
];

const errors: OpRow['errors'] = [
  {
    name: 'inner sizes that differ',
    call: (device) => ng.matmul(ng.zeros([2, 3], { device }), ng.zeros([4, 5], { device })),
    message: 'matmul: inner sizes must match, got [2,3] and [4,5]',
  },
  {
    name: 'batches that do not broadcast',
    call: (device) => ng.matmul(ng.zeros([2, 3, 4], { device }), ng.zeros([3, 4, 5], { device })),
    message: 'matmul: batch sizes must broadcast, got [2,3,4] and [3,4,5]',
  },
  {
    name: 'a scalar',
    call: (device) => ng.matmul(ng.zeros([], { device }), ng.zeros([2], { device })),
    message: 'matmul: needs tensors of rank 1 or more, got [] and [2]',
  },
  {
    name: 'two dtypes',
    call: (device) =>
      ng.matmul(ng.zeros([2, 2], { device }), ng.zeros([2, 2], { device, dtype: 'float16' })),
    message: 'matmul: needs two tensors of one dtype other than bool, got float32 and float16',
  },
  {
    name: 'bools',
    call: (device) => {
      const x = ng.zeros([2, 2], { device, dtype: 'bool' });
      return ng.matmul(x, x);
    },
    message: 'matmul: needs two tensors of one dtype other than bool, got bool and bool',
  },
];

function inner(shape: ng.Shape): number {
  return shape.at(-1) ?? 1;
}

const plain: OpRow[] = shapes.map(({ variant, a, b, sizes }, i) => ({
  op: 'matmul',
  variant,
  fn: ng.matmul as OpRow['fn'],
  reference: matmul,
  inputs: [
    { shape: a, domain: half },
    { shape: b, domain: half },
  ],
  ...(sizes && { sizes }),
  terms: (n) => Math.max(inner(a(n)), 16),
  // A line of sums, several blocks, and a batch.
  ...([0, 1, 11].includes(i) && { exact: ['int32', 'int64', 'uint8'] as const }),
  // Where n is an outer size, too, the result grows by its square.
  large: i === 1 || i === 2 || i === 4 ? 200 : 3001,
  ...(i === 0 && { errors }),
}));

const swap = (x: Nd): Nd => permute(x, [1, 0]);
const transposed: OpRow[] = [
  {
    op: 'matmul',
    variant: 'of a transposed left operand',
    fn: (a, b) => ng.matmul((a as ng.Tensor).T, b as ng.Tensor),
    reference: (a: Nd, b: Nd) => matmul(swap(a), b),
    inputs: [
      { shape: (n) => [n, 6], domain: half },
      { shape: (n) => [n, 5], domain: half },
    ],
    sizes: [0, 1, 33],
    terms: (n) => Math.max(n, 16),
  },
  {
    op: 'matmul',
    variant: 'of a transposed right operand',
    fn: (a, b) => ng.matmul(a as ng.Tensor, (b as ng.Tensor).T),
    reference: (a: Nd, b: Nd) => matmul(a, swap(b)),
    inputs: [
      { shape: (n) => [6, n], domain: half },
      { shape: (n) => [5, n], domain: half },
    ],
    sizes: [0, 1, 33],
    terms: (n) => Math.max(n, 16),
  },
  {
    op: 'matmul',
    variant: 'of two transposed operands',
    fn: (a, b) => ng.matmul((a as ng.Tensor).T, (b as ng.Tensor).T),
    reference: (a: Nd, b: Nd) => matmul(swap(a), swap(b)),
    inputs: [
      { shape: (n) => [n, 6], domain: half },
      { shape: (n) => [5, n], domain: half },
    ],
    sizes: [0, 1, 33],
    terms: (n) => Math.max(n, 16),
  },
];

// Lines of whole 16 bytes, which tensor copies take, with every transposition.
const aligned: OpRow[] = [0, 1, 2, 3].map((which): OpRow => {
  const [left, right] = [which % 2 === 1, which >= 2];
  return {
    op: 'matmul',
    variant: `of whole lines, ${left ? 'a' : 'no'} left and ${right ? 'a' : 'no'} right transposition`,
    fn: (a, b) => {
      const [x, y] = [a as ng.Tensor, b as ng.Tensor];
      return ng.matmul(left ? x.T : x, right ? y.T : y);
    },
    reference: (a: Nd, b: Nd) => matmul(left ? swap(a) : a, right ? swap(b) : b),
    inputs: [
      { shape: (n) => (left ? [n, 24] : [24, n]), domain: half },
      { shape: (n) => (right ? [72, n] : [n, 72]), domain: half },
    ],
    sizes: [8, 72, 200],
    terms: (n) => Math.max(n, 16),
  };
});

const features = 7;
const weight: Input = { shape: (n) => [features, n], domain: half };
const bias: Input = { shape: () => [features], domain: half };
const plus = (a: Nd, b: Nd): Nd => zip((p, q) => p + q, a, b);
const endings: Record<'none' | ng.LinearActivation, (x: number) => number> = {
  none: (x) => x,
  relu: (x) => Math.max(x, 0),
  gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  geluTanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};
type Ending = keyof typeof endings;
const affine =
  (ending: Ending, biased: boolean) =>
  (x: Nd, w: Nd, ...rest: Nd[]): Nd => {
    const product = matmul(x, swap(w));
    const [b, residual] = biased ? rest : [undefined, ...rest];
    const y = map(b ? plus(product, b) : product, endings[ending]);
    return residual ? plus(y, residual) : y;
  };

const inputs: [string, (n: number) => ng.Shape][] = [
  ['a matrix', (n) => [11, n]],
  ['a vector', (n) => [n]],
  ['rank 3', (n) => [2, 3, n]],
  ['no rows', (n) => [0, n]],
];

const linearErrors: OpRow['errors'] = [
  {
    name: 'sizes that differ',
    call: (device) => ng.linear(ng.zeros([2, 3], { device }), ng.zeros([4, 5], { device })),
    message: "linear: the last size must match the weight's, got [2,3] and [4,5]",
  },
  {
    name: 'a bias of another size',
    call: (device) =>
      ng.linear(
        ng.zeros([2, 3], { device }),
        ng.zeros([4, 3], { device }),
        ng.zeros([3], { device }),
      ),
    message: /^linear: the bias must be /,
  },
  {
    name: 'a bias that is no tensor',
    call: (device) =>
      ng.linear(
        ng.zeros([2, 3], { device }),
        ng.zeros([4, 3], { device }),
        1 as unknown as ng.Tensor,
      ),
    message: 'linear: bias must be a tensor, got 1',
  },
  {
    name: 'a residual of another shape',
    call: (device) =>
      ng.linear(ng.zeros([2, 3], { device }), ng.zeros([4, 3], { device }), null, {
        residual: ng.zeros([4], { device }),
      }),
    message: 'linear: the residual must be [2,4], got [4]',
  },
  {
    name: 'an unknown activation',
    call: (device) =>
      ng.linear(ng.zeros([2, 3], { device }), ng.zeros([4, 3], { device }), null, {
        activation: 'tanh' as 'relu',
      }),
    message: 'linear: activation must be one of relu, gelu, geluTanh, got "tanh"',
  },
];

const endingsOf = (ending: Ending, residual?: ng.Tensor): ng.LinearCall => ({
  ...(ending !== 'none' && { activation: ending }),
  ...(residual && { residual }),
});

const linearRow = (
  [name, shape]: (typeof inputs)[number],
  ending: Ending,
  biased: boolean,
  added: boolean,
): OpRow => ({
  op: 'linear',
  variant: `of ${name}${biased ? ', bias' : ''}, ${ending}${added ? ', residual' : ''}`,
  fn: (x, w, ...rest) => {
    const [b, residual] = biased ? rest : [null, ...rest];
    return ng.linear(x as ng.Tensor, w as ng.Tensor, b, endingsOf(ending, residual ?? undefined));
  },
  reference: affine(ending, biased),
  inputs: [
    { shape, domain: half },
    weight,
    ...(biased ? [bias] : []),
    ...(added
      ? [{ shape: (n: number) => [...shape(n).slice(0, -1), features], domain: half }]
      : []),
  ],
  sizes: [0, 1, 33],
  terms: (n) => Math.max(n, 16),
  large: 1001,
  wider: {
    by: { bfloat16: 2, float16: 2 },
    because: 'the bias gradient sums rounded rows',
  },
});

const linearRows = inputs.flatMap((input, i): OpRow[] => [
  { ...linearRow(input, 'none', true, false), ...(i === 0 && { errors: linearErrors }) },
  linearRow(input, 'none', false, false),
  linearRow(input, 'relu', true, false),
  linearRow(input, 'relu', false, false),
  linearRow(input, 'gelu', true, false),
  ...(i < 2
    ? [
        linearRow(input, 'none', true, true),
        linearRow(input, 'relu', false, true),
        linearRow(input, 'gelu', false, true),
        linearRow(input, 'geluTanh', true, true),
      ]
    : []),
]);

export const gemmRows: readonly OpRow[] = [...plain, ...transposed, ...aligned, ...linearRows];
