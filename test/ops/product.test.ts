/** Products composed of others: values by plain loops, gradients of einsum by central differences. */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { build, matmul, nd } from '../support/nd.js';
import { uniformOf } from '../support/vectors.js';

type Fn = (...x: ng.Tensor[]) => ng.Tensor;

/** Σ dout·fn moved along each coordinate, against backward(). */
function checkGradients(fn: Fn, shapes: readonly ng.Shape[]): void {
  const leaves = shapes.map((shape, i) => uniformOf(i + 1, shape).requireGrad());
  const y = fn(...leaves);
  const dout = uniformOf(99, y.shape);
  y.backward(dout);
  const h = 1e-6;
  leaves.forEach((leaf, k) => {
    const values = valuesOf(leaf.detach());
    const numeric = values.data.map((_, j) => {
      const at = (by: number): number => {
        const moved = leaves.map((other, i) => {
          const data = Float64Array.from(valuesOf(other.detach()).data);
          if (i === k) data[j] = (data[j] as number) + by;
          return ng.tensor(data, other.shape, { dtype: 'float64', device: 'cpu' });
        });
        return Number(ng.sum(ng.mul(fn(...moved), dout)).item());
      };
      return (at(h) - at(-h)) / (2 * h);
    });
    expectClose(valuesOf(leaf.grad as ng.Tensor), nd(values.shape, numeric), 1e-7, `gradient ${k}`);
  });
}

/** Any einsum by one loop over all its labels; the ellipsis written out as labels. */
function loops(equation: string, inputs: ng.Tensor[]) {
  const [left, right] = equation.split('->') as [string, string];
  const terms = left.split(',');
  const labels = [...new Set(terms.join(''))];
  const sizes = labels.map((label) =>
    Math.max(
      ...terms.flatMap((t, k) =>
        [...t].flatMap((l, i) => (l === label ? [inputs[k]?.shape[i] as number] : [])),
      ),
    ),
  );
  const arrays = inputs.map((x) => valuesOf(x));
  const totals = new Map<string, number>();
  build(sizes, (index) => {
    let value = 1;
    terms.forEach((term, k) => {
      const { shape, data } = arrays[k] as (typeof arrays)[number];
      let offset = 0;
      [...term].forEach((label, axis) => {
        const size = shape[axis] as number;
        offset = offset * size + (size === 1 ? 0 : (index[labels.indexOf(label)] as number));
      });
      value *= data[offset] as number;
    });
    const key = [...right].map((label) => index[labels.indexOf(label)]).join();
    totals.set(key, (totals.get(key) ?? 0) + value);
    return 0;
  });
  return build(
    [...right].map((label) => sizes[labels.indexOf(label)] as number),
    (index) => totals.get(index.join()) ?? 0,
  );
}

