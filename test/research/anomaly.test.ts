import { describe, expect, it } from 'vitest';
import {
  capture,
  detectAnomaly,
  full,
  ones,
  scope,
  setAnomalyDetection,
  type Tensor,
  tensor,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';

function errorOf(fn: () => unknown): Error | null {
  try {
    fn();
  } catch (error) {
    return error as Error;
  }
  return null;
}

const messageOf = (fn: () => unknown): string => errorOf(fn)?.message ?? 'nothing';

describe.each(devices)('detectAnomaly on $name', (device) => {
  const leaf = (values: number[]): Tensor => tensor(values, { device, requiresGrad: true });

  it('names the op that made the first NaN or Inf', () => {
    scope(() => {
      const x = leaf([1, -1, 4]);
      const culprit = (): Tensor => x.log().add(1).mul(0);
      const error = errorOf(() => detectAnomaly(culprit));
      expect(error?.message).toBe('detectAnomaly: log gave NaN, shape [3]');
      expect(error?.stack).toMatch(/at culprit .*anomaly\.test\.ts/);
      expect(messageOf(() => detectAnomaly(() => x.sub(x).reciprocal()))).toMatch(
        /^detectAnomaly: reciprocal gave Inf/,
      );
      expect(messageOf(() => detectAnomaly(() => x.sub(x).reciprocal(), { infinite: false }))).toBe(
        'nothing',
      );
      expect(messageOf(culprit)).toBe('nothing');
    });
  });

  it('names an op that is given NaN, and lets infinities through that were meant', () => {
    scope(() => {
      const x = tensor([[1, Number.NaN]], { device });
      expect(messageOf(() => detectAnomaly(() => ones([1, 2], { device }).add(x)))).toMatch(
        /^detectAnomaly: add was given NaN as input 1, shape \[1,2\]/,
      );
      const mask = full([3], Number.NEGATIVE_INFINITY, { device });
      expect(messageOf(() => detectAnomaly(() => mask.add(1).mul(2)))).toBe('nothing');
    });
  });

  it('names the op whose gradient is wrong, with the call of forward', () => {
    scope(() => {
      const x = leaf([0, 4]);
      const root = (): Tensor => x.sqrt();
      const error = errorOf(() => detectAnomaly(() => root().sum().backward()));
      expect(error?.message).toBe(
        'detectAnomaly: the gradient of input 0 of sqrt is Inf, shape [2]',
      );
      expect(error?.stack).toMatch(/at root .*anomaly\.test\.ts/);
    });
  });

  it('lasts as long as its function, asynchronous ones too', async () => {
    const x = tensor([-1], { device });
    await detectAnomaly(async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      expect(messageOf(() => x.sqrt())).toMatch(/^detectAnomaly: sqrt gave NaN/);
    });
    expect(messageOf(() => x.sqrt())).toBe('nothing');
    setAnomalyDetection(true);
    expect(messageOf(() => x.sqrt())).toMatch(/sqrt gave NaN/);
    setAnomalyDetection(false);
    expect(messageOf(() => x.sqrt())).toBe('nothing');
  });

  it('runs captured steps eagerly', async () => {
    const step = capture((x: Tensor) => x.sqrt());
    const good = tensor([4], { device });
    for (let i = 0; i < 3; ++i) await step(good);
    setAnomalyDetection(true);
    try {
      await expect(step(tensor([-4], { device }))).rejects.toThrow(/sqrt gave NaN/);
    } finally {
      setAnomalyDetection(false);
    }
    expect((await step(good)).item()).toBe(2);
    step.dispose();
  });
});
