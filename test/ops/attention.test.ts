import { describe, expect, it } from 'vitest';
import {
  arange,
  bernoulli,
  capture,
  type DType,
  Generator,
  getNumThreads,
  matmul,
  memory,
  normal,
  ones,
  pad,
  scaledDotProductAttention,
  scope,
  setNumThreads,
  softmax,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/index.js';
import { expectClose, expectSameBits, valuesOf } from '../support/compare.js';
import { cpu, devices, hopper } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { type Packed, readVectors, uniformOf, unpacked } from '../support/vectors.js';
import { attentionRows } from './rows/attention.js';

testOps(attentionRows, [...devices, ...hopper]);

type Three = [Tensor, Tensor, Tensor];

function operands(n: number, keys: number, options: { dtype?: DType; device: typeof cpu }): Three {
  const { dtype = 'float32', device } = options;
  const draw = (seed: number, length: number): Tensor =>
    uniformOf(seed, [2, 2, length, 8], -2, 2).to(dtype, device).detach().requireGrad();
  return [draw(1, n), draw(2, keys), draw(3, keys)];
}

/** Gradients of the sum of the output's squares. */
function gradientsOf(out: Tensor, leaves: readonly Tensor[]): Tensor[] {
  out.square().sum().backward();
  return leaves.map((leaf) => leaf.grad as Tensor);
}

describe.each(devices)('attention on $name', (device) => {
  it('drops the weights that bernoulli would drop', () => {
    scope(() => {
      for (const [n, keys] of [
        [5, 8],
        [7, 70],
      ] as const) {
        const dropout = 0.3;
        const fused = operands(n, keys, { device, dtype: 'float64' });
        const out = scaledDotProductAttention(...fused, { dropout, generator: new Generator(9) });
        const [q, k, v] = operands(n, keys, { device, dtype: 'float64' });
        const columns = 4 * Math.ceil(keys / 4);
        const kept = bernoulli([2, 2, n, columns], 1 - dropout, {
          device,
          dtype: 'float64',
          generator: new Generator(9),
        }).slice(3, 0, keys);
        const weights = softmax(matmul(q, k.T).mul(1 / Math.sqrt(8))).mul(kept);
        const expected = matmul(weights.mul(1 / (1 - dropout)), v);
        expectClose(valuesOf(out.detach()), valuesOf(expected.detach()), 1e-12, 'output');
        const own = gradientsOf(out, fused);
        gradientsOf(expected, [q, k, v]).forEach((gradient, i) => {
          expectClose(valuesOf(own[i] as Tensor), valuesOf(gradient), 1e-11, `gradient ${i}`);
        });
      }
    });
  });

  it('drops all with p = 1, and moves the generator on', () => {
    scope(() => {
      const generator = new Generator(3);
      const [q, k, v] = operands(3, 5, { device });
      const out = scaledDotProductAttention(q, k, v, { dropout: 1, generator });
      expect([...out.detach().data()].every((x) => x === 0)).toBe(true);
      expect(generator.getState(device)).toEqual([3n, BigInt(2 * 2 * 3 * 2)]);
    });
  });

  it('draws anew at each replay', async () => {
    const [q, k, v] = operands(4, 4, { device }).map((x) => x.detach().keep()) as Three;
    const generator = new Generator(5);
    const step = capture((a: Tensor) =>
      scaledDotProductAttention(a, k, v, { dropout: 0.5, generator }),
    );
    const replayed: number[][] = [];
    for (let i = 0; i < 4; ++i) replayed.push([...(await (await step(q)).read())] as number[]);
    const again = new Generator(5);
    scope(() => {
      for (const values of replayed) {
        const out = scaledDotProductAttention(q, k, v, { dropout: 0.5, generator: again });
        expect([...out.data()]).toEqual(values);
      }
    });
    expect(replayed[2]).not.toEqual(replayed[3]);
    for (const x of [q, k, v]) x.dispose();
  });

  it('gives zeros and no gradient to queries that see nothing', () => {
    scope(() => {
      const leaves = operands(3, 4, { device });
      const mask = tensor(
        [
          [true, true, false, false],
          [false, false, false, false],
          [true, false, false, true],
        ],
        { device },
      );
      const out = scaledDotProductAttention(...leaves, { mask });
      expect([...out.detach().select(2, 1).contiguous().data()].every((x) => x === 0)).toBe(true);
      const [dq] = gradientsOf(out, leaves) as Three;
      expect([...dq.select(2, 1).contiguous().data()].every((x) => x === 0)).toBe(true);
      expect([...dq.data()].every((x) => Number.isFinite(x))).toBe(true);
      const added = scaledDotProductAttention(...leaves, {
        mask: tensor(new Float32Array(12).fill(Number.NEGATIVE_INFINITY), [3, 4], { device }),
      });
      expect([...added.detach().data()].every((x) => x === 0)).toBe(true);
    });
  });

  it('takes more axes than four, and none for heads', () => {
    scope(() => {
      const [q, k, v] = operands(4, 5, { device, dtype: 'float64' });
      const mask = uniformOf(8, [2, 1, 4, 5], -1, 1).to('float64', device);
      const plain = scaledDotProductAttention(q, k, v, { mask });
      const split = (x: Tensor): Tensor => x.reshape([2, 1, ...x.shape.slice(1)]);
      const more = scaledDotProductAttention(split(q), split(k), split(v), { mask: split(mask) });
      expectSameBits(more.reshape(plain.shape).detach(), plain.detach(), 'more axes');
      const one = (x: Tensor): Tensor => x.select(0, 1).select(0, 0);
      const alone = scaledDotProductAttention(one(q), one(k), one(v), { mask: one(mask) });
      expectClose(valuesOf(alone.detach()), valuesOf(one(plain).detach().contiguous()), 1e-15, '');
    });
  });

  it('takes heads wider than tiles', () => {
    scope(() => {
      const narrow = operands(3, 4, { device, dtype: 'float64' });
      const options = { isCausal: true, scale: 0.3 };
      const expected = scaledDotProductAttention(...narrow, options);
      const leaves = operands(3, 4, { device, dtype: 'float64' });
      const wide = leaves.map((x) => pad(x, [0, 252])) as Three;
      const out = scaledDotProductAttention(...wide, options).slice(3, 0, 8);
      expectClose(valuesOf(out.detach().contiguous()), valuesOf(expected.detach()), 1e-14, 'out');
      const own = gradientsOf(out, leaves);
      gradientsOf(expected, narrow).forEach((gradient, i) => {
        expectClose(valuesOf(own[i] as Tensor), valuesOf(gradient), 1e-13, `gradient ${i}`);
      });
    });
  });

  it('leaves out keys behind a length', () => {
    scope(() => {
      const keys = 150;
      const lengths = tensor(BigInt64Array.of(70n, 0n), { device });
      const fused = operands(3, keys, { device });
      const out = scaledDotProductAttention(...fused, { lengths });
      const own = gradientsOf(out, fused);
      const masked = operands(3, keys, { device });
      const places = arange(0, keys, 1, { dtype: 'int64', device });
      const keyPadding = places.ge(lengths.reshape([2, 1]));
      const expected = scaledDotProductAttention(...masked, { keyPadding });
      expectSameBits(out.detach(), expected.detach(), 'output');
      gradientsOf(expected, masked).forEach((gradient, i) => {
        expectSameBits(own[i] as Tensor, gradient, `gradient ${i}`);
      });
      // A mask that wants a gradient needs all scores.
      const mask = zeros([3, keys], { device }).requireGrad();
      const composed = scaledDotProductAttention(...fused, { lengths, mask });
      expectClose(valuesOf(composed.detach()), valuesOf(out.detach()), 1e-5, 'with a mask');
      expect(() => scaledDotProductAttention(...fused, { lengths: lengths.to('float32') })).toThrow(
        'scaledDotProductAttention: lengths must be integers, got a tensor float32[2]',
      );
    });
  });

  it('takes the strides of a packed projection', () => {
    scope(() => {
      const packed = uniformOf(7, [2, 6, 3, 2, 8]).to('float32', device);
      const parts = [0, 1, 2].map((i) => packed.select(2, i).permute([0, 2, 1, 3])) as Three;
      const views = parts.map((x) => x.detach().requireGrad()) as Three;
      const copies = parts.map((x) => x.contiguous().detach().requireGrad()) as Three;
      const out = scaledDotProductAttention(...views);
      const expected = scaledDotProductAttention(...copies);
      expectSameBits(out.detach(), expected.detach(), 'output');
      const own = gradientsOf(out, views);
      gradientsOf(expected, copies).forEach((gradient, i) => {
        expectSameBits(own[i] as Tensor, gradient, `gradient ${i}`);
      });
    });
  });
});

it('needs memory that grows with the length, not with its square', () => {
  const peak = (length: number): number =>
    scope(() => {
      const draw = (): Tensor => normal([1, 1, length, 16]).requireGrad();
      const [q, k, v] = [draw(), draw(), draw()];
      memory.resetPeak();
      const before = memory.stats(cpu).allocated;
      scaledDotProductAttention(q, k, v, { isCausal: true, dropout: 0.1 }).sum().backward();
      return memory.stats(cpu).peakAllocated - before;
    });
  peak(64);
  const [short, long] = [peak(1024), peak(4096)];
  expect(long).toBeLessThan(4.5 * short);
  expect(long).toBeLessThan(4096 * 4096); // a quarter of the scores
});

it('does not depend on the number of threads', () => {
  const run = (threads: number): Tensor[] => {
    setNumThreads(threads);
    const leaves = [1, 2, 3].map((seed) =>
      uniformOf(seed, [1, 2, 300, 8]).to('float32').detach().requireGrad(),
    ) as Three;
    const out = scaledDotProductAttention(...leaves, { isCausal: true });
    return [out.detach(), ...gradientsOf(out, leaves)];
  };
  const before = getNumThreads();
  scope(() => {
    const alone = run(1);
    run(3).forEach((x, i) => {
      expectSameBits(x, alone[i] as Tensor, `result ${i}`);
    });
  });
  setNumThreads(before);
});

interface Case {
  shapes: number[][];
  masked: 'none' | 'causal' | 'bool' | 'added';
  mask: Packed | null;
  output: Packed;
  gradients: Packed[];
}

describe.each(devices)('attention of PyTorch on $name', (device) => {
  const { cases } = readVectors<Case>('attention');
  it.each(cases.map((found, i) => [i, found] as const))('case %i', (i, found) => {
    scope(() => {
      const leaves = found.shapes.map((shape, n) =>
        uniformOf(100 * i + n, shape, -2, 2)
          .to('float64', device)
          .detach()
          .requireGrad(),
      ) as Three;
      const mask = found.mask
        ? tensor(found.mask.values, found.mask.shape, { dtype: 'float64', device })
        : null;
      const out = scaledDotProductAttention(...leaves, {
        mask: mask && found.masked === 'bool' ? mask.to('bool') : mask,
        isCausal: found.masked === 'causal',
      });
      expectClose(valuesOf(out.detach()), unpacked(found.output), 1e-10, 'output');
      out.backward(uniformOf(100 * i + 3, out.shape).to('float64', device));
      leaves.forEach((leaf, n) => {
        const expected = unpacked(found.gradients[n] as Packed);
        expectClose(valuesOf(leaf.grad as Tensor), expected, 1e-10, `gradient ${n}`);
      });
    });
  });
});

it('is not lost on tensors without elements', () => {
  scope(() => {
    const q = zeros([0, 2, 3, 4]);
    expect(scaledDotProductAttention(q, q, q).shape).toEqual([0, 2, 3, 4]);
    const k = zeros([1, 1, 0, 4]);
    const out = scaledDotProductAttention(ones([1, 1, 2, 4]), k, k);
    expect([...out.data()]).toEqual(new Array(8).fill(0));
  });
});