// The equation, what loops() reads, and the shapes.
const equations: [string, string, ng.Shape[]][] = [
  [
    'ij,jk->ik',
    'ij,jk->ik',
    [
      [2, 3],
      [3, 4],
    ],
  ],
  [
    'ij,jk',
    'ij,jk->ik',
    [
      [2, 3],
      [3, 4],
    ],
  ],
  ['ij->ji', 'ij->ji', [[2, 3]]],
  ['ba', 'ba->ab', [[2, 3]]],
  ['ii->i', 'ii->i', [[3, 3]]],
  ['ii', 'ii->', [[3, 3]]],
  ['iji->j', 'iji->j', [[3, 2, 3]]],
  ['ij->', 'ij->', [[2, 3]]],
  ['i,j->ij', 'i,j->ij', [[2], [3]]],
  [
    'bij, bjk -> bik',
    'bij,bjk->bik',
    [
      [2, 2, 3],
      [2, 3, 2],
    ],
  ],
  [
    'bij,bjk->ikb',
    'bij,bjk->ikb',
    [
      [2, 2, 3],
      [2, 3, 2],
    ],
  ],
  [
    '...ij,...jk->...ik',
    'abij,bjk->abik',
    [
      [2, 3, 2, 3],
      [3, 3, 2],
    ],
  ],
  [
    '...ij,jk',
    'abij,jk->abik',
    [
      [2, 1, 2, 3],
      [3, 2],
    ],
  ],
  ['i...->...', 'iab->ab', [[2, 3, 2]]],
  ['ij,kj,k->i', 'ij,kj,k->i', [[2, 3], [4, 3], [4]]],
  [
    'ijk,ilm,njm,nlk,abc->',
    'ijk,ilm,njm,nlk,abc->',
    [
      [2, 2, 2],
      [2, 2, 2],
      [2, 2, 2],
      [2, 2, 2],
      [1, 2, 1],
    ],
  ],
  [
    'ij,ij->ij',
    'ij,ij->ij',
    [
      [2, 3],
      [2, 3],
    ],
  ],
  [
    'ij,ij->i',
    'ij,ij->i',
    [
      [2, 1],
      [2, 3],
    ],
  ],
  ['ij,j->i', 'ij,j->i', [[2, 3], [1]]],
  [
    'bhqd,bhkd->bhqk',
    'bhqd,bhkd->bhqk',
    [
      [2, 2, 3, 2],
      [2, 2, 4, 2],
    ],
  ],
];

