import { describe, expect, it } from 'vitest';
import {
  autocast,
  capture,
  crossEntropy,
  type Device,
  detectAnomaly,
  grad,
  logSoftmax,
  memory,
  ones,
  scope,
  softmax,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { uniformOf } from '../support/vectors.js';
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

const [rows, classes] = [16, 1024];

interface Run {
  /** What backward() took beside what there was, in bytes. */
  growth: number;
  gradient: unknown;
}

/** A gradient of logits x: `lossOf` computes their loss, and releases what it likes. */
function backwardOf(
  device: Device,
  shape: number[],
  lossOf: (x: Tensor) => Tensor,
  dtype: 'float32' | 'bfloat16' = 'float32',
): Run {
  return scope(() => {
    const x = uniformOf(5, shape, -2, 2).to(dtype, device).requireGrad();
    const loss = lossOf(x);
    const before = memory.stats(device).allocated;
    memory.resetPeak(device);
    loss.backward();
    const growth = memory.stats(device).peakAllocated - before;
    return { growth, gradient: (x.grad as Tensor).toArray() };
  });
}

describe.each(devices)('the gradient of cross-entropy on $name', (device) => {
  const bytes = rows * classes * 4;
  const classOf = (shape: number[]): Tensor => uniformOf(6, shape, 0, classes).to('int64', device);
  const options = [{}, { labelSmoothing: 0.1, ignoreIndex: 7 }];

  it.each(options)('takes the place of released logits, %o', (given) => {
    const run = (released: boolean): Run =>
      backwardOf(device, [rows, classes], (x) => {
        const logits = x.mul(1.5);
        const loss = crossEntropy(logits, classOf([rows]), given);
        if (released) logits.dispose();
        return loss;
      });
    const [held, freed] = [run(false), run(true)];
    expect(freed.gradient).toEqual(held.gradient);
    expect(held.growth - freed.growth).toBe(bytes);
  });

  it.each(options)('takes the place of the copy that the op made, %o', (given) => {
    const images = (own: boolean): Run =>
      backwardOf(device, [rows / 4, classes, 4], (x) => {
        const target = classOf([rows / 4, 4]);
        if (own) return crossEntropy(x, target, given);
        const lines = x.permute([0, 2, 1]).reshape([rows, classes]);
        return crossEntropy(lines, target.reshape([rows]), given);
      });
    const mixed = (own: boolean): Run => {
      const lossOf = (x: Tensor): Tensor => {
        const [logits, target] = [own ? x : x.to('float32'), classOf([rows])];
        return autocast({}, () => crossEntropy(logits, target, given));
      };
      return backwardOf(device, [rows, classes], lossOf, 'bfloat16');
    };
    for (const run of [images, mixed]) {
      const [given, made] = [run(false), run(true)];
      expect(made.gradient).toEqual(given.gradient);
      expect(given.growth - made.growth).toBe(bytes);
    }
  });

  it.each(options)('keeps a few numbers a row beside the logits, %o', (given) => {
    scope(() => {
      const logits = uniformOf(5, [rows, classes]).to('float32', device).requireGrad();
      const target = classOf([rows]);
      const before = memory.stats(device).allocated;
      memory.resetPeak(device);
      crossEntropy(logits, target, given);
      expect(memory.stats(device).peakAllocated - before).toBeLessThan(bytes / 8);
    });
  });

  it('is the same in a captured step', async () => {
    const x = scope(() => uniformOf(5, [4, 9], -2, 2).to('bfloat16', device))
      .requireGrad()
      .keep();
    const target = tensor([0n, 8n, 2n, 2n], { device }).keep();
    const run = (): Tensor[] => {
      x.zeroGrad();
      const loss = autocast({}, () => crossEntropy(x.mul(2), target));
      loss.backward();
      return [loss];
    };
    scope(run);
    const expected = x.grad?.toArray();
    const step = capture(run);
    for (let i = 0; i < 3; ++i) await step();
    expect(x.grad?.toArray()).toEqual(expected);
    step.dispose();
  });

  it('is not computed anew from logits that a failed backward() wrote over', () => {
    scope(() => {
      const x = uniformOf(5, [2, 5], -2, 2).to('float32', device).requireGrad();
      const target = tensor([0n, 4n], { device });
      const losses = scope(() => crossEntropy(x.mul(1.5), target, { reduction: 'none' }));
      const infinite = tensor([1, Number.POSITIVE_INFINITY], { device });
      expect(() => detectAnomaly(() => losses.backward(infinite))).toThrow(/crossEntropy/);
      expect(() => losses.backward(ones([2], { device }))).toThrow(
        'backward: a tensor that crossEntropy needs was changed in place after it was used',
      );
    });
  });

  it('leaves logits alone that others hold', () => {
    scope(() => {
      const x = uniformOf(5, [3, 5], -2, 2).to('float32', device).requireGrad();
      const target = tensor([0n, 4n, 2n], { device });
      const values = x.detach().mul(1.5).toArray();
      const lossOf = (use: (logits: Tensor) => void): Tensor => {
        const logits = x.mul(1.5);
        const loss = crossEntropy(logits, target);
        use(logits);
        return loss;
      };
      // The logits themselves, a view of them, another node of the tape, a second backward().
      const kept: Tensor[] = [];
      lossOf((logits) => kept.push(logits)).backward();
      expect(kept[0]?.toArray()).toEqual(values);
      const expected = (x.grad as Tensor).toArray();
      lossOf((logits) => {
        kept.push(logits.detach());
        logits.dispose();
      }).backward();
      expect(kept[1]?.toArray()).toEqual(values);
      x.zeroGrad();
      const w = ones([3, 5], { device, requiresGrad: true });
      lossOf((logits) => {
        kept.push(w.mul(logits).sum());
        logits.dispose();
      }).backward();
      expect((x.grad as Tensor).toArray()).toEqual(expected);
      kept[2]?.backward();
      expect(w.grad?.toArray()).toEqual(values);
      x.zeroGrad();
      const twice = lossOf((logits) => logits.dispose());
      twice.backward(undefined, { retainGraph: true });
      const [again] = grad(twice, [x]);
      expect((x.grad as Tensor).toArray()).toEqual(expected);
      expect(again?.toArray()).toEqual(expected);
    });
  });
});
