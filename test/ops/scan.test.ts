import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { scanRows } from './rows/scan.js';

testOps(scanRows);

describe.each(devices)('running products on $name', (device) => {
  it('have a gradient where elements are 0', () => {
    ng.scope(() => {
      const x = ng.tensor([2, 0, 3, 0, 5], { device }).requireGrad();
      const y = x.cumprod(0);
      expect(y.toArray()).toEqual([2, 0, 0, 0, 0]);
      y.backward(ng.tensor([1, 1, 1, 1, 1], { device }));
      // y = x0, x0x1, x0x1x2, …: by x0: 1 + 0; by x1: x0 + x0x2; the others have a 0 before them.
      expect(x.grad?.toArray()).toEqual([1, 8, 0, 0, 0]);
    });
  });

  it('cut a long line in parts on every device', () => {
    ng.scope(() => {
      const n = 9000;
      const x = ng.arange(0, n, 1, { dtype: 'int32', device });
      const sums = x.cumsum(0).data() as BigInt64Array;
      for (const i of [0, 1023, 1024, 4095, 4096, 4097, n - 1]) {
        expect(Number(sums[i])).toBe((i * (i + 1)) / 2);
      }
    });
  });
});
