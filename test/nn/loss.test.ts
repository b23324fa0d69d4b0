import { describe, expect, it } from 'vitest';
import {
  capture,
  crossEntropy,
  nn,
  scope,
  sign,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/index.js';
import { expectSameBits } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { uniformOf } from '../support/vectors.js';

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

  it.each([
    ['MSELoss', { half: true }, 'mseLoss', 'pair'],
    ['L1Loss', {}, 'l1Loss', 'pair'],
    ['SmoothL1Loss', { beta: 0.5 }, 'smoothL1Loss', 'pair'],
    ['HuberLoss', { delta: 0.5 }, 'huberLoss', 'pair'],
    ['PoissonNLLLoss', { full: true }, 'poissonNLLLoss', 'pair'],
    ['BCELoss', {}, 'binaryCrossEntropy', 'unit'],
    ['BCEWithLogitsLoss', {}, 'binaryCrossEntropyWithLogits', 'unit'],
    ['KLDivLoss', { reduction: 'batchmean' }, 'klDivLoss', 'unit'],
    ['CrossEntropyLoss', { labelSmoothing: 0.1 }, 'crossEntropy', 'classes'],
    ['NLLLoss', { ignoreIndex: 1 }, 'nllLoss', 'classes'],
    ['MultiMarginLoss', { p: 2 }, 'multiMarginLoss', 'classes'],
    ['CosineSimilarity', { axis: 0 }, 'cosineSimilarity', 'pair'],
    ['CosineEmbeddingLoss', { margin: 0.1 }, 'cosineEmbeddingLoss', 'rows'],
    ['HingeEmbeddingLoss', { margin: 2 }, 'hingeEmbeddingLoss', 'signs'],
    ['HingeLoss', {}, 'hingeLoss', 'signs'],
    ['MarginRankingLoss', { margin: 0.5 }, 'marginRankingLoss', 'triple'],
    ['TripletMarginLoss', { swap: true }, 'tripletMarginLoss', 'triple'],
  ] as const)('%s is its function, also in captured steps', async (name, options, of, kind) => {
    const draw = (low: number, high: number, seed: number): Tensor =>
      uniformOf(seed, [4, 3], low, high).to('float32', device).detach();
    const signs = sign(draw(-1, 1, 3));
    const other: Record<typeof kind, Tensor[]> = {
      pair: [draw(-2, 2, 2)],
      unit: [draw(0.1, 0.9, 2)],
      classes: [tensor([2n, 1n, 0n, 2n], { device })],
      rows: [draw(-2, 2, 2), sign(draw(-1, 1, 4).select(1, 0))],
      signs: [signs],
      triple: [draw(-2, 2, 2), signs],
    };
    const low = kind === 'unit' ? 0.1 : -2;
    const weight = nn.parameter(draw(low, kind === 'unit' ? 0.9 : 2, 1));
    type Made = nn.Module & { forward(...inputs: Tensor[]): Tensor };
    const Loss = nn[name] as unknown as new (given: object) => Made;
    const loss = new Loss(options);
    const run = (forward: (...inputs: Tensor[]) => Tensor) => (factor: Tensor) => {
      weight.zeroGrad();
      const total = forward(weight.mul(factor), ...other[kind]).sum();
      total.backward();
      return [total, (weight.grad as Tensor).clone()] as const;
    };
    const functions = { ...nn, crossEntropy } as unknown as Record<
      string,
      (...args: unknown[]) => Tensor
    >;
    const one = tensor([1], { device });
    const expected = run((...inputs) =>
      (functions[of] as (...args: unknown[]) => Tensor)(...inputs, options),
    )(one);
    const step = capture(run((...inputs) => loss.forward(...inputs)));
    for (let i = 0; i < 3; ++i) {
      const found = await step(one);
      expectSameBits(found[0].detach(), expected[0].detach(), 'loss');
      expectSameBits(found[1], expected[1], 'gradient');
    }
    expect(step.recordings).toBe(1);
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
