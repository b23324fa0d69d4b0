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

/** The weight of one group that does what `w` does in `groups`: zeros between the groups. */
function acrossGroups(w: ng.Tensor, groups: number): ng.Tensor {
  const [outputs, inputs, kh, kw] = w.shape as [number, number, number, number];
  const each = outputs / groups;
  const rows = Array.from({ length: groups }, (_, g) => {
    const part = w.slice(0, g * each, (g + 1) * each);
    const before = ng.zeros([each, g * inputs, kh, kw], { dtype: w.dtype });
    const behind = ng.zeros([each, (groups - g - 1) * inputs, kh, kw], { dtype: w.dtype });
    return ng.cat([before, part, behind], 1);
  });
  return ng.cat(rows, 0);
}

describe('convolutions of few channels a group', () => {
  // Channels, outputs and groups; height, width; kernel; options.
  const cases: [number[], number[], number[], ng.Conv2dOptions][] = [
    [[6, 6, 6], [9, 70], [3, 3], { padding: 1 }],
    [[3, 6, 3], [150, 131], [5, 3], { padding: [2, 1] }],
    [[3, 3, 3], [40, 67], [3, 3], { stride: 2, padding: 1 }],
    [[2, 2, 2], [17, 33], [4, 2], { stride: [3, 2], padding: [1, 0], dilation: [2, 3] }],
    [[8, 4, 2], [7, 7], [3, 3], { padding: 'same' }],
    [[4, 8, 2], [12, 35], [1, 1], { stride: [1, 4] }],
    [[2, 4, 2], [300, 20], [7, 2], { dilation: [5, 1], padding: [9, 1], relu: true }],
    [[2, 2, 2], [6, 6], [2, 2], { dilation: 40000, padding: 20000 }],
  ];
  it.each(cases)('%j on %j with %j taps, %j', ([c, o, groups], image, kernel, options) => {
    ng.scope(() => {
      ng.manualSeed(5);
      const size = [o as number, (c as number) / (groups as number), ...kernel];
      const make = (shape: ng.Shape) => ng.randn(shape, { dtype: 'float64' }).detach();
      const [x, w, b] = [make([2, c as number, ...image]), make(size), make([o as number])];
      const run = (weight: (own: ng.Tensor) => ng.Tensor, n: number) => {
        const [image, own, bias] = [x, w, b].map((t) => t.detach().requireGrad());
        const y = ng.conv2d(image as ng.Tensor, weight(own as ng.Tensor), bias, {
          ...options,
          groups: n,
        });
        y.mul(y.detach().cos()).sum().backward();
        return [y, ...[image, own, bias].map((t) => t?.grad as ng.Tensor)];
      };
      const [got, wanted] = [
        run((own) => own, groups as number),
        run((own) => acrossGroups(own, groups as number), 1),
      ];
      got.forEach((t, i) => {
        const error = t
          .sub(wanted[i] as ng.Tensor)
          .abs()
          .max()
          .item();
        expect(error).toBeLessThan(1e-9);
      });
    });
  });

  it('keep an infinity from the taps that do not meet it', () => {
    ng.scope(() => {
      const ones = ng.ones([1, 2, 1, 20]);
      const edge = ng.full([1, 2, 1, 1], Number.POSITIVE_INFINITY);
      const w = ng.ones([2, 1, 1, 2]).detach().requireGrad();
      const y = ng.conv2d(ng.cat([ones, edge], 3), w, null, { groups: 2 });
      y.sum().backward();
      expect(w.grad?.flatten().toArray()).toEqual([20, Infinity, 20, Infinity]);
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
        return [1, 7].flatMap((groups) => {
          const x = ng.randn([5, 7, 40, 37]).detach().requireGrad();
          const w = ng
            .randn([21, 7 / groups, 3, 3])
            .detach()
            .requireGrad();
          const y = ng.conv2d(x, w, null, { padding: 1, groups });
          y.square().sum().backward();
          return [y.detach(), x.grad as ng.Tensor, w.grad as ng.Tensor].map((t) =>
            Buffer.from(t.data().buffer).toString('base64'),
          );
        });
      });
    });
    ng.setNumThreads(before);
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });
});
