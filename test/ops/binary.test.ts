import { describe, expect, it } from 'vitest';
import { div, maximum, minimum, ones, pow, scope, type Tensor, tensor } from '../../lib/index.js';
import { valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { binaryRows, whereRows } from './rows/binary.js';

testOps([...binaryRows, ...whereRows]);

describe.each(devices)('binary on $name', (device) => {
  it('lets NaN win in maximum and minimum', () => {
    scope(() => {
      const a = tensor([Number.NaN, 1, 2], { device });
      const b = tensor([0, Number.NaN, 3], { device });
      expect([...maximum(a, b).data()]).toEqual([Number.NaN, Number.NaN, 3]);
      expect([...minimum(a, b).data()]).toEqual([Number.NaN, Number.NaN, 2]);
      expect([...a.maximum(1.5).data()]).toEqual([Number.NaN, 1.5, 2]);
    });
  });

  it('shares the gradient of equal operands', () => {
    scope(() => {
      const a = tensor([1, 2, 3], { device, requiresGrad: true });
      const b = tensor([1, 3, 2], { device, requiresGrad: true });
      maximum(a, b).backward(tensor([2, 4, 8], { device }));
      expect([...(a.grad?.data() ?? [])]).toEqual([1, 0, 8]);
      expect([...(b.grad?.data() ?? [])]).toEqual([1, 4, 0]);
    });
  });

  it('gives quotients gradients whose squares would leave the range', () => {
    scope(() => {
      for (const [dtype, values] of [
        ['float16', [300, 1e-2]],
        ['bfloat16', [1e20, 1e-15]],
        ['float32', [1e20, 1e-19]],
      ] as const) {
        const b = tensor(values as readonly number[] as number[], { device, dtype }).requireGrad();
        const slopes = (): number[] => {
          const found = [...(b.grad?.data() ?? [])].map(Number);
          b.zeroGrad();
          return found;
        };
        const within = dtype === 'float32' ? 1e-6 : dtype === 'float16' ? 4e-3 : 3e-2;
        // a/b is 1, so that the slope is -1/b.
        b.detach()
          .clone()
          .div(b)
          .backward(ones([2], { device, dtype }));
        slopes().forEach((slope, i) => {
          expect(Math.abs(slope * (values[i] as number) + 1)).toBeLessThan(within);
        });
        const [most] = values;
        div(most, b).backward(tensor([1, 0], { device, dtype }));
        expect(Math.abs((slopes()[0] as number) * most + 1)).toBeLessThan(within);
      }
    });
  });

  it('gives powers of zero finite gradients', () => {
    scope(() => {
      const a = tensor([0, 0, 0], { device, requiresGrad: true });
      const b = tensor([0, 1, 2], { device, requiresGrad: true });
      pow(a, b).backward(tensor([3, 3, 3], { device }));
      expect(valuesOf(a.grad as never).data).toEqual(Float64Array.of(0, 3, 0));
      expect(valuesOf(b.grad as never).data).toEqual(Float64Array.of(0, 0, 0));
    });
  });

  it('compares NaN with nothing', () => {
    scope(() => {
      const x = tensor([Number.NaN, Number.NaN, 1, 0], { device });
      const y = tensor([Number.NaN, 1, Number.NaN, -0], { device });
      const flags = (result: Tensor): number[] => [...result.data()].map(Number);
      expect(flags(x.eq(y))).toEqual([0, 0, 0, 1]);
      expect(flags(x.ne(y))).toEqual([1, 1, 1, 0]);
      for (const name of ['lt', 'gt'] as const) expect(flags(x[name](y))).toEqual([0, 0, 0, 0]);
      for (const name of ['le', 'ge'] as const) expect(flags(x[name](y))).toEqual([0, 0, 0, 1]);
      expect(flags(x.logicalAnd(y))).toEqual([1, 1, 1, 0]);
    });
  });

  it('divides by zero as IEEE 754 does', () => {
    scope(() => {
      const a = tensor([1, -1, 0], { device });
      expect([...a.div(0).data()]).toEqual([
        Number.POSITIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
        Number.NaN,
      ]);
      expect([...tensor([1, 0], { device, dtype: 'int32' }).div(0).data()]).toEqual([
        Number.POSITIVE_INFINITY,
        Number.NaN,
      ]);
    });
  });

  it('wraps integers', () => {
    scope(() => {
      const a = tensor([250, 10], { device, dtype: 'uint8' });
      expect([...a.add(a).data()]).toEqual([244, 20]);
      const b = tensor([2147483647], { device, dtype: 'int32' });
      expect([...b.add(1).data()]).toEqual([-2147483648]);
      const c = tensor([2n ** 62n], { device });
      expect([...c.mul(2).data()]).toEqual([-(2n ** 63n)]);
    });
  });
});
