import { describe, expect, it } from 'vitest';
import { crossEntropy, memory, nn, ones, profile, scope, tensor, zeros } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { lossRows, softCrossEntropyRows } from './rows/loss.js';

testOps(lossRows);
testOps(softCrossEntropyRows);

describe.each(devices)('losses on $name', (device) => {
  it('give -(ln 0.9 + ln 0.8) for labels 1,0,1,0 at probabilities 0.9, 0.1, 0.8, 0.2', () => {
    scope(() => {
      const expected = -(Math.log(0.9) + Math.log(0.8));
      expect(expected).toBeCloseTo(0.3285, 4);
      const labels = [1, 0, 1, 0];
      const likelihoods = tensor([0.9, 0.1, 0.8, 0.2], { device });
      const ones = tensor(labels, { device });
      // The first class of each pair, once as probabilities and once as classes.
      const rows = [
        [0.9, 0.1],
        [0.8, 0.2],
      ];
      const logs = tensor(rows, { device }).log();
      const soft = tensor(
        [
          [1, 0],
          [1, 0],
        ],
        { device },
      );
      const sum = { reduction: 'sum' } as const;
      expect(crossEntropy(logs, soft, sum).item()).toBeCloseTo(expected, 6);
      expect(nn.nllLoss(logs, tensor([0n, 0n], { device }), sum).item()).toBeCloseTo(expected, 6);
      // Binary cross-entropy counts the two zeros as well: the same again.
      expect(nn.binaryCrossEntropy(likelihoods, ones, sum).item()).toBeCloseTo(2 * expected, 6);
    });
  });

  it('stay finite at the ends', () => {
    scope(() => {
      const x = tensor([1000, -1000, 1000, -1000], { device, requiresGrad: true });
      const t = tensor([1, 0, 0, 1], { device });
      const loss = nn.binaryCrossEntropyWithLogits(x, t, { reduction: 'none' });
      expect(loss.toArray()).toEqual([0, 0, 1000, 1000]);
      loss.sum().backward();
      expect(x.grad?.toArray()).toEqual([0, 0, 1, -1]);
      const p = tensor([0, 1], { device, requiresGrad: true });
      const sure = nn.binaryCrossEntropy(p, tensor([1, 0], { device }), { reduction: 'none' });
      expect(sure.toArray()).toEqual([100, 100]);
      const low = tensor([[Number.NEGATIVE_INFINITY, 0, 0]], { device });
      const one = crossEntropy(low, tensor([[0, 1, 0]], { device }));
      expect(one.item()).toBeCloseTo(Math.LN2, 6);
      const equal = nn.cosineSimilarity(tensor([[0, 0]], { device }), tensor([[1, 2]], { device }));
      expect(equal.toArray()).toEqual([0]);
    });
  });

  it('give NaN for a class out of range, to its row alone', () => {
    scope(() => {
      const x = tensor(
        [
          [1, 2],
          [3, 1],
        ],
        { device },
      );
      const target = tensor([0n, 2n], { device });
      const none = { reduction: 'none' } as const;
      for (const losses of [
        crossEntropy(x, target, { ...none, labelSmoothing: 0.1 }),
        nn.nllLoss(x, target, none),
        nn.multiMarginLoss(x, target, none),
      ]) {
        const [first, second] = losses.data();
        expect(first).not.toBeNaN();
        expect(second).toBeNaN();
      }
    });
  });

  it('of classes are one kernel each way, and keep no log-probabilities', () => {
    scope(() => {
      const x = ones([8, 1024], { device, requiresGrad: true });
      const logs = x.mul(2);
      const target = zeros([8], { device, dtype: 'int64' });
      const before = memory.stats(device).allocated;
      const given = { weight: ones([1024], { device }), ignoreIndex: 3 };
      const run = profile(() => nn.nllLoss(logs, target, given));
      logs.dispose();
      expect(memory.stats(device).allocated).toBeLessThan(before - 8 * 1024 * 2);
      const back = profile(() => run.result.backward());
      const kernels = [...run.summary(), ...back.summary()].filter(({ kind }) => kind === 'kernel');
      const calls = kernels.filter(({ name }) => /^nll/.test(name));
      expect(calls.map((row) => row.calls)).toEqual([1, 1]);
      // Beside them the seed of backward(), the gradient of mul and its copy.
      expect(kernels.length).toBe(5);
      expect(run.result.item()).toBe(-2);
      expect(x.grad?.sum().item()).toBe(-2);
    });
  });
});
