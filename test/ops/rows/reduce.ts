import * as ng from '../../../lib/index.js';
import { count, type Nd, normalAxes, reduce } from '../../support/nd.js';
import type { Domain, OpRow } from '../../support/op.js';

type ReduceFn = (x: ng.Tensor, axes?: ng.Axes, keepdim?: boolean) => ng.Tensor;

interface Case {
  variant: string;
  shape: (n: number) => ng.Shape;
  axes?: ng.Axes;
  keepdim?: boolean;
  sizes?: number[];
}

// Rows, columns, the middle, several axes, none, and a scalar.
const cases: Case[] = [
  { variant: 'all of [n]', shape: (n) => [n] },
  { variant: 'axis 1 of [3,n]', shape: (n) => [3, n], axes: 1 },
  { variant: 'axis 0 of [n,3]', shape: (n) => [n, 3], axes: 0, keepdim: true },
  { variant: 'axis 0 of [3,n]', shape: (n) => [3, n], axes: 0 },
  { variant: 'axis -1 of [n,3]', shape: (n) => [n, 3], axes: -1 },
  { variant: 'axis 0 of [n,40]', shape: (n) => [n, 40], axes: 0, sizes: [1, 33] },
  { variant: 'axes 0 and 2 of [2,n,3]', shape: (n) => [2, n, 3], axes: [0, 2], sizes: [1, 33] },
  {
    variant: 'axis 1 of [2,n,3]',
    shape: (n) => [2, n, 3],
    axes: [1],
    keepdim: true,
    sizes: [1, 33],
  },
  { variant: 'all of [n,2,3], kept', shape: (n) => [n, 2, 3], keepdim: true, sizes: [1, 33] },
  { variant: 'no axes', shape: (n) => [n], axes: [], sizes: [1, 33] },
  { variant: 'a scalar', shape: () => [], sizes: [1] },
];

function termsOf({ shape, axes }: Case, n: number): number {
  const sizes = shape(n);
  return count(normalAxes(axes, sizes.length).map((axis) => sizes[axis] as number));
}

interface Op {
  op: OpRow['op'];
  fn: ReduceFn;
  f: (values: number[]) => number;
  domain?: Domain | ((n: number) => Domain);
  empty: boolean;
  options?: Partial<OpRow>;
}

function rowsOf({ op, fn, f, domain, empty, options }: Op): OpRow[] {
  const errors: OpRow['errors'] = [
    {
      name: 'an axis out of range',
      call: (device) => fn(ng.zeros([2, 3], { device }), 2),
      message: `${op}: axes must be in [-2,2), got 2`,
    },
    {
      name: 'one axis twice',
      call: (device) => fn(ng.zeros([2, 3], { device }), [1, -1]),
      message: `${op}: axes must differ, got [1,-1]`,
    },
    {
      name: 'keepdim that is no boolean',
      call: (device) => fn(ng.zeros([2], { device }), 0, 1 as unknown as boolean),
      message: `${op}: keepdim must be true or false, got 1`,
    },
    ...(empty
      ? []
      : [
          {
            name: 'no elements',
            call: (device: ng.Device) => fn(ng.zeros([2, 0], { device }), 1),
            message: `${op}: needs at least one element, got shape [2,0]`,
          },
        ]),
  ];
  return cases.map((entry, i): OpRow => {
    const { variant, shape, axes, keepdim = false } = entry;
    const all = entry.sizes ?? [0, 1, 31, 33, 1025];
    return {
      op,
      variant,
      fn: (x) => fn(x as ng.Tensor, axes, keepdim),
      reference: (x: Nd) => reduce(x, axes, keepdim, f),
      inputs: [{ shape, ...(domain && { domain }) }],
      sizes: empty ? all : all.filter((n) => n > 0),
      terms: (n) => termsOf(entry, n),
      ...(i < 6 && { large: 30_001 }),
      ...options,
      ...(i === 0 && { errors }),
    };
  });
}

