import { describe, expect, it } from 'vitest';
import { crossEntropy, nn, scope, tensor, zeros } from '../../lib/index.js';
import { devices } from '../support/devices.js';

describe.each(devices)('losses on $name', (device) => {
  it('MSELoss reduces as it is told', () => {
    scope(() => {
      const x = tensor(
        [
          [1, 2],
          [3, 4],
        ],
        { device },
      );
      const y = tensor(
        [
          [0, 2],
          [1, 1],
        ],
        { device },
      );
      expect(new nn.MSELoss().forward(x, y).item()).toBe(3.5);
      expect(new nn.MSELoss({ reduction: 'sum' }).forward(x, y).item()).toBe(14);
      expect(nn.mseLoss(x, y, 'none').toArray()).toEqual([
        [1, 0],
        [4, 9],
      ]);
    });
  });

  it('CrossEntropyLoss is crossEntropy with its options', () => {
    scope(() => {
      const logits = tensor(
        [
          [1, 2, 0],
          [3, 1, 0],
        ],
        { device },
      );
      const target = tensor([1n, -100n], { device });
      for (const reduction of ['mean', 'sum', 'none'] as const) {
        const options = { reduction, ignoreIndex: -100 };
        expect(new nn.CrossEntropyLoss(options).forward(logits, target).toArray()).toEqual(
          crossEntropy(logits, target, options).toArray(),
        );
      }
    });
  });
});

describe('losses', () => {
  it('refuse what does not fit', () => {
    expect(() => nn.mseLoss(zeros([2]), zeros([1, 2]))).toThrow(
      'mseLoss: shapes must be equal, got [2] and [1,2]',
    );
    expect(() => nn.mseLoss(zeros([2]), 0 as never)).toThrow(
      'mseLoss: target must be a tensor, got 0',
    );
    expect(() => nn.mseLoss(zeros([2]), zeros([2]), 'max' as never)).toThrow(
      'mseLoss: reduction must be one of mean, sum, none, got "max"',
    );
    expect(() => new nn.MSELoss({ reduction: 'max' as never })).toThrow(
      'MSELoss: reduction must be one of mean, sum, none, got "max"',
    );
    expect(() => new nn.CrossEntropyLoss({ reduction: 1 as never })).toThrow(
      'CrossEntropyLoss: reduction must be one of mean, sum, none, got 1',
    );
  });
});
