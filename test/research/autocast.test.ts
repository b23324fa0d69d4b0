import { describe, expect, it } from 'vitest';
import {
  autocast,
  autocastDType,
  capture,
  checkpoint,
  crossEntropy,
  div,
  groupNorm,
  layerNorm,
  linear,
  manualSeed,
  matmul,
  nn,
  noGrad,
  ones,
  randn,
  scope,
  type Tensor,
  tensor,
} from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { devices } from '../support/devices.js';

/** How often a native function is called meanwhile. */
function calls(name: 'cast', fn: () => void): number {
  const original = native[name];
  let count = 0;
  (native as unknown as Record<string, unknown>)[name] = (...args: Parameters<typeof original>) => {
    ++count;
    original(...args);
  };
  try {
    fn();
  } finally {
    native[name] = original;
  }
  return count;
}

describe.each(devices)('autocast on $name', (device) => {
  const half = { dtype: 'bfloat16' } as const;
  const x = () => randn([3, 4], { device });

  it('computes products in 16 bits and the sensitive ops in float32', () => {
    scope(() => {
      const a = x();
      const w = x();
      for (const dtype of ['bfloat16', 'float16'] as const) {
        autocast({ dtype }, () => {
          expect(autocastDType()).toBe(dtype);
          const y = matmul(a, w.T);
          expect(y.dtype).toBe(dtype);
          expect(linear(a, w).dtype).toBe(dtype);
          expect(y.relu().dtype).toBe(dtype);
          expect(y.add(a.slice(1, 0, 3)).dtype).toBe('float32');
          for (const out of [y.softmax(), y.logSoftmax(), y.sum(), y.mean(), y.exp(), y.log()]) {
            expect(out.dtype).toBe('float32');
          }
          expect(y.pow(2).dtype).toBe('float32');
          expect(nn.mseLoss(y, y).dtype).toBe('float32');
          expect(crossEntropy(y, tensor([0n, 1n, 2n], { device })).dtype).toBe('float32');
          expect(matmul(a.to('float64'), w.T.to('float64')).dtype).toBe('float64');
          autocast({ enabled: false }, () => {
            expect(matmul(a, w.T).dtype).toBe('float32');
            expect(autocastDType()).toBeNull();
          });
        });
      }
      expect(matmul(a, w.T).dtype).toBe('float32');
      expect(() => autocast({ dtype: 'float32' as never }, () => 0)).toThrow(
        'autocast: dtype must be one of bfloat16, float16, got "float32"',
      );
    });
  });

  it('takes the ops of torch.autocast in float32, and no other elementwise ones', () => {
    scope(() => {
      const y = tensor([[0.5, 0.25]], { device, dtype: 'bfloat16' });
      const label = tensor([1n], { device });
      const signs = ones([1], { device });
      const precise: Record<string, () => Tensor> = {
        ...Object.fromEntries(
          (
            [
              'acos',
              'asin',
              'cosh',
              'exp',
              'expm1',
              'log',
              'log10',
              'log1p',
              'log2',
              'reciprocal',
            ] as const
          ).map((name) => [name, () => y[name]()]),
        ),
        ...Object.fromEntries(
          (
            [
              'rsqrt',
              'sinh',
              'softplus',
              'tan',
              'norm',
              'prod',
              'sum',
              'softmax',
              'logSoftmax',
            ] as const
          ).map((name) => [name, () => y[name]()]),
        ),
        pow: () => y.pow(2),
        'number / tensor': () => div(1, y),
        cumsum: () => y.cumsum(0),
        cumprod: () => y.cumprod(0),
        layerNorm: () => layerNorm(y, 2),
        groupNorm: () => groupNorm(y, 1),
        cosineSimilarity: () => nn.cosineSimilarity(y, y),
        cosineEmbeddingLoss: () => nn.cosineEmbeddingLoss(y, y, signs),
        tripletMarginLoss: () => nn.tripletMarginLoss(y, y, y),
        hingeEmbeddingLoss: () => nn.hingeEmbeddingLoss(y, y),
        marginRankingLoss: () => nn.marginRankingLoss(y, y, y),
        multiMarginLoss: () => nn.multiMarginLoss(y, label),
        nllLoss: () => nn.nllLoss(y, label),
        klDivLoss: () => nn.klDivLoss(y, y),
        poissonNLLLoss: () => nn.poissonNLLLoss(y, y),
        l1Loss: () => nn.l1Loss(y, y),
        smoothL1Loss: () => nn.smoothL1Loss(y, y),
      };
      for (const [name, run] of Object.entries(precise)) {
        expect(run().dtype, `${name} outside`).toBe('bfloat16');
        expect(autocast(half, run).dtype, name).toBe('float32');
      }
      const kept = ['sin', 'sqrt', 'tanh', 'sigmoid', 'gelu', 'atan', 'exp2', 'elu'] as const;
      for (const name of kept) expect(autocast(half, () => y[name]()).dtype, name).toBe('bfloat16');
      expect(autocast(half, () => div(y, 2)).dtype).toBe('bfloat16');
    });
  });

  it('reaches convolutions, recurrent layers and attention', () => {
    scope(() => {
      const conv = new nn.Conv2d(2, 3, 3, { device });
      const lstm = new nn.LSTM(4, 5, { device });
      const attention = new nn.MultiheadAttention(8, 2, { device });
      const images = randn([2, 2, 5, 5], { device });
      const sequence = randn([3, 2, 4], { device });
      const tokens = randn([2, 6, 8], { device });
      const run = (): Tensor[] => [
        conv.forward(images),
        lstm.forward(sequence)[0],
        attention.forward(tokens)[0],
      ];
      const exact = run();
      autocast({ dtype: 'bfloat16' }, run).forEach((out, i) => {
        expect(out.dtype).toBe('bfloat16');
        const error = out
          .to('float32')
          .sub(exact[i] as Tensor)
          .abs()
          .max()
          .item();
        expect(error).toBeLessThan(0.1);
        expect(error).toBeGreaterThan(0);
        out.sum().backward();
      });
      for (const layer of [conv, lstm, attention]) {
        for (const [name, p] of layer.namedParameters()) {
          expect(p.grad?.dtype, name).toBe('float32');
          p.zeroGrad();
        }
        for (const p of layer.parameters()) p.dispose();
      }
    });
  });

  it('gives gradients in float32, near those of float32', () => {
    scope(() => {
      manualSeed(1);
      const model = new nn.Sequential(
        new nn.Linear(4, 8, { device }),
        new nn.ReLU(),
        new nn.Linear(8, 3, { device }),
      );
      const input = x();
      const target = tensor([0n, 1n, 2n], { device });
      const gradients = (mixed: boolean): number[] => {
        model.zeroGrad();
        const run = () => crossEntropy(model.forward(input), target);
        const loss = mixed ? autocast(half, run) : run();
        expect(loss.dtype).toBe('float32');
        loss.backward();
        return [...model.parameters()].flatMap((p) => {
          expect(p.grad?.dtype).toBe('float32');
          return [...(p.grad as Tensor).data()].map(Number);
        });
      };
      const exact = gradients(false);
      gradients(true).forEach((value, i) => {
        expect(Math.abs(value - (exact[i] as number))).toBeLessThan(0.02);
      });
    });
  });

  it('casts a parameter once per version, and anew where the old cast leads nowhere', () => {
    scope(() => {
      const w = nn.parameter(randn([4, 4], { device }));
      const input = x().to('bfloat16');
      const use = () => linear(input, w);
      autocast(half, () => {
        expect(calls('cast', use)).toBe(1);
        expect(calls('cast', use)).toBe(0);
        w.copyFrom(ones([4, 4], { device }));
        expect(calls('cast', use)).toBe(1);
        expect(calls('cast', () => noGrad(use))).toBe(0);
        use().to('float32').sum().backward();
        expect(calls('cast', use)).toBe(1);
        linear(input, w).sum().backward();
      });
      // Once by itself in each backward().
      expect(w.grad?.at(0, 0).item()).not.toBe(0);
      autocast(half, () => noGrad(use));
      autocast(half, () => {
        noGrad(use);
        expect(use().requiresGrad).toBe(true);
      });
    });
  });

  it('is part of what a captured step depends on', async () => {
    const w = nn.parameter(ones([4, 4], { device }));
    const input = ones([2, 4], { device });
    const step = capture((a: Tensor) => linear(a, w));
    const dtypes: string[] = [];
    for (let i = 0; i < 3; ++i) {
      dtypes.push((await step(input)).dtype);
      dtypes.push((await autocast(half, () => step(input))).dtype);
    }
    expect(dtypes).toEqual(Array(3).fill(['float32', 'bfloat16']).flat());
    expect(step.recordings).toBe(2);
    step.dispose();
    // A cast made before the step must not be replayed.
    await autocast(half, async () => {
      linear(input, w);
      const train = capture((a: Tensor) => {
        const y = linear(a, w);
        w.copyFrom(w.detach().mul(2));
        return y;
      });
      const values = [];
      for (let i = 0; i < 4; ++i) values.push((await train(input)).at(0, 0).item());
      expect(values).toEqual([4, 8, 16, 32]);
      expect(linear(input, w).at(0, 0).item()).toBe(64);
      train.dispose();
    });
  });

  it('holds in what a checkpoint computes again', () => {
    scope(() => {
      const w = nn.parameter(randn([4, 4], { device }));
      const input = x();
      const gradient = (recompute: boolean): unknown => {
        w.zeroGrad();
        const part = (h: Tensor) => linear(linear(h, w).tanh(), w);
        const y = autocast(half, () => (recompute ? checkpoint(part, input) : part(input)));
        expect(y.dtype).toBe('bfloat16');
        y.to('float32').square().sum().backward();
        return w.grad?.toArray();
      };
      expect(gradient(true)).toEqual(gradient(false));
    });
  });
});
