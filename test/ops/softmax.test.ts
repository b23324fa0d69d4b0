import { describe, expect, it } from 'vitest';
import { crossEntropy, logSoftmax, scope, softmax, tensor, zeros } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { softmaxRowsAll } from './rows/softmax.js';

testOps(softmaxRowsAll);

describe.each(devices)('softmax on $name', (device) => {
  it('neither overflows nor underflows', () => {
    scope(() => {
      const x = tensor([[1000, 0, -1000]], { device });
      expect(softmax(x).toArray()).toEqual([[1, 0, 0]]);
      expect(logSoftmax(x).toArray()).toEqual([[0, -1000, -2000]]);
      const y = tensor([[Number.NEGATIVE_INFINITY, 0]], { device });
      expect(softmax(y).toArray()).toEqual([[0, 1]]);
      expect(logSoftmax(y).toArray()).toEqual([[Number.NEGATIVE_INFINITY, 0]]);
      const target = tensor([1n], { device });
      expect(crossEntropy(x, target).item()).toBe(1000);
    });
  });

  it('gives NaN for a target out of range, to its row alone', () => {
    scope(() => {
      const logits = tensor(
        [
          [1, 2],
          [3, 1],
          [0, 0],
        ],
        { device, requiresGrad: true },
      );
      const target = tensor([0n, 2n, -1n], { device });
      const losses = crossEntropy(logits, target, { reduction: 'none' });
      const [first, second, third] = losses.data();
      expect(first).toBeCloseTo(1.3132617, 6);
      expect(second).toBeNaN();
      expect(third).toBeNaN();
      losses.backward(tensor([1, 1, 1], { device }));
      const gradient = logits.grad?.toArray() as number[][];
      expect(gradient[0]?.every(Number.isFinite)).toBe(true);
    });
  });

  it('averages more rows than float16 can count', () => {
    scope(() => {
      const n = 70_000;
      const logits = zeros([n, 2], { device, dtype: 'float16' });
      const target = zeros([n], { device, dtype: 'int64' });
      for (const options of [{}, { ignoreIndex: 1 }]) {
        const loss = crossEntropy(logits, target, options);
        expect(loss.dtype).toBe('float16');
        expect(loss.item()).toBeCloseTo(Math.LN2, 3);
      }
    });
  });

  it('gives ignored rows neither loss nor gradient', () => {
    scope(() => {
      const logits = tensor(
        [
          [1, 2],
          [3, 1],
        ],
        { device, requiresGrad: true },
      );
      const target = tensor([-100n, 1n], { device });
      const loss = crossEntropy(logits, target, { ignoreIndex: -100 });
      expect(loss.item()).toBeCloseTo(2.126928, 5);
      loss.backward();
      const gradient = logits.grad?.toArray() as number[][];
      expect(gradient[0]).toEqual([0, 0]);
      expect(gradient[1]?.[0]).toBeCloseTo(0.8807971, 5);
    });
  });
});
