import * as ng from '../../../lib/index.js';
import { type Nd, reduce } from '../../support/nd.js';
import type { OpRow } from '../../support/op.js';

interface Case {
  variant: string;
  shape: (n: number) => ng.Shape;
  axes?: ng.Axes;
  correction?: number;
  large?: number;
}

// Lines, columns, the middle, axes that are not neighbours, none, and many outputs.
const cases: Case[] = [
  { variant: 'all of [n]', shape: (n) => [n], large: 90_001 },
  { variant: 'axis 1 of [3,n]', shape: (n) => [3, n], axes: 1, correction: 0, large: 30_001 },
  { variant: 'axis 0 of [n,3]', shape: (n) => [n, 3], axes: 0, large: 30_001 },
  { variant: 'axis 0 of [3,n]', shape: (n) => [3, n], axes: 0, large: 9001 },
  { variant: 'axis 0 of [40,n], kept', shape: (n) => [40, n], axes: [0] },
  { variant: 'axis 1 of [2,n,3]', shape: (n) => [2, n, 3], axes: -2, correction: 0.5 },
  { variant: 'axes 0 and 2 of [2,n,3]', shape: (n) => [2, n, 3], axes: [0, 2] },
  { variant: 'no axes', shape: (n) => [n], axes: [], correction: 0 },
];

function moment(values: number[], correction: number): number {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const squares = values.reduce((total, x) => total + (x - mean) ** 2, 0);
  return squares / (values.length - correction);
}

export const varianceRows: readonly OpRow[] = cases.map(
  ({ variant, shape, axes, correction = 1, large }, i): OpRow => {
    const keepdim = i % 2 === 0;
    return {
      op: 'variance',
      variant,
      fn: (x) => ng.variance(x as ng.Tensor, axes, { correction, keepdim }),
      reference: (x: Nd) => reduce(x, axes, keepdim, (values) => moment(values, correction)),
      inputs: [{ shape }],
      sizes: [2, 31, 33, 1025],
      terms: (n) => 3 * n,
      ...(large && { large }),
      ...(i === 0 && {
        errors: [
          {
            name: 'an axis out of range',
            call: (device) => ng.variance(ng.zeros([2, 3], { device }), 2),
            message: 'variance: axes must be in [-2,2), got 2',
          },
          {
            name: 'integers',
            call: (device) => ng.variance(ng.zeros([2], { device, dtype: 'int32' })),
            message: 'variance: needs a floating dtype, got int32',
          },
          {
            name: 'a correction that is no number',
            call: (device) =>
              ng.variance(ng.zeros([2], { device }), 0, { correction: '1' as never }),
            message: 'variance: correction must be a number, got "1"',
          },
        ],
      }),
    };
  },
);
