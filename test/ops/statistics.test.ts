/** Reductions composed of others: values by plain loops, gradients by central differences. */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { cpu, devices } from '../support/devices.js';
import { nd, reduce } from '../support/nd.js';
import { testOps } from '../support/op.js';
import { uniformOf } from '../support/vectors.js';
import { varianceRows } from './rows/variance.js';

testOps(varianceRows);

type Fn = (x: ng.Tensor, axes?: ng.Axes, keepdim?: boolean) => ng.Tensor;
const total = (values: number[]): number => values.reduce((a, b) => a + b, 0);

function moment(values: number[], correction: number): number {
  const mean = total(values) / values.length;
  return total(values.map((v) => (v - mean) ** 2)) / (values.length - correction);
}

const norms = [0.5, 1, 2, 3, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY] as const;
const formulas: [string, Fn, (values: number[]) => number][] = [
  [
    'variance',
    (x, axes, keepdim = false) => ng.variance(x, axes, { keepdim }),
    (v) => moment(v, 1),
  ],
  [
    'variance, biased',
    (x, axes, keepdim = false) => ng.variance(x, axes, { keepdim, correction: 0 }),
    (v) => moment(v, 0),
  ],
  [
    'std',
    (x, axes, keepdim = false) => ng.std(x, axes, { keepdim }),
    (v) => Math.sqrt(moment(v, 1)),
  ],
  [
    'mean of varMean',
    (x, axes, keepdim = false) => ng.varMean(x, axes, { keepdim })[1],
    (v) => total(v) / v.length,
  ],
  ['logsumexp', ng.logsumexp, (v) => Math.log(total(v.map(Math.exp)))],
  ...norms.map((p): [string, Fn, (values: number[]) => number] => [
    `norm ${p}`,
    (x, axes, keepdim) => ng.norm(x, p, axes, keepdim),
    (v) => {
      if (p === Number.POSITIVE_INFINITY) return Math.max(...v.map(Math.abs));
      if (p === Number.NEGATIVE_INFINITY) return Math.min(...v.map(Math.abs));
      return total(v.map((x) => Math.abs(x) ** p)) ** (1 / p);
    },
  ]),
];

const axesOf: [ng.Axes | undefined, boolean][] = [
  [undefined, false],
  [1, false],
  [0, true],
  [[0, -1], false],
];

