import { describe, expect, it } from 'vitest';
import { indexAdd, indexSelect, ones, scope, tensor } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { indexRows } from './rows/index.js';

testOps(indexRows);

describe.each(devices)('rows by index on $name', (device) => {
  it('are NaN, or 0 for integers, where the index is outside', () => {
    scope(() => {
      const index = tensor([1n, -1n, 2n, 2n ** 62n], { device });
      const x = tensor(
        [
          [1, 2],
          [3, 4],
        ],
        { device, requiresGrad: true },
      );
      const rows = indexSelect(x, index);
      const nan = [Number.NaN, Number.NaN];
      expect(rows.toArray()).toEqual([[3, 4], nan, nan, nan]);
      for (const dtype of ['bfloat16', 'float16', 'float64'] as const) {
        expect(indexSelect(x.detach().to(dtype), index).toArray()).toEqual([[3, 4], nan, nan, nan]);
      }
      const whole = indexSelect(x.detach().to('int32'), index);
      expect(whole.toArray()).toEqual([
        [3, 4],
        [0, 0],
        [0, 0],
        [0, 0],
      ]);
      rows.backward(ones([4, 2], { device }));
      expect(x.grad?.toArray()).toEqual([
        [0, 0],
        [1, 1],
      ]);
    });
  });

  it('outside are not added', () => {
    scope(() => {
      const index = tensor([0n, 5n, -1n, 0n], { device });
      const src = tensor([1, 2, 4, 8], { device, requiresGrad: true });
      const out = indexAdd([2], index, src);
      expect(out.toArray()).toEqual([9, 0]);
    });
  });
});
