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

  // Whole numbers, whose sums are exact in any order: every position must count once.
  it.each([
    [1, 1, 3],
    [31, 2, 8],
    [1000, 1, 8],
    [1000, 30_000, 1],
    [20_000, 1, 1],
    [20_000, 2, 8],
    [20_000, 30_000, 2],
  ])('sums the gradients of %i lookups in %i rows of %i', (count, rows, columns) => {
    scope(() => {
      const random = new Random('lookups');
      const indices = Array.from({ length: count }, () => random.integer(-1, rows));
      const dy = Array.from({ length: count * columns }, () => random.integer(-9, 9));
      const expected = new Float32Array(rows * columns);
      for (const [i, row] of indices.entries()) {
        if (row < 0 || row >= rows) continue;
        for (let c = 0; c < columns; ++c) {
          const at = row * columns + c;
          expected[at] = (expected[at] as number) + (dy[i * columns + c] as number);
        }
      }
      const weight = zeros([rows, columns], { device }).requireGrad();
      const index = tensor(indices, [count], { device, dtype: 'int64' });
      embedding(weight, index).backward(tensor(dy, [count, columns], { device }));
      const found = weight.grad?.data() as Float32Array;
      expect(expected.findIndex((sum, at) => sum !== found[at])).toBe(-1);
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