const total = (values: number[]): number => values.reduce((a, b) => a + b, 0);
const long = (dtype: ng.DType): ng.DType =>
  ['int32', 'uint8', 'bool'].includes(dtype) ? 'int64' : dtype;

export const reduceRows: readonly OpRow[] = [
  ...rowsOf({
    op: 'sum',
    fn: ng.sum,
    f: total,
    empty: true,
    options: { exact: ['int32', 'int64', 'uint8', 'bool'], result: long },
  }),
  ...rowsOf({
    op: 'mean',
    fn: ng.mean,
    f: (values) => total(values) / values.length,
    empty: true,
  }),
  ...rowsOf({
    op: 'max',
    fn: ng.max,
    f: (values) => values.reduce((a, b) => Math.max(a, b)),
    empty: false,
    options: { exact: ['int32', 'int64', 'uint8', 'bool'] },
  }),
  ...rowsOf({
    op: 'min',
    fn: ng.min,
    f: (values) => values.reduce((a, b) => Math.min(a, b)),
    empty: false,
    options: { exact: ['int32', 'int64', 'uint8', 'bool'] },
  }),
  ...rowsOf({
    op: 'prod',
    fn: ng.prod,
    f: (values) => values.reduce((a, b) => a * b, 1),
    empty: true,
    // Near 1, so that a product of a thousand stays near 1.
    domain: (n) => ({ low: 1 - 0.5 / Math.sqrt(n + 1), high: 1 + 0.5 / Math.sqrt(n + 1) }),
    options: { exact: ['int32', 'bool'], result: long },
  }),
];

const argReference =
  (axis: number | undefined, keepdim: boolean, better: (a: number, b: number) => boolean) =>
  (x: Nd): Nd =>
    reduce(x, axis, keepdim && axis !== undefined, (values) => {
      const nan = values.findIndex(Number.isNaN);
      if (nan >= 0) return nan;
      let best = 0;
      for (let i = 1; i < values.length; ++i) {
        if (better(values[i] as number, values[best] as number)) best = i;
      }
      return best;
    });

type ArgReduceFn = (x: ng.Tensor, axis?: number, keepdim?: boolean) => ng.Tensor;

function argRows(
  op: OpRow['op'],
  fn: ArgReduceFn,
  better: (a: number, b: number) => boolean,
): OpRow[] {
  const variants: [string, (n: number) => ng.Shape, number | undefined, boolean][] = [
    ['all of [n]', (n) => [n], undefined, false],
    ['axis 1 of [3,n]', (n) => [3, n], 1, false],
    ['axis 0 of [n,3]', (n) => [n, 3], 0, true],
    ['axis 0 of [2,n]', (n) => [2, n], -2, false],
    ['all of [n,2]', (n) => [n, 2], undefined, false],
  ];
  return variants.map(
    ([variant, shape, axis, keepdim], i): OpRow => ({
      op,
      variant,
      fn: (x) => fn(x as ng.Tensor, axis, keepdim),
      reference: argReference(axis, keepdim, better),
      // Few values, so that there are ties.
      inputs: [{ shape, domain: { low: -3, high: 3, integer: true } }],
      sizes: [1, 31, 33, 1025],
      large: 30_001,
      differentiable: false,
      result: () => 'int64',
      exact: ['int32', 'int64', 'uint8'],
      ...(i === 0 && {
        errors: [
          {
            name: 'no elements',
            call: (device) => fn(ng.zeros([0], { device })),
            message: `${op}: needs at least one element, got shape [0]`,
          },
          {
            name: 'an axis out of range',
            call: (device) => fn(ng.zeros([2], { device }), 1),
            message: `${op}: axis must be in [-1,1), got 1`,
          },
          {
            name: 'bool',
            call: (device) => fn(ng.tensor([true], { device })),
            message: `${op}: needs a numeric dtype, got bool`,
          },
        ],
      }),
    }),
  );
}

export const argReduceRows: readonly OpRow[] = [
  ...argRows('argmax', ng.argmax, (a, b) => a > b),
  ...argRows('argmin', ng.argmin, (a, b) => a < b),
];
