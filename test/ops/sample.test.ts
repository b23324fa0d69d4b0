/** Permutations, classes by weight, masks of their own probabilities, truncated normals. */
import { describe, expect, it } from 'vitest';
import {
  bernoulli,
  capture,
  type Device,
  Generator,
  multinomial,
  nn,
  randperm,
  scope,
  tensor,
  truncatedNormal,
  uniform,
  zeros,
} from '../../lib/index.js';
import { bernoulliEach } from '../../lib/ops/sample.js';
import { expectClose, expectSameBits, valuesOf } from '../support/compare.js';
import { cpu, devices } from '../support/devices.js';
import { erf } from '../support/nd.js';
import { uniformAt, word } from '../support/philox.js';

const seed = 987654321n;

/** The 64 bits of number i, as core/families/sample.h has them. */
function bits(offset: bigint, i: number): bigint {
  const at = 4 * Math.floor(i / 2) + 2 * (i % 2);
  return (BigInt(word(seed, offset, at)) << 32n) | BigInt(word(seed, offset, at + 1));
}

function numbers(x: { data(): ArrayLike<number | bigint> }): number[] {
  return Array.from(x.data(), Number);
}

describe.each(devices)('samples on $name', (device: Device) => {
  it('randperm(n) is the order of 64 random bits', () => {
    scope(() => {
      const generator = new Generator(seed);
      let offset = 0n;
      for (const n of [0, 1, 2, 3, 33, 1500]) {
        const order = randperm(n, { device, generator });
        expect(order.dtype).toBe('int64');
        const keys = Array.from({ length: n }, (_, i) => bits(offset, i));
        const expected = keys
          .map((key, i) => ({ key, i }))
          .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.i - b.i))
          .map(({ i }) => i);
        expect(numbers(order)).toEqual(expected);
        offset += BigInt(Math.ceil(n / 2));
        expect(generator.getState(device)).toEqual([seed, offset]);
      }
    });
  });

  it('randperm is the same on every device, beyond what a block sorts', () => {
    scope(() => {
      for (const n of [1024, 1025, 5000]) {
        const [here, there] = [device, cpu].map((on) =>
          randperm(n, { device: on, generator: new Generator(n) }),
        );
        expectSameBits(here!.to(cpu), there!, `n = ${n}`);
      }
      expect(randperm(4, { device, dtype: 'int32' }).dtype).toBe('int32');
    });
  });

  it('randperm draws every order as often as another', () => {
    scope(() => {
      const generator = new Generator(3);
      const seen = new Map<string, number>();
      for (let i = 0; i < 600; ++i) {
        const order = String(numbers(randperm(3, { device, generator })));
        seen.set(order, (seen.get(order) ?? 0) + 1);
      }
      expect(seen.size).toBe(6);
      // 100 each, of a standard deviation of 9.
      for (const count of seen.values()) expect(Math.abs(count - 100)).toBeLessThan(40);
    });
  });

  it('randperm refuses what is no count', () => {
    expect(() => randperm(-1, { device })).toThrow(/^randperm: n must be an integer in \[0,/);
    expect(() => randperm(2, { device, generator: 1 as never })).toThrow(
      'randperm: generator must be a Generator, got 1',
    );
  });

  it('multinomial(…) with replacement takes the class where u·total falls', () => {
    scope(() => {
      for (const classes of [1, 5, 1000]) {
        const weights = Float64Array.from({ length: 2 * classes }, (_, i) => (i * 7) % 5);
        weights[0] = 1;
        weights[classes] = 2;
        const generator = new Generator(seed);
        const x = tensor(weights, [2, classes], { device, dtype: 'float64' });
        const drawn = multinomial(x, 50, true, { generator });
        expect(drawn.shape).toEqual([2, 50]);
        const expected = Array.from({ length: 100 }, (_, i) => {
          const row = weights.subarray(i < 50 ? 0 : classes, i < 50 ? classes : undefined);
          const total = row.reduce((a, b) => a + b, 0);
          const wanted = (Number(bits(0n, i) >> 11n) / 2 ** 53) * total;
          let sum = 0;
          return row.findIndex((w) => {
            sum += w;
            return sum > wanted;
          });
        });
        expect(numbers(drawn)).toEqual(expected);
        expect(generator.getState(device)).toEqual([seed, 50n]);
      }
    });
  });

  it('multinomial without replacement takes the smallest -log(u)/w', () => {
    scope(() => {
      const classes = 40;
      const weights = Float64Array.from({ length: 2 * classes }, (_, i) => (i * 7) % 5);
      const generator = new Generator(seed);
      const x = tensor(weights, [2, classes], { device, dtype: 'float32' });
      const drawn = multinomial(x, 30, false, { generator });
      const expected = [0, 1].flatMap((r) =>
        Array.from({ length: classes }, (_, c) => {
          const u = (Number(bits(0n, r * classes + c) >> 11n) + 1) / 2 ** 53;
          return { c, order: -Math.log(u) / (weights[r * classes + c] as number) };
        })
          .filter(({ order }) => Number.isFinite(order))
          .sort((a, b) => a.order - b.order)
          .slice(0, 30)
          .map(({ c }) => c),
      );
      expect(numbers(drawn)).toEqual(expected);
      expect(generator.getState(device)).toEqual([seed, 40n]);
    });
  });

  it('multinomial gives -1 where nothing is left', () => {
    scope(() => {
      const x = tensor([0, 2, 0, -1, Number.NaN], { device });
      expect(numbers(multinomial(x, 3))).toEqual([1, -1, -1]);
      expect(new Set(numbers(multinomial(x, 9, true)))).toEqual(new Set([1]));
      expect(numbers(multinomial(zeros([2], { device }), 2, true))).toEqual([-1, -1]);
      expect(multinomial(zeros([0, 3], { device }), 2).shape).toEqual([0, 2]);
    });
  });

  it('multinomial refuses what it cannot draw from', () => {
    scope(() => {
      const x = zeros([2, 3], { device });
      expect(() => multinomial(x, 4)).toThrow(
        'multinomial: samples must be 1 or more, and at most 3 without replacement, got 4',
      );
      expect(() => multinomial(x.cast('int32'), 1)).toThrow(
        'multinomial: needs a floating dtype, got int32',
      );
      expect(() => multinomial(zeros([1, 2, 3], { device }), 1)).toThrow(
        'multinomial: weights must be [C] or [R,C] with C of 1 or more, got [1,2,3]',
      );
    });
  });

  it('bernoulliEach(…), bernoulli of a tensor, compares with each probability', () => {
    scope(() => {
      for (const dtype of ['float32', 'float64', 'bfloat16', 'float16'] as const) {
        const p = uniform([3, 11], 0, 1, { device, dtype }).T;
        const drawn = bernoulli(p, { generator: new Generator(seed) });
        expect([drawn.dtype, ...drawn.shape]).toEqual([dtype, 11, 3]);
        const expected = numbers(p.to('float64')).map((q, i) =>
          uniformAt(seed, 0n, i) < q ? 1 : 0,
        );
        expect(numbers(drawn)).toEqual(expected);
      }
      const mask = bernoulliEach(tensor([0, 1], { device }), { dtype: 'bool' });
      expect(mask.toArray()).toEqual([false, true]);
      expect(() => bernoulli(zeros([1], { device, dtype: 'int32' }))).toThrow(
        'bernoulli: needs a floating dtype, got int32',
      );
    });
  });

  it('truncatedNormal(…) inverts the distribution function', () => {
    scope(() => {
      const [mean, std, low, high] = [1, 2, -1.5, 2];
      const n = 1025;
      const generator = new Generator(seed);
      const drawn = truncatedNormal([n], mean, std, low, high, { device, generator });
      const cdf = (x: number): number => erf((x - mean) / (std * Math.SQRT2));
      const found = valuesOf(drawn).data.map((x) => (cdf(x) - cdf(low)) / (cdf(high) - cdf(low)));
      const expected = found.map((_, i) => uniformAt(seed, 0n, i));
      const shape = [n];
      expectClose({ shape, data: found }, { shape, data: expected }, 1e-6, 'u');
      expect(Math.min(...numbers(drawn))).toBeGreaterThanOrEqual(low);
      expect(Math.max(...numbers(drawn))).toBeLessThanOrEqual(high);
      expect(generator.getState(device)).toEqual([seed, BigInt(Math.ceil(n / 4))]);
      expect(numbers(truncatedNormal([2], 3, 0, 0, 2.5, { device }))).toEqual([2.5, 2.5]);
      expect(() => truncatedNormal([2], 0, 1, 2, 1, { device })).toThrow(
        'truncatedNormal: high must be in [2,Infinity], got 1',
      );
    });
  });

  it('draws anew at each replay of a captured step', async () => {
    const generator = new Generator(seed);
    generator.state(device);
    const weights = tensor([1, 1, 1, 1], { device });
    const step = capture((x: typeof weights) => [
      randperm(50, { device, generator }),
      multinomial(x, 40, true, { generator }),
      multinomial(x.repeatInterleave(5), 20, false, { generator }),
    ]);
    const seen = new Set<string>();
    for (let i = 0; i < 4; ++i) for (const x of await step(weights)) seen.add(String(numbers(x)));
    expect(seen.size).toBe(12);
    step.dispose();
  });
});

it('initialises with truncated normals, alike on every device', () => {
  const [first, ...rest] = devices.map((device) =>
    nn.init.truncatedNormal(zeros([40], { device }), 0, 1, -1, 1, new Generator(5)).to(cpu),
  );
  for (const other of rest) expectSameBits(other, first!, 'values');
  expect(Math.max(...numbers(first!))).toBeLessThanOrEqual(1);
});
