/** Elementwise functions of several operands, composed of others. */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { zip } from '../support/nd.js';
import { uniformOf } from '../support/vectors.js';

describe.each(devices)('blends on $name', (device) => {
  it('clamps, with the gradient where PyTorch puts it', () => {
    ng.scope(() => {
      const x = ng.tensor([-2, -1, 0, 1, 2, Number.NaN], { device }).requireGrad();
      const y = x.clamp(-1, 1);
      expect(y.toArray()).toEqual([-1, -1, 0, 1, 1, Number.NaN]);
      y.backward(ng.onesLike(y));
      expect(x.grad?.toArray()).toEqual([0, 1, 1, 1, 0, 0]);
      const low = ng.tensor([0, 0], { device }).requireGrad();
      ng.clamp(ng.tensor([-1, 1], { device }), low, null)
        .sum()
        .backward();
      expect(low.grad?.toArray()).toEqual([1, 0]);
      const bounded = ng.clamp(ng.tensor([5, -5], { device }), null, 3);
      expect(bounded.toArray()).toEqual([3, -5]);
      expect(() => ng.clamp(x, null)).toThrow('clamp: needs a min or a max, got neither');
      expect(() => ng.clamp(x, 'a' as never)).toThrow(
        'clamp: min must be a tensor or a number, got "a"',
      );
    });
  });

  it('have the values of their formulas', () => {
    ng.scope(() => {
      const [a, b, c] = [1, 2, 3].map((seed) => uniformOf(seed, [3, 4], 0.5, 2).to(device)) as [
        ng.Tensor,
        ng.Tensor,
        ng.Tensor,
      ];
      const check = (y: ng.Tensor, f: (...x: number[]) => number, name: string): void => {
        expectClose(valuesOf(y), zip(f, valuesOf(a), valuesOf(b), valuesOf(c)), 1e-12, name);
      };
      check(ng.lerp(a, b, 0.25), (x, y) => x + 0.25 * (y - x), 'lerp');
      check(a.lerp(b, c), (x, y, w) => x + w * (y - x), 'lerp by a tensor');
      check(a.addcmul(b, c, 3), (x, y, z) => x + 3 * y * z, 'addcmul');
      check(a.addcdiv(b, c), (x, y, z) => x + y / z, 'addcdiv');
      check(a.sub(1).celu(2), (x) => (x > 1 ? x - 1 : 2 * Math.expm1((x - 1) / 2)), 'celu');
    });
  });

  it('replace what is not finite', () => {
    ng.scope(() => {
      const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
      const x = ng.tensor([nan, infinity, -infinity, 1], { device }).requireGrad();
      const y = x.nanToNum(5, 6);
      const most = Math.fround((2 - 2 ** -23) * 2 ** 127);
      expect(y.toArray()).toEqual([5, 6, -most, 1]);
      y.backward(ng.onesLike(y));
      expect(x.grad?.toArray()).toEqual([0, 0, 0, 1]);
      const half = ng.tensor([infinity], { device, dtype: 'float16' });
      expect(ng.nanToNum(half).item()).toBe(65504);
      expect(ng.nanToNum(ng.tensor([3], { device, dtype: 'int32' })).item()).toBe(3);
    });
  });

  it('divide integers by 0 without harm', () => {
    ng.scope(() => {
      for (const dtype of ['int32', 'int64', 'uint8'] as const) {
        const x = ng.tensor([7, 1], { device, dtype });
        const zero = ng.zeros([2], { device, dtype });
        for (const fn of [ng.remainder, ng.fmod, ng.floorDivide]) {
          expect(fn(x, zero).sum().item()).toBe(0);
        }
      }
      const least = ng.tensor([-(2 ** 31)], { device, dtype: 'int32' });
      expect(ng.floorDivide(least, -1).item()).toBe(-(2 ** 31));
      expect(ng.remainder(least, -1).item()).toBe(0);
      expect(() => ng.fmod(ng.tensor([true], { device }), true as never)).toThrow(TypeError);
    });
  });

  it('find numbers close as PyTorch does', () => {
    ng.scope(() => {
      const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
      const a = ng.tensor([1, 1, inf, inf, nan, 0, 1], { device });
      const b = ng.tensor([1 + 5e-6, 1.1, inf, -inf, nan, 1e-9, inf], { device });
      const flags = [true, false, true, false, false, true, false];
      expect(ng.isclose(a, b).toArray()).toEqual(flags);
      const loose = ng.isclose(a, b, { rtol: 0.1, equalNan: true }).toArray();
      expect(loose).toEqual([true, true, true, false, true, true, false]);
      expect(ng.allclose(a, b)).toBe(false);
      expect(ng.allclose(a.slice(0, 0, 2), b.slice(0, 0, 2), { atol: 0.11 })).toBe(true);
      const whole = ng.tensor([3, 5], { device, dtype: 'uint8' });
      expect(ng.allclose(whole, ng.tensor([5, 3], { device, dtype: 'uint8' }), { atol: 2 })).toBe(
        true,
      );
      expect(() => ng.isclose(a, b, { rtol: -1 })).toThrow('isclose: rtol must be in [0,Infinity]');
      expect(() => ng.glu(a)).toThrow('glu: the axis must have an even size, got 7');
    });
  });

  it('activations as modules have their parameters', () => {
    ng.scope(() => {
      const x = ng.tensor([-2, -0.5, 0.5, 2], { device, dtype: 'float64' });
      const values = (layer: ng.nn.Layer): number[] => [...valuesOf(layer.forward(x)).data];
      expect(values(new ng.nn.LeakyReLU(0.5))).toEqual([-1, -0.25, 0.5, 2]);
      expect(values(new ng.nn.Hardtanh(-1, 0.25))).toEqual([-1, -0.5, 0.25, 0.25]);
      expect(values(new ng.nn.Hardtanh())).toEqual([-1, -0.5, 0.5, 1]);
      expect(values(new ng.nn.ReLU6())).toEqual([0, 0, 0.5, 2]);
      expect(values(new ng.nn.ELU(2))[0]).toBeCloseTo(2 * Math.expm1(-2), 12);
      expect(values(new ng.nn.CELU(2))[0]).toBeCloseTo(2 * Math.expm1(-1), 12);
      expect(values(new ng.nn.Hardsigmoid())[2]).toBeCloseTo(3.5 / 6, 12);
      expect(values(new ng.nn.Softsign())[3]).toBeCloseTo(2 / 3, 12);
      expect(values(new ng.nn.LogSigmoid())[0]).toBeCloseTo(-Math.log1p(Math.exp(2)), 12);
      const soft = (v: number): number => (2 * v > 1.5 ? v : Math.log1p(Math.exp(2 * v)) / 2);
      values(new ng.nn.Softplus(2, 1.5)).forEach((v, i) => {
        expect(v).toBeCloseTo(soft([-2, -0.5, 0.5, 2][i] as number), 12);
      });
      const place = { device, dtype: 'float64' } as const;
      expect(values(new ng.nn.PReLU(1, place))).toEqual([-0.5, -0.125, 0.5, 2]);
      const each = new ng.nn.PReLU(2, { init: -2, ...place });
      each
        .forward(x.reshape([2, 2, 1]))
        .sum()
        .backward();
      expect(each.weight.grad?.toArray()).toEqual([-2, -0.5]);
      expect(() => each.forward(x)).toThrow('PReLU: the input must be [N,2,…], got [4]');
      expect(values(new ng.nn.GLU())[0]).toBeCloseTo(-2 / (1 + Math.exp(-0.5)), 12);
      const rows = x.reshape([1, 1, 4]);
      expect(new ng.nn.AdaptiveAvgPool1d(2).forward(rows).toArray()).toEqual([[[-1.25, 1.25]]]);
      expect(new ng.nn.AdaptiveMaxPool1d(null).forward(rows).toArray()).toEqual(rows.toArray());
      expect(new ng.nn.Flatten(0, 1).forward(rows).shape).toEqual([1, 4]);
      const [tanh, exact] = [new ng.nn.GELU({ approximate: 'tanh' }), new ng.nn.GELU()].map(values);
      expect(tanh?.[3]).not.toBe(exact?.[3]);
      expect(tanh?.[3]).toBeCloseTo(exact?.[3] as number, 2);
      for (const layer of [new ng.nn.Hardswish(), new ng.nn.SELU(), new ng.nn.Mish()]) {
        expect(values(layer)[3]).toBeGreaterThan(1.6);
      }
    });
  });
});