describe('statistics', () => {
  it.each(formulas)('%s has the gradient of its formula', (_, fn) => {
    for (const [axes, keepdim] of axesOf) {
      ng.scope(() => {
        const x = uniformOf(1, [3, 2, 4], -2, 2).requireGrad();
        const y = fn(x, axes, keepdim);
        const dout = uniformOf(2, y.shape);
        y.backward(dout);
        const values = valuesOf(x.detach());
        const h = 1e-6;
        const numeric = values.data.map((_, j) => {
          const at = (by: number): number => {
            const data = Float64Array.from(values.data);
            data[j] = (data[j] as number) + by;
            const moved = ng.tensor(data, x.shape, { dtype: 'float64', device: cpu });
            return Number(fn(moved, axes, keepdim).mul(dout).sum().item());
          };
          return (at(h) - at(-h)) / (2 * h);
        });
        expectClose(valuesOf(x.grad as ng.Tensor), nd(values.shape, numeric), 1e-7, 'gradient');
      });
    }
  });

  for (const device of devices) {
    it.each(formulas)(`%s has the values of its formula on ${device.name}`, (_, fn, f) => {
      for (const shape of [
        [3, 33, 4],
        [2, 2, 2],
      ]) {
        for (const [axes, keepdim] of axesOf) {
          ng.scope(() => {
            const x = uniformOf(1, shape, -2, 2);
            const expected = reduce(valuesOf(x), axes, keepdim, f);
            for (const dtype of ['float64', 'float32'] as const) {
              const y = fn(x.to(dtype, device), axes, keepdim);
              expect(y.dtype).toBe(dtype);
              expectClose(valuesOf(y), expected, dtype === 'float64' ? 1e-12 : 1e-5, `${axes}`);
            }
          });
        }
      }
    });

    it(`variance of float32 is right where the mean is large on ${device.name}`, () => {
      ng.scope(() => {
        // Steps of 1/16 at 100,000 are exact in float32.
        const values = Float32Array.from({ length: 4096 }, (_, i) => 1e5 + ((i * 7) % 64) / 16);
        const expected = moment([...values], 1);
        const got = Number(ng.variance(ng.tensor(values, [4096], { device })).item());
        expect(Math.abs(got - expected) / expected).toBeLessThan(1e-5);
      });
    });

    it(`variance of nothing and of one element is NaN on ${device.name}`, () => {
      ng.scope(() => {
        const pair = (shape: ng.Shape, axis: number): number[][] =>
          ng.varMean(ng.ones(shape, { device }), axis).map((x) => [...valuesOf(x).data]);
        const nan = Number.NaN;
        expect(pair([0], 0)).toEqual([[nan], [nan]]);
        expect(pair([1], 0)).toEqual([[nan], [1]]);
        expect(pair([0, 2], 0)).toEqual([
          [nan, nan],
          [nan, nan],
        ]);
        expect(pair([2, 0], 0)).toEqual([[], []]);
      });
    });

    it(`counts what is and is not 0 on ${device.name}`, () => {
      ng.scope(() => {
        const x = ng.tensor(
          [
            [0, 1, Number.NaN],
            [0, 0, 2],
          ],
          { device },
        );
        expect(x.countNonzero().item()).toBe(3);
        expect(x.countNonzero(1).toArray()).toEqual([2, 1]);
        expect(x.any(0).toArray()).toEqual([false, true, true]);
        expect(x.all(0, true).toArray()).toEqual([[false, false, true]]);
        expect(x.any().dtype).toBe('bool');
        const none = ng.zeros([0, 2], { device, dtype: 'bool' });
        expect([none.any().item(), none.all().item()]).toEqual([0, 1]);
      });
    });

    it(`takes limits on ${device.name}`, () => {
      ng.scope(() => {
        const infinity = Number.POSITIVE_INFINITY;
        const low = ng.full([3], -infinity, { device });
        expect(low.logsumexp().item()).toBe(-infinity);
        expect(ng.tensor([infinity, 0], { device }).logsumexp().item()).toBe(infinity);
        expect(ng.tensor([1000, 1000], { device }).logsumexp().item()).toBeCloseTo(
          1000 + Math.LN2,
          3,
        );
        expect(ng.zeros([0], { device }).logsumexp().item()).toBe(-infinity);
        expect(ng.norm(ng.tensor([0, 3, -4], { device }), 0).item()).toBe(2);
        for (const p of [0.5, 2, 3]) {
          const x = ng.zeros([3], { device }).requireGrad();
          const y = ng.norm(x, p);
          expect(y.item()).toBe(0);
          y.backward();
          expect(x.grad?.toArray()).toEqual([0, 0, 0]);
        }
        const flat = ng.ones([4], { device }).requireGrad();
        ng.std(flat).backward();
        expect(flat.grad?.toArray()).toEqual([0, 0, 0, 0]);
      });
    });
  }

  it('refuses what is no axis or option', () => {
    const x = ng.zeros([2, 3]);
    expect(() => ng.variance(x, 2)).toThrow('variance: axes must be in [-2,2), got 2');
    expect(() => ng.std(x, 0, { correction: 'x' as never })).toThrow(
      'std: correction must be a number, got "x"',
    );
    expect(() => ng.norm(x, 'fro' as never)).toThrow('norm: p must be a number, got "fro"');
    expect(() => ng.any(x, [0, 0])).toThrow('any: axes must differ, got [0,0]');
    expect(() => ng.logsumexp(x, 0, 1 as never)).toThrow(
      'logsumexp: keepdim must be true or false, got 1',
    );
  });

  it.each(devices)('measures vectors whose squares float16 does not hold on $name', (device) => {
    ng.scope(() => {
      const half = { device, dtype: 'float16' } as const;
      const x = ng.tensor([300, 400], half).requireGrad();
      const length = x.norm();
      expect([length.dtype, length.item()]).toEqual(['float16', 500]);
      length.backward();
      expect([...(x.grad?.data() ?? [])].map((v) => Math.round(Number(v) * 100))).toEqual([60, 80]);
      expect(x.detach().norm(3).item()).toBe(449.75);
      const row = x.detach().reshape([1, 2]);
      for (const [p, near] of [
        [2, 500],
        [1, 700],
        [Number.POSITIVE_INFINITY, 400],
      ] as const) {
        const zero = ng.zeros([1, 2], half);
        expect(ng.nn.tripletMarginLoss(row, zero, row, { p, eps: 0, margin: 0 }).item()).toBe(near);
      }
    });
  });
});
