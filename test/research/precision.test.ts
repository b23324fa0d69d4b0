import { afterEach, describe, expect, it } from 'vitest';
import {
  capture,
  full,
  getMatmulPrecision,
  matmul,
  scope,
  setMatmulPrecision,
  type Tensor,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';

describe.each(devices)('setMatmulPrecision on $name', (device) => {
  afterEach(() => setMatmulPrecision('highest'));

  // TF32 keeps 11 significant bits, bfloat16 8; the CPU computes in float32 whatever is asked for.
  const extra = 2 ** -9 + 2 ** -12;
  const kept =
    device.type === 'cpu'
      ? { highest: extra, high: extra, medium: extra }
      : { highest: extra, high: 2 ** -9, medium: 0 };

  it.each(['highest', 'high', 'medium'] as const)('%s', (level) => {
    scope(() => {
      setMatmulPrecision(level);
      expect(getMatmulPrecision()).toBe(level);
      for (const n of [4, 64]) {
        const a = full([n, n], 1 + extra, { device });
        const b = full([n, n], 1 / n, { device });
        expect(Number(matmul(a, b).at(0, 0).item()) - 1).toBe(kept[level]);
      }
    });
  });

  it('is part of what a captured step depends on', async () => {
    const a = full([4, 4], 1 + extra, { device });
    const b = full([4, 4], 0.25, { device });
    const step = capture((x: Tensor) => matmul(x, b));
    for (const level of ['highest', 'high', 'medium', 'highest'] as const) {
      setMatmulPrecision(level);
      for (let i = 0; i < 3; ++i) {
        expect(Number((await step(a)).at(0, 0).item()) - 1).toBe(kept[level]);
      }
    }
    step.dispose();
  });
});
