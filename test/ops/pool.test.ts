import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { testTorch } from '../support/torch.js';
import { avgPoolRows, maxPoolRows } from './rows/pool.js';

testOps(maxPoolRows);
testOps(avgPoolRows);
testTorch('pool');

describe.each(devices)('pooling on $name', (device) => {
  it('gives the gradient to the first of equal elements', () => {
    ng.scope(() => {
      const x = ng.ones([1, 1, 2, 4], { device }).requireGrad();
      ng.maxPool2d(x, 2).sum().backward();
      expect([...(x.grad as ng.Tensor).data()]).toEqual([1, 0, 1, 0, 0, 0, 0, 0]);
      const low = ng.full([1, 1, 2, 2], Number.NEGATIVE_INFINITY, { device }).requireGrad();
      ng.maxPool2d(low, 2).sum().backward();
      expect([...(low.grad as ng.Tensor).data()]).toEqual([1, 0, 0, 0]);
    });
  });

  it('lets NaN win', () => {
    ng.scope(() => {
      const x = ng.tensor([[Number.NaN, 1, 2, 3]], { device }).requireGrad();
      const y = ng.maxPool1d(x, 2);
      expect([...y.detach().data()]).toEqual([Number.NaN, 3]);
      y.backward(ng.ones([1, 2], { device }));
      expect([...(x.grad as ng.Tensor).data()]).toEqual([1, 0, 0, 1]);
    });
  });

  it('takes images without a batch axis', () => {
    ng.scope(() => {
      const x = ng.arange(0, 16, 1, { device, dtype: 'float32' }).reshape([1, 4, 4]);
      expect(ng.maxPool2d(x, 2).toArray()).toEqual([
        [
          [5, 7],
          [13, 15],
        ],
      ]);
      expect(ng.adaptiveAvgPool2d(x, 1).toArray()).toEqual([[[7.5]]]);
      expect(ng.avgPool1d(x.reshape([1, 16]), 8).toArray()).toEqual([[3.5, 11.5]]);
    });
  });
});
