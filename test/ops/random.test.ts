import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import {
  bernoulli,
  type Device,
  Generator,
  manualSeed,
  normal,
  type RandomOptions,
  rand,
  randn,
  type Shape,
  scope,
  type Tensor,
  uniform,
} from '../../lib/index.js';
import { expectSameBits } from '../support/compare.js';
import { cpu, devices } from '../support/devices.js';
import { normalAt, philox, uniformAt } from '../support/philox.js';
import { floatingDTypes } from '../support/tolerance.js';

const sizes = [0, 1, 3, 4, 5, 31, 33, 1025];
const seed = 12345678901234n;

type Draw = (shape: Shape, options: RandomOptions) => Tensor;
const draws: [string, Draw][] = [
  ['uniform', (shape, options) => uniform(shape, -2, 3, options)],
  ['bernoulli', (shape, options) => bernoulli(shape, 0.3, options)],
  ['normal', (shape, options) => normal(shape, 1, 2, options)],
];

function moments(x: Tensor): { mean: number; std: number; skew: number; kurtosis: number } {
  const values = Array.from(x.data() as Float32Array);
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const central = (power: number): number =>
    values.reduce((sum, v) => sum + (v - mean) ** power, 0) / values.length;
  const std = Math.sqrt(central(2));
  return { mean, std, skew: central(3) / std ** 3, kurtosis: central(4) / std ** 4 };
}

it('knows the answers of the Random123 distribution', () => {
  expect(philox(0n, 0n)).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
});

