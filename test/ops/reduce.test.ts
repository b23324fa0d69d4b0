import { describe, expect, it } from 'vitest';
import {
  argmax,
  argmin,
  full,
  max,
  min,
  prod,
  scope,
  stack,
  sum,
  tensor,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { argReduceRows, reduceRows } from './rows/reduce.js';

testOps([...reduceRows, ...argReduceRows]);

describe.each(devices)('reductions on $name', (device) => {
  it('let NaN win in max, min, argmax and argmin', () => {
    scope(() => {
      const x = tensor(
        [
          [3, Number.NaN, 1, Number.NaN],
          [1, 5, 5, 1],
        ],
        { device },
      );
      expect([...max(x, 1).data()]).toEqual([Number.NaN, 5]);
      expect([...min(x, 1).data()]).toEqual([Number.NaN, 1]);
      expect(argmax(x, 1).toArray()).toEqual([1, 1]);
      expect(argmin(x, 1).toArray()).toEqual([1, 0]);
      expect(argmax(x).item()).toBe(1);
    });
  });

  it('find the first of equal elements', () => {
    scope(() => {
      const x = tensor(new Float32Array(3000).fill(2), [3000], { device });
      expect(argmax(x).item()).toBe(0);
      expect(argmin(x.reshape([3, 1000]), 1).toArray()).toEqual([0, 0, 0]);
      expect(argmax(x.reshape([1000, 3]), 0).toArray()).toEqual([0, 0, 0]);
    });
  });

  it('share the gradient of equal extremes', () => {
    scope(() => {
      const x = tensor(
        [
          [1, 3, 3],
          [2, 0, 1],
        ],
        { device, requiresGrad: true },
      );
      max(x, 1).backward(tensor([4, 8], { device }));
      expect(x.grad?.toArray()).toEqual([
        [0, 2, 2],
        [8, 0, 0],
      ]);
    });
  });

  it('give the gradient to a NaN that wins, and shares that float16 can count', () => {
    scope(() => {
      const x = tensor([Number.NaN, 1, 2], { device, requiresGrad: true });
      max(x).backward();
      expect([...(x.grad?.data() ?? [])]).toEqual([1, 0, 0]);
      const ties = full([70_000], 3, { device, dtype: 'float16' }).detach().requireGrad();
      max(ties).backward(tensor(1000, { device, dtype: 'float16' }));
      const [share] = [...(ties.grad?.data() ?? [])].map(Number);
      expect(Math.abs((share as number) / (1000 / 70_000) - 1)).toBeLessThan(2 ** -10);
    });
  });

  it('take the axes 0 and -1 of a scalar', () => {
    scope(() => {
      for (const axis of [0, -1]) {
        const x = tensor(3, { device, requiresGrad: true });
        const results = [
          ...[x.sum(axis), x.mean([axis]), x.prod(axis), x.max(axis, true), x.norm(2, axis)],
          ...[x.cumsum(axis), x.cumprod(axis), x.sort(axis)[0], x.topk(1, axis)[0]],
          ...[x.median(axis), x.median(axis, true), x.logsumexp(axis), x.softmax(axis).mul(3)],
        ];
        for (const result of results) {
          expect([result.shape, result.item()]).toEqual([[], 3]);
        }
        stack(results).sum().backward();
        expect(x.grad?.item()).toBe(results.length - 1);
        const places = [argmax(x, axis), argmin(x, axis, true), x.argsort(axis), x.cummax(axis)[1]];
        for (const place of places) expect([place.shape, place.item()]).toEqual([[], 0]);
        expect(x.var(axis, { correction: 0 }).item()).toBe(0);
        expect(x.any(axis).item()).toBe(1);
      }
      expect(() => sum(tensor(3, { device }), [0, -1])).toThrow('sum: axes must differ');
    });
  });

  it('differentiate products with zeros', () => {
    scope(() => {
      const x = tensor(
        [
          [2, 0, 3],
          [0, 0, 5],
          [2, 3, 4],
        ],
        { device, requiresGrad: true },
      );
      prod(x, 1).backward(tensor([1, 1, 2], { device }));
      expect(x.grad?.toArray()).toEqual([
        [0, 6, 0],
        [0, 0, 0],
        [24, 16, 12],
      ]);
    });
  });

  it('give the identity for no elements', () => {
    scope(() => {
      const x = tensor([[], []], { device });
      expect(x.shape).toEqual([2, 0]);
      expect(sum(x, 1).toArray()).toEqual([0, 0]);
      expect(prod(x).item()).toBe(1);
      expect(x.mean().item()).toBeNaN();
    });
  });

  it('sum integers in int64', () => {
    scope(() => {
      const x = tensor(new Int32Array(4).fill(2 ** 30), [4], { device });
      expect(sum(x).dtype).toBe('int64');
      expect(sum(x).item()).toBe(2 ** 32);
      const y = tensor([2n ** 62n, 2n ** 61n], { device });
      expect(sum(y).item()).toBe(2n ** 62n + 2n ** 61n);
    });
  });

  it('accumulate halves in float32', () => {
    scope(() => {
      const x = tensor(new Float32Array(4096).fill(1), [4096], { device });
      expect(sum(x.to('bfloat16')).item()).toBe(4096);
      expect(sum(x.to('float16')).item()).toBe(4096);
    });
  });
});
