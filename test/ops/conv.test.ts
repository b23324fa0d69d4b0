import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { testTorch } from '../support/torch.js';
import { convRows, convTransposeRows } from './rows/conv.js';

testOps(convRows);
testOps(convTransposeRows);
testTorch('conv');

describe.each(devices)('convolutions on $name', (device) => {
  it('take an image without a batch axis', () => {
    ng.scope(() => {
      const x = ng.arange(0, 16, 1, { device, dtype: 'float32' }).reshape([1, 4, 4]);
      const w = ng.ones([1, 1, 3, 3], { device });
      expect(ng.conv2d(x, w).toArray()).toEqual([
        [
          [45, 54],
          [81, 90],
        ],
      ]);
      expect(ng.conv1d(x.reshape([1, 16]), ng.ones([1, 1, 15], { device })).toArray()).toEqual([
        [105, 120],
      ]);
    });
  });

  it('let NaN through ReLU', () => {
    ng.scope(() => {
      const x = ng.tensor([Number.NaN, -1, 2], { device }).reshape([1, 1, 1, 3]);
      const y = ng.conv2d(x, ng.ones([1, 1, 1, 1], { device }), null, { relu: true });
      expect([...y.data()]).toEqual([Number.NaN, 0, 2]);
    });
  });
});

describe('convolutions of several threads', () => {
  it('have the same bits as of one', () => {
    const before = ng.getNumThreads();
    const results = [1, 2, 3].map((threads) => {
      ng.setNumThreads(threads);
      return ng.scope(() => {
        ng.manualSeed(3);
        const x = ng.randn([5, 7, 40, 37]).detach().requireGrad();
        const w = ng.randn([19, 7, 3, 3]).detach().requireGrad();
        const y = ng.conv2d(x, w, null, { padding: 1 });
        y.square().sum().backward();
        return [y.detach(), x.grad as ng.Tensor, w.grad as ng.Tensor].map((t) =>
          Buffer.from(t.data().buffer).toString('base64'),
        );
      });
    });
    ng.setNumThreads(before);
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });
});
