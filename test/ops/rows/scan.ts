import * as ng from '../../../lib/index.js';
import { at, build, type Nd } from '../../support/nd.js';
import type { Domain, OpRow } from '../../support/op.js';

type ScanFn = (x: ng.Tensor, axis: number) => ng.Tensor;

const shapes: [string, (n: number) => ng.Shape, number][] = [
  ['[n]', (n) => [n], 0],
  ['axis 1 of [3,n]', (n) => [3, n], 1],
  ['axis 0 of [n,3]', (n) => [n, 3], 0],
  ['axis 0 of [3,n]', (n) => [3, n], -2],
  ['axis 1 of [2,n,3]', (n) => [2, n, 3], -2],
];

function running(x: Nd, axis: number, f: (a: number, b: number) => number): Nd {
  const along = axis < 0 ? axis + x.shape.length : axis;
  return build(x.shape, (index) => {
    const place = [...index];
    place[along] = 0;
    let total = at(x, place);
    for (let i = 1; i <= (index[along] as number); ++i) {
      place[along] = i;
      total = f(total, at(x, place));
    }
    return total;
  });
}

const long = (dtype: ng.DType): ng.DType =>
  ['int32', 'uint8', 'bool'].includes(dtype) ? 'int64' : dtype;

function rowsOf(
  op: 'cumsum' | 'cumprod',
  fn: ScanFn,
  f: (a: number, b: number) => number,
  domain: (n: number) => Domain,
  options: Partial<OpRow>,
): OpRow[] {
  return shapes.map(
    ([variant, shape, axis], i): OpRow => ({
      op,
      variant,
      fn: (x) => fn(x as ng.Tensor, axis),
      reference: (x: Nd) => running(x, axis, f),
      inputs: [{ shape, domain }],
      sizes: [0, 1, 31, 33, 300],
      terms: (n) => 3 * n,
      large: [9001, 4001, 300, 300, 300][i] as number,
      result: long,
      ...options,
      ...(i === 0 && {
        errors: [
          {
            name: 'an axis out of range',
            call: (device) => fn(ng.zeros([2, 3], { device }), 2),
            message: `${op}: axis must be in [-2,2), got 2`,
          },
          {
            name: 'an axis that is no integer',
            call: (device) => fn(ng.zeros([2], { device }), 0.5),
            message: `${op}: axis must be an integer, got 0.5`,
          },
        ],
      }),
    }),
  );
}

export const scanRows: readonly OpRow[] = [
  ...rowsOf(
    'cumsum',
    ng.cumsum,
    (a, b) => a + b,
    () => ({ low: -2, high: 2 }),
    { exact: ['int32', 'int64', 'uint8', 'bool'] },
  ),
  ...rowsOf(
    'cumprod',
    ng.cumprod,
    (a, b) => a * b,
    // Near 1, so that long products stay near 1.
    (n) => ({ low: 1 - 0.5 / Math.sqrt(n + 1), high: 1 + 0.5 / Math.sqrt(n + 1) }),
    {
      exact: ['int32', 'bool'],
      wider: {
        by: { bfloat16: 4, float16: 4 },
        because: 'the gradient is composed of ops that each round',
      },
    },
  ),
];
