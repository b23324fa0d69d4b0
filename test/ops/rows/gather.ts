import * as ng from '../../../lib/index.js';
import { at, build, type Nd, nd } from '../../support/nd.js';
import type { ErrorCase, Input, OpRow } from '../../support/op.js';

const integers = ['int32', 'int64', 'uint8', 'bool'] as const;
const length = 7;

function index(shape: (n: number) => ng.Shape): Input {
  return { shape, dtype: 'int64', domain: { low: -0.49, high: length - 0.51, integer: true } };
}

/** An index without repeats along the axis: the values of `order` at each place. */
const order = [3, 0, 6, 2];
const distinct: Input['domain'] = { low: 0, high: 0 };

const along = (i: readonly number[], axis: number, place: number): number[] =>
  i.map((v, a) => (a === axis ? place : v));

function gathered(axis: number) {
  return (x: Nd, index: Nd): Nd => build(index.shape, (i) => at(x, along(i, axis, at(index, i))));
}

function scattered(axis: number, join: (to: number, from: number) => number) {
  return (x: Nd, index: Nd, src: Nd): Nd => {
    const out = nd(x.shape, x.data);
    build(index.shape, (i) => {
      const to = along(i, axis, at(index, i));
      const offset = to.reduce((sum, v, a) => sum * (x.shape[a] as number) + v, 0);
      out.data[offset] = join(out.data[offset] as number, at(src, i));
      return 0;
    });
    return out;
  };
}

const refuses = (
  name: string,
  call: (x: ng.Tensor, index: ng.Tensor) => unknown,
  message: string | RegExp,
): ErrorCase => ({
  name,
  call: (device) =>
    call(ng.zeros([2, 3], { device }), ng.zeros([2, 3], { device, dtype: 'int64' })),
  message,
});

const shapes: [string, number, (n: number) => ng.Shape, (n: number) => ng.Shape][] = [
  ['along axis 0', 0, (n) => [length, n], (n) => [5, n]],
  ['along the last axis', -1, (n) => [n, length], (n) => [n, 9]],
  ['along a middle axis', 1, (n) => [n, length, 3], (n) => [n, 4, 2]],
  ['of a vector', 0, () => [length], (n) => [n]],
];
const firstAxis = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

const gatherOnly = shapes.map(([variant, axis, x, picks], at): OpRow => {
  const from = firstAxis(axis, x(1).length);
  return {
    op: 'gather',
    variant,
    fn: (...t) => ng.gather(t[0] as ng.Tensor, axis, t[1] as ng.Tensor),
    reference: (...t) => gathered(from)(t[0] as Nd, t[1] as Nd),
    inputs: [{ shape: x }, index(picks)],
    sizes: [0, 1, 33],
    exact: integers,
    terms: (n) => n + 9,
    large: 20_001,
    ...(at === 0 && {
      errors: [
        refuses(
          'an index of fractions',
          (t) => t.gather(0, t),
          'gather: the index must be int64, int32 or uint8, got float32',
        ),
        refuses(
          'an index of another rank',
          (t, i) => t.gather(0, i.at(0)),
          'gather: the index must have the rank of x and sizes no larger except on axis 0, got [2,3] and [3]',
        ),
        refuses(
          'an axis out of range',
          (t, i) => t.gather(2, i),
          'gather: axis must be in [-2,2), got 2',
        ),
      ],
    }),
  };
});

// Repeats: sums in any case, the last value where it is written (no gradient is asked for then).
const addRows = shapes.map(([variant, axis, x, picks]): OpRow => {
  const from = firstAxis(axis, x(1).length);
  return {
    op: 'scatterAdd',
    variant,
    fn: (...t) => ng.scatterAdd(t[0] as ng.Tensor, axis, t[1] as ng.Tensor, t[2] as ng.Tensor),
    reference: (...t) => scattered(from, (a, b) => a + b)(t[0] as Nd, t[1] as Nd, t[2] as Nd),
    inputs: [{ shape: x }, index(picks), { shape: picks }],
    sizes: [0, 1, 33, 257],
    exact: ['int32', 'int64', 'uint8'],
    terms: (n) => n + 9,
    large: 20_001,
    errors: [
      refuses(
        'bool',
        (t, i) => t.cast('bool').scatterAdd(0, i, t),
        'scatterAdd: needs numbers, got bool',
      ),
      refuses(
        'a source that does not cover the index',
        (t, i) => t.scatterAdd(0, i, t.slice(0, 0, 1)),
        'scatterAdd: the source must cover the index, got [1,3] and [2,3]',
      ),
    ],
  };
});

const scatterRows: OpRow[] = [
  {
    op: 'scatter',
    variant: 'of a tensor',
    fn: (...t) => {
      const [x, zeroIndex, src] = t as [ng.Tensor, ng.Tensor, ng.Tensor];
      const column = ng.tensor(order.map(BigInt), [4, 1], { device: x.device });
      return ng.scatter(x, 0, zeroIndex.add(column), src);
    },
    reference: (x, zeroIndex, src) =>
      scattered(0, (_, b) => b)(
        x as Nd,
        build((zeroIndex as Nd).shape, ([i]) => order[i as number] as number),
        src as Nd,
      ),
    inputs: [
      { shape: (n) => [length, n] },
      { shape: (n) => [4, n], dtype: 'int64', domain: distinct },
      // Larger than the index, which reads its corner.
      { shape: (n) => [5, n + 1] },
    ],
    sizes: [0, 1, 33],
    exact: integers,
    large: 20_001,
  },
  {
    op: 'scatter',
    variant: 'of a number',
    fn: (...t) => ng.scatter(t[0] as ng.Tensor, -1, t[1] as ng.Tensor, 2),
    reference: (x, picks) =>
      scattered(1, (_, b) => b)(
        x as Nd,
        picks as Nd,
        build((picks as Nd).shape, () => 2),
      ),
    inputs: [{ shape: (n) => [n, length] }, index((n) => [n, 5])],
    sizes: [0, 1, 33],
    exact: ['int32', 'int64', 'uint8'],
  },
];

const nonzeroRow: OpRow = {
  op: 'nonzero',
  fn: (x) => ng.nonzero(x as ng.Tensor),
  reference: (x: Nd) => {
    const places: number[] = [];
    build(x.shape, (i) => {
      if (at(x, i) !== 0) places.push(...i);
      return 0;
    });
    return nd([places.length / x.shape.length, x.shape.length], places);
  },
  inputs: [{ shape: (n) => [3, n], domain: { low: -1, high: 1, integer: true } }],
  sizes: [1, 33, 4099],
  result: () => 'int64',
  exact: integers,
  differentiable: false,
};

export const gatherRows: readonly OpRow[] = [...gatherOnly, ...addRows, ...scatterRows, nonzeroRow];
