import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { uniformOf } from '../support/vectors.js';
import { indexCases, sortRows } from './rows/sort.js';

testOps(sortRows);

describe.each(devices)('sorting on $name', (device) => {
  it.each(indexCases)(
    'keeps the order of equal elements: $name',
    ({ shape, indices, reference }) => {
      for (const n of [1, 7, 40, 700, 2100]) {
        ng.scope(() => {
          const x = uniformOf(1, shape(n), -3, 3).round();
          for (const dtype of ['float32', 'float64', 'bfloat16', 'int32', 'int64'] as const) {
            const found = indices(x.to(dtype, device));
            expect(found.dtype).toBe('int64');
            expectClose(valuesOf(found), reference(valuesOf(x)), 0, `${dtype} at size ${n}`);
          }
        });
      }
    },
  );

  it('counts NaN as larger than every number', () => {
    ng.scope(() => {
      const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
      const values = [1, nan, -infinity, 0, infinity, -0, nan, -1];
      for (const dtype of ['float32', 'float64', 'float16'] as const) {
        const x = ng.tensor(values, { dtype, device });
        expect(x.argsort().toArray()).toEqual([2, 7, 3, 5, 0, 4, 1, 6]);
        expect(x.argsort(0, { descending: true }).toArray()).toEqual([1, 6, 4, 0, 3, 5, 7, 2]);
        expect(x.topk(3)[1].toArray()).toEqual([1, 6, 4]);
        expect(x.sort()[0].toArray()).toEqual([-infinity, -1, 0, -0, 1, infinity, nan, nan]);
      }
    });
  });

  it('takes medians, the lower of two', () => {
    ng.scope(() => {
      const x = ng.tensor(
        [
          [4, 1, 3, 2],
          [7, Number.NaN, 5, 6],
        ],
        { device },
      );
      expect(x.median(1).toArray()).toEqual([2, Number.NaN]);
      expect(x.select(0, 0).median().item()).toBe(2);
      expect(x.median(0, true).shape).toEqual([1, 4]);
      expect(x.median(undefined, true).shape).toEqual([1, 1]);
      expect(ng.tensor([3, 9, 5], { device, dtype: 'int32' }).median().item()).toBe(5);
      const leaf = ng.tensor([3, 9, 5], { device }).requireGrad();
      leaf.median().backward();
      expect(leaf.grad?.toArray()).toEqual([0, 0, 1]);
      expect(() => ng.median(ng.zeros([0], { device }))).toThrow(
        'median: needs at least one element, got shape [0]',
      );
    });
  });
});
