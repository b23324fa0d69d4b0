import * as ng from '../../../lib/index.js';
import { type Nd, zip } from '../../support/nd.js';
import type { Domain, OpRow } from '../../support/op.js';

type BinaryFn = (a: ng.TensorLike, b: ng.TensorLike) => ng.Tensor;
type Shapes = (n: number) => ng.Shape;

const integers = ['int32', 'int64', 'uint8'] as const;
const float = (dtype: ng.DType): ng.DType =>
  (integers as readonly ng.DType[]).includes(dtype) ? 'float32' : dtype;
const bool = (): ng.DType => 'bool';

// The same shape, broadcasts on either side and on both, an added axis, and a scalar.
const shapes: [string, Shapes, Shapes][] = [
  ['', (n) => [n], (n) => [n]],
  ['[3,n] and [n]', (n) => [3, n], (n) => [n]],
  ['[n] and [2,1]', (n) => [n], () => [2, 1]],
  ['[n,1] and [1,3]', (n) => [n, 1], () => [1, 3]],
  ['[n] and []', (n) => [n], () => []],
  ['[2,1,n] and [2,3,1]', (n) => [2, 1, n], () => [2, 3, 1]],
];

interface Op {
  op: OpRow['op'];
  fn: BinaryFn;
  f: (a: number, b: number) => number;
  a?: Domain;
  b?: Domain;
  options?: Partial<OpRow>;
}

function rowsOf({ op, fn, f, a, b, options }: Op): OpRow[] {
  const errors: OpRow['errors'] = [
    {
      name: 'shapes that do not broadcast',
      call: (device) => fn(ng.zeros([2, 3], { device }), ng.zeros([2], { device })),
      message: `${op}: shapes must broadcast, got [2,3] and [2]`,
    },
    {
      name: 'what is neither tensor nor number',
      call: (device) => fn(ng.zeros([2], { device }), 'x' as unknown as number),
      message: `${op}: operands must be tensors or numbers, got "x"`,
    },
    {
      name: 'two numbers',
      call: () => fn(1, 2),
      message: `${op}: a must be a tensor, got 1`,
    },
  ];
  const domains = { ...(a && { a }), ...(b && { b }) };
  const two = shapes.map(
    ([variant, left, right], i): OpRow => ({
      op,
      variant,
      fn: fn as OpRow['fn'],
      reference: (x: Nd, y: Nd) => zip(f, x, y),
      inputs: [
        { shape: left, ...(domains.a && { domain: domains.a }) },
        { shape: right, ...(domains.b && { domain: domains.b }) },
      ],
      ...(i > 0 ? { sizes: [0, 1, 33] } : { large: 70_001 }),
      ...(i === 2 && { large: 30_001 }),
      terms: (n) => (i > 0 ? 3 * n : 1),
      ...options,
      ...(i === 0 && { errors }),
    }),
  );
  // 1.5 is exact in every dtype; 2 keeps integers integers.
  const numbers = [1.5, 2].flatMap((number): OpRow[] => [
    {
      op,
      variant: `x and ${number}`,
      fn: (x) => fn(x, number),
      reference: (x) => zip((v) => f(v, number), x),
      inputs: [{ shape: (n) => [n], ...(a && { domain: a }) }],
      sizes: [0, 1, 33],
      ...options,
      ...(number === 1.5 && { exact: [] }),
    },
    {
      op,
      variant: `${number} and x`,
      fn: (x) => fn(number, x),
      reference: (x) => zip((v) => f(number, v), x),
      inputs: [{ shape: (n) => [n], ...(b && { domain: b }) }],
      sizes: [0, 1, 33],
      ...options,
      ...(number === 1.5 && { exact: [] }),
    },
  ]);
  return [...two, ...numbers];
}

const comparison = { differentiable: false, result: bool, exact: integers };
const composed: Partial<OpRow> = {
  wider: {
    by: { bfloat16: 2, float16: 2 },
    because: 'the gradient is composed of ops that each round',
  },
};
const cancelling: Partial<OpRow> = {
  wider: {
    by: { bfloat16: 4, float16: 6 },
    because: 'broadcast gradients sum terms that each rounded and that cancel',
  },
};
const awayFromZero: Domain = { low: -3, high: 3, avoid: (x) => Math.abs(x) < 0.5 };
const awayFromNumbers: Domain = {
  low: -4,
  high: 4,
  avoid: (x) => Math.abs(x - 1.5) < 0.01 || Math.abs(x - 2) < 0.01,
};
const small: Domain = { low: -3, high: 3, integer: true };
const base: Domain = { low: 0.3, high: 3 };

