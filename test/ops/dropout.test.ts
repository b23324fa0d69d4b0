import { describe, expect, it } from 'vitest';
import { capture, dropout, Generator, ones, scope, type Tensor, tensor } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { dropoutRows } from './rows/dropout.js';

testOps(dropoutRows);

describe.each(devices)('dropout on $name', (device) => {
  it('is the input itself where nothing is to be dropped, and draws nothing', () => {
    scope(() => {
      const generator = new Generator(3);
      const x = ones([5], { device });
      expect(dropout(x, 0, true, generator)).toBe(x);
      expect(dropout(x, 0.5, false, generator)).toBe(x);
      expect(generator.getState(device)).toEqual([3n, 0n]);
      dropout(x, 0.5, true, generator);
      expect(generator.getState(device)).toEqual([3n, 2n]);
    });
  });

  it('gives zeros where all is dropped, whatever the input', () => {
    scope(() => {
      const x = tensor([1, Number.NaN, Number.POSITIVE_INFINITY], { device });
      expect(dropout(x, 1).toArray()).toEqual([0, 0, 0]);
    });
  });

  it('keeps the share it should, unbiased', () => {
    scope(() => {
      const y = dropout(ones([40_000], { device }), 0.2, true, new Generator(5));
      const values = Array.from(y.data() as Float32Array);
      const kept = values.filter((v) => v !== 0);
      expect(new Set(kept)).toEqual(new Set([1.25]));
      expect(Math.abs(kept.length / values.length - 0.8)).toBeLessThan(0.01);
    });
  });

  it('draws anew at each replay of a captured step, as it does without', async () => {
    const x = ones([64], { device });
    const run = async (step: (x: Tensor) => Tensor | Promise<Tensor>, generator: Generator) => {
      generator.manualSeed(11);
      const results: unknown[] = [];
      for (let i = 0; i < 5; ++i) results.push((await step(x)).toArray());
      return results;
    };
    const generator = new Generator(11);
    const plain = (t: Tensor): Tensor => dropout(t, 0.5, true, generator);
    const expected = await run(plain, generator);
    expect(new Set(expected.map(String)).size).toBe(5);
    const step = capture(plain);
    expect(await run(step as never, generator)).toEqual(expected);
    step.dispose();
  });
});
