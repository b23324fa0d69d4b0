import { describe, expect, it } from 'vitest';
import { arange, clone, type DType, ones, scope, tensor, zeros } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { floatingDTypes } from '../support/tolerance.js';
import { copyRows } from './rows/copy.js';

testOps(copyRows);

describe.each(devices)('copies on $name', (device) => {
  it('write in place, broadcast and cast', () => {
    scope(() => {
      const x = zeros([2, 3], { device });
      expect(x.copyFrom(tensor([1, 2, 3], { device, dtype: 'int32' }))).toBe(x);
      expect(x.toArray()).toEqual([
        [1, 2, 3],
        [1, 2, 3],
      ]);
      x.at(null, [0, 3, 2]).copyFrom(zeros([], { device }));
      expect(x.toArray()).toEqual([
        [0, 2, 0],
        [0, 2, 0],
      ]);
      x.T.copyFrom(arange(6, { device }).reshape([3, 2]));
      expect(x.toArray()).toEqual([
        [0, 2, 4],
        [1, 3, 5],
      ]);
    });
  });

  it('read views of what they write before they write it', () => {
    scope(() => {
      const x = arange(9, { device }).reshape([3, 3]);
      x.copyFrom(x.T);
      expect(x.toArray()).toEqual([
        [0, 3, 6],
        [1, 4, 7],
        [2, 5, 8],
      ]);
      const y = arange(6, { device });
      y.slice(0, 1).copyFrom(y.slice(0, 0, 5));
      expect(y.toArray()).toEqual([0, 0, 1, 2, 3, 4]);
    });
  });

  it('take floats beyond the range of an integer dtype to its ends, and NaN to 0', () => {
    const ranges = {
      uint8: [0n, 255n],
      int32: [-(2n ** 31n), 2n ** 31n - 1n],
      int64: [-(2n ** 63n), 2n ** 63n - 1n],
    } as const;
    scope(() => {
      const far = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3e38, -3e38];
      for (const from of floatingDTypes) {
        const x = tensor(far, { device }).to(from);
        for (const [dtype, [low, high]] of Object.entries(ranges)) {
          const found = [...x.to(dtype as DType).data()].map(BigInt);
          expect(found, `${from} to ${dtype}`).toEqual([0n, high, low, high, low]);
        }
      }
    });
  });

  it('refuse what cannot be written', () => {
    scope(() => {
      const x = ones([1], { device }).expand([3]);
      expect(() => x.copyFrom(zeros([3], { device }))).toThrow(
        'copy: an expanded tensor cannot be written to, got shape [3]',
      );
      expect(() => zeros([2], { device }).copyFrom(zeros([3], { device }))).toThrow(
        'copy: shape [3] does not broadcast to [2]',
      );
    });
  });

  it('of memory are its own', () => {
    scope(() => {
      const x = ones([3], { device });
      const [view, copy] = [x.reshape([3, 1]), clone(x)];
      x.copyFrom(zeros([3], { device }));
      expect(view.toArray()).toEqual([[0], [0], [0]]);
      expect(copy.toArray()).toEqual([1, 1, 1]);
      expect(x.contiguous().toArray()).toEqual([0, 0, 0]);
    });
  });
});
