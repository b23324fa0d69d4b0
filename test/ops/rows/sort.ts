import * as ng from '../../../lib/index.js';
import { at, build, type Nd } from '../../support/nd.js';
import type { OpRow } from '../../support/op.js';

interface Case {
  variant: string;
  shape: (n: number) => ng.Shape;
  axis: number;
  descending?: boolean;
  /** The first so many; all where left out. */
  k?: (n: number) => number;
  sizes?: number[];
  large?: number;
}

const cases: Case[] = [
  { variant: '[n]', shape: (n) => [n], axis: 0, large: 20_001 },
  { variant: 'axis 1 of [3,n], descending', shape: (n) => [3, n], axis: 1, descending: true },
  { variant: 'axis 0 of [n,3]', shape: (n) => [n, 3], axis: 0, large: 5000 },
  { variant: 'axis 0 of [3,n]', shape: (n) => [3, n], axis: -2 },
  {
    variant: 'the 3 largest of [2,n]',
    shape: (n) => [2, n],
    axis: -1,
    descending: true,
    k: (n) => Math.min(n, 3),
    large: 5000,
  },
  {
    variant: 'the smallest of [n,2,2]',
    shape: (n) => [n, 2, 2],
    axis: 0,
    k: (n) => Math.min(n, 1),
  },
];

/** The elements of an axis in order, or their indices. */
function ordered(x: Nd, axis: number, descending: boolean, k: number, indices: boolean): Nd {
  const along = axis < 0 ? axis + x.shape.length : axis;
  const n = x.shape[along] as number;
  const shape = x.shape.map((size, i) => (i === along ? k : size));
  const sortedLines = new Map<string, [number, number][]>();
  return build(shape, (index) => {
    const key = index.map((i, j) => (j === along ? '' : i)).join();
    let line = sortedLines.get(key);
    if (!line) {
      line = Array.from({ length: n }, (_, i): [number, number] => {
        const place = [...index];
        place[along] = i;
        return [at(x, place), i];
      });
      line.sort(([a, i], [b, j]) => (descending ? b - a : a - b) || i - j);
      sortedLines.set(key, line);
    }
    return line[index[along] as number]?.[indices ? 1 : 0] as number;
  });
}

function call(entry: Case, x: ng.Tensor): [ng.Tensor, ng.Tensor] {
  const { axis, descending = false, k } = entry;
  const n = x.shape.at(axis) as number;
  if (k) return ng.topk(x, k(n), axis, { largest: descending });
  return ng.sort(x, axis, { descending });
}

function reference(entry: Case, x: Nd, indices: boolean): Nd {
  const n = x.shape.at(entry.axis) as number;
  const count = entry.k ? entry.k(n) : n;
  return ordered(x, entry.axis, entry.descending ?? false, count, indices);
}

export const sortRows: readonly OpRow[] = cases.flatMap((entry, i): OpRow[] => [
  {
    op: 'sort',
    variant: entry.variant,
    fn: (x) => call(entry, x as ng.Tensor)[0],
    reference: (x) => reference(entry, x, false),
    inputs: [{ shape: entry.shape }],
    sizes: [0, 1, 2, 31, 33, 1025, ...(i < 2 ? [2500] : [])],
    ...(entry.large && { large: entry.large }),
    exact: ['int32', 'int64', 'uint8', 'bool'],
    ...(i === 0 && {
      errors: [
        {
          name: 'an axis out of range',
          call: (device) => ng.sort(ng.zeros([2, 3], { device }), 2),
          message: 'sort: axis must be an integer in [-2,1], got 2',
        },
        {
          name: 'more than there are',
          call: (device) => ng.topk(ng.zeros([2, 3], { device }), 4),
          message: 'topk: k must be in [0,3], got 4',
        },
        {
          name: 'a negative count',
          call: (device) => ng.topk(ng.zeros([2, 3], { device }), -1),
          message: 'topk: k must be an integer of 0 or more, got -1',
        },
        {
          name: 'an order that is no boolean',
          call: (device) => ng.sort(ng.zeros([2], { device }), 0, { descending: 1 as never }),
          message: 'sort: descending must be true or false, got 1',
        },
      ],
    }),
  },
]);

/** Indices of few values, so that there are ties. */
export const indexCases = cases.map((entry) => ({
  name: entry.variant,
  shape: entry.shape,
  indices: (x: ng.Tensor) => call(entry, x)[1],
  reference: (x: Nd) => reference(entry, x, true),
}));
