import { describe, expect, it } from 'vitest';
import { embedding, grad, ones, scope, sum, tensor, zeros } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { Random } from '../support/random.js';
import { embeddingRows } from './rows/embedding.js';

testOps(embeddingRows);

describe.each(devices)('embedding on $name', (device) => {
  it('gives NaN for an index out of range, and no gradient', () => {
    scope(() => {
      const weight = ones([3, 2], { device }).requireGrad();
      const y = embedding(weight, tensor([3n, 1n, -1n], { device }));
      expect(y.toArray()).toEqual([
        [Number.NaN, Number.NaN],
        [1, 1],
        [Number.NaN, Number.NaN],
      ]);
      y.backward(ones([3, 2], { device }));
      expect(weight.grad?.toArray()).toEqual([
        [0, 0],
        [1, 1],
        [0, 0],
      ]);
    });
  });

  it.each([1, -2])('gives the padding row %i no gradient', (paddingIdx) => {
    scope(() => {
      const weight = ones([3, 2], { device }).requireGrad();
      const index = tensor([1n, 0n, 1n, 0n], { device });
      embedding(weight, index, { paddingIdx }).backward(ones([4, 2], { device }));
      expect(weight.grad?.toArray()).toEqual([
        [2, 2],
        [0, 0],
        [0, 0],
      ]);
    });
  });

  it.each(['float32', 'bfloat16'] as const)('adds to a gradient that is there, in %s', (dtype) => {
    scope(() => {
      const random = new Random('embedding');
      const weight = zeros([40, 3], { device, dtype }).requireGrad();
      const reference = new Float64Array(120);
      for (let pass = 0; pass < 5; ++pass) {
        // The fourth pass begins afresh.
        if (pass === 3) {
          weight.zeroGrad();
          reference.fill(0);
        }
        const indices = Array.from({ length: 300 }, () => BigInt(random.integer(0, 25)));
        const y = embedding(weight, tensor(indices, [100, 3], { device, dtype: 'int64' }));
        y.backward(ones([100, 3, 3], { device, dtype }));
        for (const i of indices)
          for (let j = 0; j < 3; ++j)
            reference.set([(reference[Number(i) * 3 + j] as number) + 1], Number(i) * 3 + j);
        expect(Array.from(weight.grad?.data() as Float32Array)).toEqual([...reference]);
      }
    });
  });

  it('serves grad() as it does backward()', () => {
    scope(() => {
      const weight = ones([4, 2], { device }).requireGrad();
      const index = tensor([1n, 3n], { device });
      const [direct] = grad(sum(embedding(weight, index)), [weight]);
      expect(direct?.toArray()).toEqual([
        [0, 0],
        [1, 1],
        [0, 0],
        [1, 1],
      ]);
      expect(weight.grad).toBeNull();
    });
  });
});