describe('products', () => {
  it.each(equations)('einsum %s has the gradient of its formula', (equation, _, shapes) => {
    ng.scope(() => checkGradients((...x) => ng.einsum(equation, ...x), shapes));
  });

  for (const device of devices) {
    it.each(equations)(
      `einsum %s agrees with loops on ${device.name}`,
      (equation, plain, shapes) => {
        ng.scope(() => {
          const inputs = shapes.map((shape, i) => uniformOf(i + 1, shape));
          const expected = loops(plain, inputs);
          for (const dtype of ['float64', 'float32'] as const) {
            const y = ng.einsum(equation, ...inputs.map((x) => x.to(dtype, device)));
            expect(y.dtype).toBe(dtype);
            expectClose(valuesOf(y), expected, dtype === 'float64' ? 1e-12 : 1e-5, equation);
          }
        });
      },
    );

    it(`have the values of their formulas on ${device.name}`, () => {
      ng.scope(() => {
        const x = (seed: number, ...shape: number[]): ng.Tensor =>
          uniformOf(seed, shape).to(device);
        const [a, b, u, v] = [x(1, 3, 4), x(2, 4, 5), x(3, 4), x(4, 4)];
        const product = matmul(valuesOf(a), valuesOf(b));
        expectClose(
          valuesOf(ng.addmm(u.slice(0, 0, 1), a, b, { beta: 2, alpha: -1 })),
          build(
            [3, 5],
            ([i, j]) =>
              2 * (valuesOf(u).data[0] as number) -
              (product.data[(i as number) * 5 + (j as number)] as number),
          ),
          1e-12,
          'addmm',
        );
        const none = ng.full([1], Number.NaN, { dtype: 'float64', device });
        expectClose(valuesOf(ng.addmm(none, a, b, { beta: 0 })), product, 1e-12, 'beta of 0');
        expectClose(valuesOf(ng.mv(a, u)), matmul(valuesOf(a), valuesOf(u)), 1e-12, 'mv');
        expectClose(valuesOf(ng.dot(u, v)), matmul(valuesOf(u), valuesOf(v)), 1e-12, 'dot');
        expectClose(valuesOf(ng.tensordot(a, b, 1)), product, 1e-12, 'tensordot');
        expectClose(valuesOf(ng.tensordot(u, v, 0)), valuesOf(ng.outer(u, v)), 1e-12, 'outer');
        expect(
          ng
            .tensor(
              [
                [1, 2],
                [3, 4],
              ],
              { device },
            )
            .kron(ng.tensor([[0, 1]], { device }))
            .toArray(),
        ).toEqual([
          [0, 1, 0, 2],
          [0, 3, 0, 4],
        ]);
        expect(
          ng
            .tensor(
              [
                [1, 2, 3],
                [4, 5, 6],
              ],
              { device },
            )
            .trace()
            .item(),
        ).toBe(6);
        expect(ng.trace(ng.zeros([0, 3], { device })).item()).toBe(0);
        expect(
          ng
            .einsum('ij,jk->ik', ng.ones([2, 0], { device }), ng.ones([0, 3], { device }))
            .toArray(),
        ).toEqual([
          [0, 0, 0],
          [0, 0, 0],
        ]);
      });
    });
  }

  it('have a dtype that the equation decides, whatever the sizes', () => {
    ng.scope(() => {
      const ofInts = (shape: number[]) => ng.full(shape, 3, { dtype: 'int32' });
      for (const size of [1, 4]) {
        const product = ng.einsum('ij,jk->ik', ofInts([2, size]), ofInts([4, 3]));
        expect([product.dtype, product.at(0, 0).item()]).toEqual(['int32', 36]);
        const apart = ng.einsum('ij,k->ik', ofInts([2, size]), ofInts([3]));
        expect([apart.dtype, apart.at(0, 0).item()]).toEqual(['int64', 9 * size]);
      }
    });
  });

  it('sum integers in int64 before they meet others', () => {
    ng.scope(() => {
      const x = ng.tensor(
        [
          [1, 2 ** 30, 2 ** 30],
          [3, 4, 5],
        ],
        { dtype: 'int32' },
      );
      const y = ng.einsum('ij,ik->ik', x, x.slice(1, 0, 2));
      const long = 2n ** 31n + 1n;
      expect(y.dtype).toBe('int64');
      expect([...y.data()]).toEqual([long, long * 2n ** 30n, 36n, 48n]);
    });
  });

  it('refuse what does not fit', () => {
    ng.scope(() => {
      const [a, b] = [ng.zeros([2, 3]), ng.zeros([4])];
      expect(() => ng.einsum('ij,j->i', a, b)).toThrow(
        'einsum: sizes of label j must match, got [2,3] and [4]',
      );
      expect(() => ng.einsum('ij->k', a)).toThrow(
        'einsum: output label k is in no term, got "ij->k"',
      );
      expect(() => ng.einsum('ij->ii', a)).toThrow('einsum: output label i repeats, got "ij->ii"');
      expect(() => ng.einsum('ijk', a)).toThrow(
        'einsum: term ijk does not fit the shape [2,3], got "ijk"',
      );
      expect(() => ng.einsum('ii', a)).toThrow('einsum: sizes of label i must match, got [2,3]');
      expect(() => ng.einsum('i-j', a)).toThrow(
        'einsum: the equation must have the form "ij,jk->ik", got "i-j"',
      );
      expect(() => ng.einsum('ij,j', a)).toThrow(
        'einsum: needs one term for each of 1 tensors, got "ij,j"',
      );
      expect(() => ng.tensordot(a, b, 1)).toThrow(
        'tensordot: sizes of paired axes must match, got [2,3] and [4]',
      );
      expect(() => ng.tensordot(a, b, [[0, 1], [0]])).toThrow(
        'tensordot: axes must be a count or two lists of one length, got [[0,1],[0]]',
      );
      expect(() => ng.dot(a, b)).toThrow('dot: needs a vector and a vector, got [2,3] and [4]');
      expect(() => ng.bmm(ng.zeros([2, 3, 4]), ng.zeros([3, 4, 5]))).toThrow(
        'bmm: batch sizes must match, got [2,3,4] and [3,4,5]',
      );
      expect(() => ng.trace(b)).toThrow('trace: needs a matrix, got [4]');
      const whole = ng.ones([2, 2], { dtype: 'int32' });
      expect(() => ng.addmm(whole, whole, whole, { alpha: 0.5 })).toThrow(
        'addmm: alpha must be an integer, got 0.5',
      );
    });
  });
});