export const binaryRows: readonly OpRow[] = [
  ...rowsOf({ op: 'add', fn: ng.add, f: (a, b) => a + b, options: { exact: integers } }),
  ...rowsOf({ op: 'sub', fn: ng.sub, f: (a, b) => a - b, options: { exact: integers } }),
  ...rowsOf({ op: 'mul', fn: ng.mul, f: (a, b) => a * b, options: { exact: integers } }),
  ...rowsOf({
    op: 'div',
    fn: ng.div,
    f: (a, b) => a / b,
    b: awayFromZero,
    options: { exact: ['int32'], result: float, ...composed },
  }),
  ...rowsOf({
    op: 'pow',
    fn: ng.pow,
    f: (a, b) => a ** b,
    a: base,
    b: { low: -2, high: 3 },
    options: {
      wider: {
        by: { bfloat16: 4, float16: 4 },
        because: 'the gradient is composed of ops that each round, a logarithm among them',
      },
    },
  }),
  ...rowsOf({
    op: 'maximum',
    fn: ng.maximum,
    f: (a, b) => Math.max(a, b),
    a: awayFromNumbers,
    b: awayFromNumbers,
    options: { exact: integers },
  }),
  ...rowsOf({
    op: 'minimum',
    fn: ng.minimum,
    f: (a, b) => Math.min(a, b),
    a: awayFromNumbers,
    b: awayFromNumbers,
    options: { exact: integers },
  }),
  ...rowsOf({
    op: 'remainder',
    fn: ng.remainder,
    f: (a, b) => a - b * Math.floor(a / b),
    a: { low: -9, high: 9 },
    b: awayFromZero,
    options: { exact: ['int32', 'int64'], ...composed },
  }),
  ...rowsOf({
    op: 'fmod',
    fn: ng.fmod,
    f: (a, b) => a % b,
    a: { low: -9, high: 9 },
    b: awayFromZero,
    options: { exact: integers, ...composed },
  }),
  ...rowsOf({
    op: 'floorDivide',
    fn: ng.floorDivide,
    f: (a, b) => Math.floor(a / b),
    a: { low: -9, high: 9 },
    b: awayFromZero,
    options: { exact: integers },
  }),
  ...rowsOf({
    op: 'atan2',
    fn: ng.atan2,
    f: Math.atan2,
    a: awayFromZero,
    b: base,
    options: cancelling,
  }),
  ...rowsOf({ op: 'hypot', fn: ng.hypot, f: Math.hypot, a: awayFromZero, options: cancelling }),
  ...rowsOf({
    op: 'logaddexp',
    fn: ng.logaddexp,
    f: (a, b) => Math.log(Math.exp(a) + Math.exp(b)),
    options: composed,
  }),
  ...rowsOf({
    op: 'clampMin',
    fn: ng.clampMin,
    f: (a, b) => Math.max(a, b),
    a: awayFromNumbers,
    b: awayFromNumbers,
    options: { exact: integers },
  }),
  ...rowsOf({
    op: 'clampMax',
    fn: ng.clampMax,
    f: (a, b) => Math.min(a, b),
    a: awayFromNumbers,
    b: awayFromNumbers,
    options: { exact: integers },
  }),
  ...rowsOf({
    op: 'leakyRelu',
    fn: ng.leakyRelu,
    f: (a, b) => (a > 0 ? a : a * b),
    a: awayFromZero,
    options: composed,
  }),
  ...(
    [
      ['eq', ng.eq, (a, b) => a === b],
      ['ne', ng.ne, (a, b) => a !== b],
      ['lt', ng.lt, (a, b) => a < b],
      ['le', ng.le, (a, b) => a <= b],
      ['gt', ng.gt, (a, b) => a > b],
      ['ge', ng.ge, (a, b) => a >= b],
      ['logicalAnd', ng.logicalAnd, (a, b) => a !== 0 && b !== 0],
      ['logicalOr', ng.logicalOr, (a, b) => a !== 0 || b !== 0],
      ['logicalXor', ng.logicalXor, (a, b) => (a !== 0) !== (b !== 0)],
    ] as [OpRow['op'], BinaryFn, (a: number, b: number) => boolean][]
  ).flatMap(([op, fn, f]) =>
    rowsOf({
      op,
      fn,
      f: (a, b) => (f(a, b) ? 1 : 0),
      a: small,
      b: small,
      options: comparison,
    }),
  ),
];

const condition = (shape: Shapes) => ({ shape, dtype: 'bool' as const });
const choose = (c: Nd, a: Nd, b: Nd): Nd => zip((k, x, y) => (k !== 0 ? x : y), c, a, b);

export const whereRows: readonly OpRow[] = [
  {
    op: 'where',
    fn: ng.where as OpRow['fn'],
    reference: choose,
    inputs: [condition((n) => [n]), { shape: (n) => [n] }, { shape: (n) => [n] }],
    exact: ['int32', 'int64', 'uint8', 'bool'],
    errors: [
      {
        name: 'a condition that is not bool',
        call: (device) => ng.where(ng.ones([2], { device }), ng.ones([2], { device }), 0),
        message: 'where: the condition must be bool, got float32',
      },
      {
        name: 'what is neither tensor nor number',
        call: (device) => ng.where(ng.tensor([true], { device }), 'x' as never, 0),
        message: 'where: a must be a tensor, got "x"',
      },
    ],
  },
  {
    op: 'where',
    variant: 'broadcast',
    fn: ng.where as OpRow['fn'],
    reference: choose,
    inputs: [condition((n) => [n, 1]), { shape: () => [3] }, { shape: () => [2, 1, 1] }],
    sizes: [0, 1, 33],
    terms: (n) => 3 * n,
  },
  {
    op: 'where',
    variant: 'with a number for a',
    fn: (c, b) => ng.where(c as ng.Tensor, 0.5, b as ng.Tensor),
    reference: (c, b) => zip((k, y) => (k !== 0 ? 0.5 : y), c, b),
    inputs: [condition((n) => [n]), { shape: (n) => [n] }],
    sizes: [0, 1, 33],
  },
  {
    op: 'where',
    variant: 'with a number for b',
    fn: (c, a) => ng.where(c as ng.Tensor, a as ng.Tensor, 3),
    reference: (c, a) => zip((k, x) => (k !== 0 ? x : 3), c, a),
    inputs: [condition((n) => [n]), { shape: (n) => [n] }],
    sizes: [0, 1, 33],
  },
];
