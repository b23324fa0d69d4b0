/** Norms and bounds of gradients, against PyTorch's (test/vectors/training.json) and by hand. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  capture,
  type DType,
  full,
  nn,
  ones,
  optim,
  scope,
  type Tensor,
  tensor,
  zeros,
  zerosLike,
} from '../../lib/index.js';
import { expectClose, expectSameBits, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { nd } from '../support/nd.js';
import { type Packed, uniformOf, unpacked } from '../support/vectors.js';

interface Case {
  p: number | 'Infinity';
  limit: number;
  norm: number;
  gradients: Packed[];
}

const { clipping } = JSON.parse(
  readFileSync(new URL('../vectors/training.json', import.meta.url), 'utf8'),
) as { clipping: Case[] };

const { clipGradNorm, clipGradValue, getTotalNorm } = optim;

/** A leaf with a given gradient. */
function withGradient(gradient: Tensor): Tensor {
  const leaf = nn.parameter(zerosLike(gradient));
  leaf.mul(gradient).sum().backward();
  return leaf;
}

describe.each(devices)('clipping on $name', (device) => {
  it.each(clipping)('to the $p-norm of $limit', ({ p, limit, norm, gradients }) => {
    for (const dtype of ['float32', 'float64'] as const) {
      scope(() => {
        const within = dtype === 'float32' ? 1e-6 : 1e-11;
        const leaves = gradients.map(({ shape }, i) =>
          withGradient(uniformOf(700 + i, shape).to(dtype, device)),
        );
        const all = leaves.map((leaf) => leaf.grad as Tensor);
        const before = getTotalNorm(all, Number(p));
        const total = clipGradNorm(leaves, limit, Number(p));
        expectSameBits(total, before, 'the norm');
        expect(total.dtype).toBe(dtype);
        expectClose(valuesOf(total), nd([], [norm]), within, 'the norm');
        for (const [i, leaf] of leaves.entries()) {
          const expected = unpacked(gradients[i] as Packed);
          expectClose(valuesOf(leaf.grad as Tensor), expected, within, `gradient ${i}`);
        }
      });
    }
  });

  it('takes many tensors of every floating dtype, and long ones', () => {
    scope(() => {
      const dtypes: DType[] = ['float32', 'bfloat16', 'float16'];
      const leaves = Array.from({ length: 130 }, (_, i) =>
        withGradient(full([(i * 13) % 50], 0.5, { dtype: dtypes[i % 3] as DType, device })),
      );
      leaves.push(withGradient(full([40_000], 0.25, { device })));
      const counted = leaves.slice(0, -1).reduce((n, leaf) => n + leaf.size, 0);
      const norm = Math.sqrt(0.25 * counted + 40_000 / 16);
      expect(clipGradNorm(leaves, 1).item()).toBeCloseTo(norm, 4);
      expect(getTotalNorm(leaves.map((leaf) => leaf.grad as Tensor)).item()).toBeCloseTo(1, 2);
      expect(getTotalNorm([zeros([0], { device })]).item()).toBe(0);
      expect(getTotalNorm(tensor([3, -4], { device }), 1).item()).toBe(7);
    });
  });

  it('leaves gradients as they are where the norm is small, and shows NaN', () => {
    scope(() => {
      const leaf = withGradient(tensor([0.3, -0.4], { device }));
      const before = (leaf.grad as Tensor).clone();
      expect(clipGradNorm(leaf, 1).item()).toBeCloseTo(0.5, 6);
      expectSameBits(leaf.grad as Tensor, before, 'the gradient');
      for (const p of [2, Number.POSITIVE_INFINITY]) {
        const bad = withGradient(tensor([1, Number.NaN, 2], { device }));
        expect(clipGradNorm(bad, 1, p).item()).toBeNaN();
        expect(Array.from((bad.grad as Tensor).data() as Float32Array)).toEqual([
          Number.NaN,
          Number.NaN,
          Number.NaN,
        ]);
      }
    });
  });

  it('bounds values', () => {
    scope(() => {
      for (const dtype of ['float32', 'float64', 'bfloat16', 'float16'] as const) {
        const values = [-3, -0.5, 0, 0.5, 3, Number.NaN, Number.POSITIVE_INFINITY];
        const leaf = withGradient(tensor(values, { dtype, device }));
        clipGradValue([leaf], 0.5);
        const found = Array.from((leaf.grad as Tensor).data() as Float32Array);
        expect(found).toEqual([-0.5, -0.5, 0, 0.5, 0.5, Number.NaN, 0.5]);
      }
    });
  });

  it('works in captured steps', async () => {
    const run = async (captured: boolean): Promise<number[]> => {
      const w = nn.parameter(tensor([1, 2, 3], { device }));
      const optimizer = new optim.SGD([w], { lr: 0.1, momentum: 0.9 });
      const body = (x: Tensor): Tensor => {
        optimizer.zeroGrad();
        w.mul(x).square().sum().backward();
        const norm = clipGradNorm([w], 2);
        clipGradValue([w], 1.5);
        optimizer.step();
        return norm;
      };
      const step = captured ? capture(body) : async (x: Tensor) => body(x);
      const norms: number[] = [];
      for (let i = 0; i < 6; ++i) {
        norms.push(Number((await step(full([3], 1 + i / 8, { device }))).item()));
      }
      return [...norms, ...Array.from(w.data() as Float32Array)];
    };
    expect(await run(true)).toEqual(await run(false));
  });
});

describe('clipping', () => {
  it('refuses what does not fit', () => {
    scope(() => {
      const leaf = withGradient(ones([2]));
      expect(() => clipGradNorm([leaf], -1)).toThrow(
        'clipGradNorm: maxNorm must be in [0,Infinity], got -1',
      );
      expect(() => clipGradNorm([leaf], 1, 0)).toThrow(
        'clipGradNorm: the kind of norm must be above 0, got 0',
      );
      expect(() => clipGradNorm([nn.parameter(ones([2]))], 1)).toThrow(
        'clipGradNorm: needs at least one gradient, got none',
      );
      expect(() => clipGradNorm([3 as never], 1)).toThrow(
        'clipGradNorm: each parameter must be a tensor, got 3',
      );
      expect(() => clipGradValue([leaf], Number.NaN)).toThrow('clipGradValue: clipValue must be');
      expect(() => getTotalNorm(ones([2], { dtype: 'int32' }))).toThrow(
        'getTotalNorm: needs floating tensors, got int32',
      );
    });
  });
});
