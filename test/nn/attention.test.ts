/** Attention layers and positions against their formulas, in training, and captured. */
import { describe, expect, it } from 'vitest';
import {
  capture,
  matmul,
  nn,
  scope,
  softmax,
  type Tensor,
  tensor,
  where,
  zeros,
} from '../../lib/index.js';
import { expectClose, expectSameBits, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { at, build, type Nd } from '../support/nd.js';
import { uniformOf } from '../support/vectors.js';

describe.each(devices)('attention layers on $name', (device) => {
  const place = { dtype: 'float64', device } as const;
  const draw = (seed: number, ...shape: number[]): Tensor => uniformOf(seed, shape).to(device);

  it('has the weights of additive attention', () => {
    scope(() => {
      const module = new nn.AdditiveAttention(3, 4, 5, place);
      const [query, keys] = [draw(1, 2, 3, 3), draw(2, 2, 6, 4)];
      const [context, weights] = module.forward(query, keys);
      const [w, u, v] = [module.query, module.key, module.score].map((x) =>
        valuesOf(x.weight.detach()),
      ) as [Nd, Nd, Nd];
      const bias = valuesOf(module.query.bias as Tensor);
      const [q, k] = [valuesOf(query), valuesOf(keys)];
      const scores = build([2, 3, 6], ([batch, t, s]) => {
        let score = 0;
        for (let n = 0; n < 5; ++n) {
          let sum = at(bias, [n]);
          for (let d = 0; d < 3; ++d) sum += at(w, [n, d]) * at(q, [batch, t, d] as number[]);
          for (let d = 0; d < 4; ++d) sum += at(u, [n, d]) * at(k, [batch, s, d] as number[]);
          score += at(v, [0, n]) * Math.tanh(sum);
        }
        return score;
      });
      const expected = softmax(tensor(scores.data, scores.shape, place));
      expectClose(valuesOf(weights), valuesOf(expected), 1e-12, 'weights');
      expectClose(valuesOf(context), valuesOf(matmul(expected, keys)), 1e-12, 'context');
    });
  });

  it('adds a floating padding mask to the scores, beside any other mask', () => {
    scope(() => {
      const [x, padding] = [draw(1, 2, 4, 6), draw(2, 2, 4)];
      const left = tensor(
        Array.from({ length: 16 }, (_, i) => i % 4 > Math.floor(i / 4)),
        { device },
      ).reshape([4, 4]);
      const module = new nn.MultiheadAttention(6, 2, { batchFirst: true, ...place });
      const run = (attnMask: Tensor | null, keyPaddingMask: Tensor): Tensor =>
        module.forward(x, x, x, { attnMask, keyPaddingMask })[0].detach();
      const infinite = where(left, Number.NEGATIVE_INFINITY, zeros([4, 4], place));
      const expected = run(infinite, padding);
      expectClose(valuesOf(run(left, padding)), valuesOf(expected), 1e-12, 'with a bool mask');
      const never = tensor([false, false, true, true, false, true, true, true], { device });
      const none = never.reshape([2, 4]);
      const hidden = where(none, Number.NEGATIVE_INFINITY, zeros([2, 4], place));
      expectClose(valuesOf(run(null, hidden)), valuesOf(run(null, none)), 1e-12, 'as a bool mask');
      const additive = new nn.AdditiveAttention(6, 6, 5, place);
      const [, weights] = additive.forward(x, x, x, { keyPaddingMask: hidden });
      const [, same] = additive.forward(x, x, x, { keyPaddingMask: none });
      expectClose(valuesOf(weights), valuesOf(same), 1e-12, 'additive attention');
    });
  });

  it('has the weights of dot-product attention, and one query as several', () => {
    scope(() => {
      const [query, keys, values] = [draw(1, 2, 4), draw(2, 2, 6, 4), draw(3, 2, 6, 7)];
      const keyPaddingMask = tensor(
        Array.from({ length: 12 }, (_, i) => i % 6 > 3),
        { device },
      ).reshape([2, 6]);
      const module = new nn.DotProductAttention();
      const [context, weights] = module.forward(query, keys, values, { keyPaddingMask });
      const seen = matmul(query.reshape([2, 1, 4]), keys.T)
        .mul(0.5)
        .slice(2, 0, 4);
      const expected = softmax(seen).reshape([2, 4]);
      expectClose(valuesOf(weights.slice(1, 0, 4)), valuesOf(expected), 1e-12, 'weights');
      expect([...weights.slice(1, 4).contiguous().data()]).toEqual([0, 0, 0, 0]);
      const mixed = matmul(softmax(seen), values.slice(1, 0, 4)).reshape([2, 7]);
      expectClose(valuesOf(context), valuesOf(mixed), 1e-12, 'context');
      const [several] = module.forward(query.reshape([2, 1, 4]), keys, values, { keyPaddingMask });
      expectSameBits(several.reshape([2, 7]), context, 'as one position');
    });
  });

  it('drops weights in training alone', () => {
    scope(() => {
      const module = new nn.MultiheadAttention(8, 2, { dropout: 0.5, batchFirst: true, ...place });
      const x = draw(1, 2, 5, 8);
      const call = (): number[] => [...module.forward(x)[0].detach().data()] as number[];
      expect(call()).not.toEqual(call());
      module.eval();
      expect(call()).toEqual(call());
    });
  });

  it('gives a mask that learns its gradient', () => {
    scope(() => {
      const module = new nn.MultiheadAttention(8, 2, { batchFirst: true, ...place });
      const [x, dout] = [draw(1, 2, 5, 8), draw(3, 2, 5, 8)];
      const gradients = [false, true].map((needWeights) => {
        const attnMask = draw(2, 5, 5).detach().requireGrad();
        module.forward(x, x, x, { attnMask, needWeights })[0].backward(dout);
        return valuesOf(attnMask.grad as Tensor);
      }) as [Nd, Nd];
      expect(Math.max(...gradients[0].data)).toBeGreaterThan(1e-3);
      expectClose(gradients[0], gradients[1], 1e-12, 'gradient of the mask');
    });
  });

  it('starts as PyTorch does', () => {
    scope(() => {
      const module = new nn.MultiheadAttention(64, 4, { device });
      const bound = Math.sqrt(6 / (64 + 192));
      const values = (module.in_proj_weight as Tensor).detach().data() as Float32Array;
      expect(Math.max(...values)).toBeLessThanOrEqual(bound);
      expect(Math.max(...values)).toBeGreaterThan(0.95 * bound);
      expect([...(module.in_proj_bias as Tensor).detach().data()].every((b) => b === 0)).toBe(true);
      expect([...(module.out_proj.bias as Tensor).detach().data()].every((b) => b === 0)).toBe(
        true,
      );
    });
  });

  it('copies a layer for a stack, so that each trains alone', () => {
    scope(() => {
      const layer = new nn.TransformerEncoderLayer(4, 2, { dimFeedforward: 4, device });
      const encoder = new nn.TransformerEncoder(layer, 3);
      const [first, second, third] = encoder.layers.map((l) => l.linear1.weight) as Tensor[];
      expect(first).toBe(layer.linear1.weight);
      expectSameBits(second as Tensor, third as Tensor, 'copies');
      expect(new Set(encoder.parameters()).size).toBe(3 * 12);
      second?.copyFrom(tensor(0, { device }));
      expect([...(first as Tensor).detach().data()].some((w) => w !== 0)).toBe(true);
    });
  });

  it('runs captured as it runs eagerly', async () => {
    const layer = new nn.TransformerEncoderLayer(8, 2, {
      dimFeedforward: 8,
      dropout: 0,
      batchFirst: true,
      ...place,
    });
    const x = draw(5, 2, 3, 8).keep();
    const train = (input: Tensor): Tensor => {
      layer.zeroGrad();
      const loss = layer.forward(input, { isCausal: true }).square().sum();
      loss.backward();
      return loss;
    };
    const step = capture(train);
    const losses: number[] = [];
    for (let i = 0; i < 3; ++i) losses.push((await (await step(x)).read())[0] as number);
    const replayed = [...layer.parameters()].map((p) => valuesOf(p.grad as Tensor));
    scope(() => {
      const loss = Number(train(x).item());
      expect(losses).toEqual([loss, loss, loss]);
      [...layer.parameters()].forEach((p, i) => {
        expect(valuesOf(p.grad as Tensor).data).toEqual(replayed[i]?.data);
      });
    });
    x.dispose();
  });

  it('adds sinusoidal and learned positions', () => {
    scope(() => {
      const table = valuesOf(nn.sinusoidalPositions(7, 6, place));
      const expected = build([7, 6], ([t, d]) => {
        const angle = (t as number) / 10000 ** ((2 * Math.floor((d as number) / 2)) / 6);
        return (d as number) % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
      });
      expectClose(table, expected, 1e-14, 'table');
      const x = draw(1, 2, 5, 6);
      const moved = new nn.SinusoidalPositions(7, 6, place).forward(x).sub(x);
      expectClose(
        valuesOf(moved.select(0, 1)),
        build([5, 6], ([t, d]) => expected.data[(t as number) * 6 + (d as number)] as number),
        1e-12,
        'sum',
      );
      const learned = new nn.LearnedPositions(7, 6, place);
      learned.forward(x).sum().backward();
      const rows = valuesOf((learned.weight.grad as Tensor).sum(1)).data;
      expect([...rows]).toEqual([12, 12, 12, 12, 12, 0, 0]);
      expect(() => learned.forward(draw(1, 8, 6))).toThrow(
        'LearnedPositions: x must be [...,T,6] with T up to 7, got a tensor float64[8,6]',
      );
    });
  });

  it('turns pairs of columns by rotary positions', () => {
    scope(() => {
      const rope = new nn.RotaryPositions(16, 6, place);
      const x = draw(1, 2, 3, 5, 6).detach().requireGrad();
      const y = rope.forward(x, 4);
      const values = valuesOf(x.detach());
      const turned = (sign: number, from: Float64Array) =>
        build([2, 3, 5, 6], (index) => {
          const [b, h, t, d] = index as [number, number, number, number];
          const row = ((b * 3 + h) * 5 + t) * 6;
          const angle = sign * (t + 4) * 10000 ** ((-2 * (d % 3)) / 6);
          const other = from[row + ((d + 3) % 6)] as number;
          return (
            (from[row + d] as number) * Math.cos(angle) + (d < 3 ? -other : other) * Math.sin(angle)
          );
        });
      expectClose(valuesOf(y.detach()), turned(1, values.data), 1e-12, 'output');
      const dout = draw(2, 2, 3, 5, 6);
      y.backward(dout);
      expectClose(
        valuesOf(x.grad as Tensor),
        turned(-1, valuesOf(dout).data),
        1e-12,
        'gradient turns back',
      );
      // Products depend on distances alone.
      const [q, k] = [draw(3, 1, 6), draw(4, 1, 6)];
      const product = (i: number, j: number): number =>
        Number(rope.forward(q, i).mul(rope.forward(k, j)).sum().item());
      expect(product(7, 3)).toBeCloseTo(product(12, 8), 12);
    });
  });

  it('turns 16-bit queries in float32', () => {
    scope(() => {
      const rope = new nn.RotaryPositions(8, 6, { device });
      const x = uniformOf(3, [2, 5, 6], -1, 1).to('bfloat16', device);
      const expected = rope.forward(x.to('float32')).to('bfloat16');
      expect(rope.forward(x).toArray()).toEqual(expected.toArray());
    });
  });

  it('takes one sample without a batch, and heads of any width', () => {
    scope(() => {
      const module = new nn.MultiheadAttention(6, 2, { device, dtype: 'float64' });
      const x = uniformOf(1, [3, 6]).to('float64', device);
      const mask = tensor([false, false, true], { device });
      const call = { keyPaddingMask: mask, needWeights: true };
      const [out, weights] = module.forward(x, x, x, call);
      const own = x.reshape([3, 1, 6]);
      const batch = { ...call, keyPaddingMask: mask.reshape([1, 3]) };
      const [all, each] = module.forward(own, own, own, batch);
      expect(out.toArray()).toEqual(all.reshape([3, 6]).toArray());
      expect((weights as Tensor).toArray()).toEqual((each as Tensor).reshape([3, 3]).toArray());
      const wide = new nn.MultiheadAttention(258, 1, { device, dtype: 'float64' });
      const y = uniformOf(2, [2, 258]).to('float64', device);
      const [seen] = wide.forward(y);
      const [expected] = wide.forward(y, y, y, { needWeights: true });
      expect(seen.toArray()).toEqual(expected.toArray());
    });
  });

  it('refuses what does not fit', () => {
    scope(() => {
      expect(() => new nn.MultiheadAttention(8, 3)).toThrow(
        'MultiheadAttention: numHeads must divide embedDim, got 3 and 8',
      );
      const module = new nn.MultiheadAttention(8, 2, { device });
      const x = tensor(new Float32Array(48), [2, 3, 8], { device });
      const wrong = tensor(new Int32Array(6), [3, 2], { device });
      expect(() => module.forward(x, x, x, { keyPaddingMask: wrong })).toThrow(
        'MultiheadAttention: keyPaddingMask must be bool or floating, got a tensor int32[3,2]',
      );
      expect(() =>
        module.forward(x, x, x, { keyPaddingMask: wrong.to('float32').select(0, 0) }),
      ).toThrow('MultiheadAttention: keyPaddingMask must be [B,S], got [2]');
      expect(() => module.forward(x.select(0, 0).select(0, 0))).toThrow(
        'MultiheadAttention: query must have 3 axes, or 2 for one sample, got a tensor float32[8]',
      );
      expect(() => new nn.RotaryPositions(4, 3)).toThrow(
        'RotaryPositions: width must be even, got 3',
      );
      expect(() => new nn.TransformerEncoder({} as never, 2)).toThrow(
        'TransformerEncoder: a layer must be a TransformerEncoderLayer, got an object of Object',
      );
    });
  });
});
