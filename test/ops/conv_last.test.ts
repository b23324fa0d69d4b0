/** Images whose channels come last: chains of ops keep that order, and nothing is copied for it. */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { uniformOf } from '../support/vectors.js';

type Step = (x: ng.Tensor, w: ng.Tensor, w2: ng.Tensor, scale: ng.Tensor) => ng.Tensor;

/** Convolution, batch norm, elementwise ops, pooling and another convolution of [N,C,H,W]. */
const chain: Step = (x, w, w2, scale) => {
  const y = ng.conv2d(x, w, null, { padding: 1, relu: true });
  const normal = ng.batchNorm(y, { weight: scale, bias: scale, training: true });
  const pooled = ng.maxPool2d(ng.silu(normal).mul(2).add(normal), 2, { relu: true });
  return ng.conv2d(pooled, w2, null, { stride: 2, padding: 'sameUpper' });
};

describe.each(devices)('channels last on $name', (device) => {
  it('gives the results and gradients of channels first', () => {
    ng.scope(() => {
      const run = (last: boolean): ng.Tensor[] => {
        const values = [[2, 9, 7, 8], [16, 8, 3, 3], [5, 16, 2, 2], [16]].map((shape, i) =>
          uniformOf(i, shape).to('float32', device).detach().requireGrad(),
        ) as [ng.Tensor, ng.Tensor, ng.Tensor, ng.Tensor];
        const [x, w, w2, scale] = values;
        const image = x.permute([0, 3, 1, 2]);
        const y = chain(last ? image : image.contiguous(), w, w2, scale);
        y.backward(uniformOf(9, y.shape).to('float32', device));
        return [y.detach(), ...values.map((leaf) => leaf.grad as ng.Tensor)];
      };
      const expected = run(false);
      run(true).forEach((value, i) => {
        expectClose(valuesOf(value), valuesOf(expected[i] as ng.Tensor), 2e-5, `result ${i}`);
      });
    });
  });
});

describe('channels last in groups', () => {
  const geometries: [string, ng.Shape, ng.Shape, ng.Conv2dOptions][] = [
    ['of two channels', [2, 6, 5, 6], [12, 2, 3, 3], { stride: 2, padding: 1 }],
    ['of many channels', [1, 5, 4, 68], [70, 34, 3, 3], { padding: 1 }],
    ['of many vectors', [2, 9, 8, 70], [70, 1, 3, 3], { padding: 1 }],
    ['with strides', [1, 7, 9, 20], [20, 1, 3, 2], { stride: [2, 3], padding: [1, 0] }],
    ['with dilation', [1, 9, 11, 33], [33, 1, 5, 3], { dilation: [1, 2], padding: [3, 2] }],
    ['wider than the image', [3, 2, 2, 5], [5, 1, 3, 5], { padding: 2 }],
    ['of many rows', [2, 90, 40, 64], [64, 1, 3, 3], { padding: 'same' }],
  ];
  it.each(geometries)('%s gives what channels first does', (_, shape, kernel, options) => {
    for (const dtype of ['float64', 'float32', 'bfloat16', 'float16'] as const) {
      ng.scope(() => {
        const run = (last: boolean): ng.Tensor[] => {
          const [x, w] = [shape, kernel].map((sizes, i) =>
            uniformOf(i, sizes).to(dtype).detach().requireGrad(),
          ) as [ng.Tensor, ng.Tensor];
          const image = x.permute([0, 3, 1, 2]);
          const groups = (shape[3] as number) / (kernel[1] as number);
          const y = ng.conv2d(last ? image : image.contiguous(), w, null, { ...options, groups });
          const dy = y.permute([0, 2, 3, 1]);
          ng.mul(dy, uniformOf(9, dy.shape).to(dtype)).sum().backward();
          return [y.detach(), x.grad as ng.Tensor, w.grad as ng.Tensor];
        };
        const expected = run(false);
        const within = { float64: 1e-13, float32: 1e-5, bfloat16: 0.02, float16: 3e-3 }[dtype];
        run(true).forEach((value, i) => {
          const what = `${dtype} result ${i}`;
          expectClose(valuesOf(value), valuesOf(expected[i] as ng.Tensor), within, what);
        });
      });
    }
  });
});

describe('channels last in a captured step', () => {
  it('copies no images', async () => {
    const [w, w2, scale] = [[16, 8, 3, 3], [5, 16, 2, 2], [16]].map((shape) =>
      ng.rand(shape).detach().requireGrad(),
    ) as [ng.Tensor, ng.Tensor, ng.Tensor];
    const step = ng.capture((x: ng.Tensor) => {
      const loss = chain(x.permute([0, 3, 1, 2]), w, w2, scale)
        .square()
        .sum();
      loss.backward();
      return loss;
    });
    const x = ng.rand([2, 9, 7, 8]);
    for (let i = 0; i < 2; ++i) await step(x);
    const run = await ng.profile(async () => (await step(x)).item());
    step.dispose();
    const kernels = run.summary().filter((row) => row.kind === 'kernel');
    const calls = (name: string): number =>
      kernels.filter((row) => row.name === name).reduce((n, row) => n + row.calls, 0);
    expect(calls('max_pool')).toBeGreaterThan(0);
    // What a step takes and what it gives.
    expect(calls('copy')).toBeLessThanOrEqual(2 * calls('max_pool'));
  });
});