describe.each(devices)('random on $name', (device: Device) => {
  it('uniform is Philox, to the bit', () => {
    scope(() => {
      const generator = new Generator(seed);
      let offset = 0n;
      for (const n of sizes) {
        const values = rand([n], { device, generator }).data();
        for (let i = 0; i < n; ++i) expect(values[i]).toBe(uniformAt(seed, offset, i));
        offset += BigInt(Math.ceil(n / 4));
        expect(generator.getState(device)).toEqual([seed, offset]);
      }
    });
  });

  it('normal is Box-Muller on Philox', () => {
    scope(() => {
      const generator = new Generator(seed);
      const values = randn([1025], { device, generator }).data();
      for (let i = 0; i < 1025; ++i) {
        const expected = normalAt(seed, 0n, i);
        expect(Math.abs((values[i] as number) - expected)).toBeLessThan(
          1e-6 * (1 + Math.abs(expected)),
        );
      }
    });
  });

  it('bernoulli compares the uniform with the probability', () => {
    scope(() => {
      const generator = new Generator(seed);
      for (const p of [0, 0.25, 1]) {
        const [, offset] = generator.getState(device);
        const values = bernoulli([100], p, { device, generator }).data();
        for (let i = 0; i < 100; ++i)
          expect(values[i]).toBe(uniformAt(seed, offset, i) < p ? 1 : 0);
      }
    });
  });

  it.each(draws.slice(0, 2))('%s has the bits of the CPU in every dtype', (_, draw) => {
    scope(() => {
      for (const dtype of floatingDTypes) {
        const here = draw([3, 41], { device, dtype, generator: new Generator(7) });
        const there = draw([3, 41], { device: cpu, dtype, generator: new Generator(7) });
        expect(here.dtype).toBe(dtype);
        expectSameBits(here, there, dtype);
      }
    });
  });

  it('normal is that of the CPU to a rounding', () => {
    scope(() => {
      const here = randn([4096], { device, generator: new Generator(7) }).data();
      const there = randn([4096], { device: cpu, generator: new Generator(7) }).data();
      there.forEach((value, i) => {
        const bound = 2 ** -22 * Math.max(Math.abs(Number(value)), 2 ** -6);
        expect(Math.abs(Number(here[i]) - Number(value))).toBeLessThanOrEqual(bound);
      });
    });
  });

  it.each(draws)('%s repeats after the same seed and goes on otherwise', (_, draw) => {
    scope(() => {
      const generator = new Generator(1);
      const first = draw([100], { device, generator });
      const second = draw([100], { device, generator });
      expect([...second.data()]).not.toEqual([...first.data()]);
      generator.manualSeed(1);
      expectSameBits(draw([100], { device, generator }), first, 'after the same seed');
      const state = generator.getState(device);
      const third = draw([100], { device, generator });
      expectSameBits(third, second, 'second draw');
      generator.setState(state, device);
      expectSameBits(draw([100], { device, generator }), second, 'after setState');
      generator.manualSeed(2);
      expect([...draw([100], { device, generator }).data()]).not.toEqual([...first.data()]);
    });
  });

  it('draws from the default generator after manualSeed', () => {
    scope(() => {
      manualSeed(99);
      const first = rand([8], { device });
      manualSeed(99);
      expectSameBits(rand([8], { device }), first, 'manualSeed');
    });
  });

  it('has the moments of its distributions', () => {
    scope(() => {
      const n = device === cpu ? 200_000 : 20_000;
      const within = 5 / Math.sqrt(n);
      const options = { device, generator: new Generator(3) };
      const u = moments(uniform([n], -1, 3, options));
      expect(Math.abs(u.mean - 1)).toBeLessThan(within * 1.16);
      expect(u.std).toBeCloseTo(4 / Math.sqrt(12), 1);
      expect(u.kurtosis).toBeCloseTo(1.8, 1);
      const g = moments(normal([n], 2, 3, options));
      expect(Math.abs(g.mean - 2)).toBeLessThan(within * 3);
      expect(Math.abs(g.std - 3)).toBeLessThan(within * 3);
      expect(Math.abs(g.skew)).toBeLessThan(within * 3);
      expect(Math.abs(g.kurtosis - 3)).toBeLessThan(within * 5);
      const b = moments(bernoulli([n], 0.2, options));
      expect(Math.abs(b.mean - 0.2)).toBeLessThan(within * 0.4);
    });
  });

  it('keeps uniform below its upper bound', () => {
    scope(() => {
      const x = uniform([5000], 0, 1, { device, dtype: 'bfloat16', generator: new Generator(5) });
      expect(Math.min(...(x.data() as Float32Array))).toBeGreaterThanOrEqual(0);
      const y = rand([5000], { device, generator: new Generator(5) });
      expect(Math.max(...(y.data() as Float32Array))).toBeLessThan(1);
    });
  });

  it('refuses what makes no distribution', () => {
    expect(() => uniform([2], 1, 0, { device })).toThrow(
      'uniform: high must be in [1,Infinity], got 0',
    );
    expect(() => normal([2], 0, -1, { device })).toThrow(
      'normal: std must be in [0,Infinity], got -1',
    );
    expect(() => bernoulli([2], 1.5, { device })).toThrow(
      'bernoulli: probability must be in [0,1], got 1.5',
    );
    expect(() => rand([2], { device, dtype: 'int32' })).toThrow(
      'uniform: needs a floating dtype, got int32',
    );
    expect(() => rand([-2], { device })).toThrow('uniform: sizes must not be negative, got -2');
    expect(() => new Generator(-1)).toThrow(
      'manualSeed: seed must be an integer of 0 or more, got -1',
    );
    expect(() => new Generator(2n ** 63n)).toThrow('manualSeed: the seed must be in [0,2⁶³)');
  });

  it('draw integers evenly, as on every other device', () => {
    ng.scope(() => {
      const draw = (on: ng.Device, options: object = {}): ng.Tensor =>
        ng.randint(-2, 3, [4000], { device: on, generator: new ng.Generator(5), ...options });
      const x = draw(device);
      expect(x.dtype).toBe('int64');
      const values = x.toArray() as number[];
      expect(values).toEqual(draw(cpu).toArray());
      for (const wanted of [-2, -1, 0, 1, 2]) {
        // Five standard deviations of a count of 4000 draws at 1/5.
        const count = values.filter((v) => v === wanted).length;
        expect(Math.abs(count - 800)).toBeLessThan(5 * Math.sqrt(4000 * 0.2 * 0.8));
      }
      expect(draw(device, { dtype: 'float32' }).toArray()).toEqual(values);
      expect(() => ng.randint(3, 3, [1], { device })).toThrow(/^randint: high must be an integer/);
      const like = ng.zeros([2, 3], { device, dtype: 'float16' });
      for (const made of [ng.randLike(like), ng.randnLike(like), ng.fullLike(like, 2)]) {
        expect([made.dtype, made.shape, made.device]).toEqual(['float16', [2, 3], device]);
      }
      expect(ng.fullLike(like, 2, { dtype: 'int32' }).sum().item()).toBe(12);
    });
  });
});
