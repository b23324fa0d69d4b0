import { describe, expect, it } from 'vitest';
import {
  enableGrad,
  grad,
  noGrad,
  ones,
  randn,
  scope,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
  zeros,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';

const gradientOf = (x: Tensor): unknown => x.grad?.toArray() ?? null;

describe.each(devices)('autograd on $name', (device) => {
  const leaf = (values: number[]): Tensor => tensor(values, { device, requiresGrad: true });

  it('sums the gradients of every path to a leaf', () => {
    scope(() => {
      const x = leaf([1, 2]);
      const y = x.mul(3);
      y.mul(y)
        .add(y)
        .add(x)
        .backward(tensor([1, 10], { device }));
      expect(gradientOf(x)).toEqual([18 + 3 + 1, 10 * (36 + 3 + 1)]);
    });
  });

  it('accumulates over calls until zeroGrad', () => {
    scope(() => {
      const x = leaf([2]);
      x.mul(x).backward();
      x.mul(x).backward();
      expect(gradientOf(x)).toEqual([8]);
      x.zeroGrad();
      expect(x.grad).toBeNull();
      x.mul(5).backward();
      expect(gradientOf(x)).toEqual([5]);
    });
  });

  it('keeps a gradient in one buffer', () => {
    scope(() => {
      const x = leaf([2]);
      x.mul(x).backward();
      const first = x.grad;
      x.zeroGrad();
      x.mul(3).backward();
      expect(x.grad).toBe(first);
    });
  });

  it('accumulates matrix products straight into the buffer', () => {
    scope(() => {
      const w = tensor(
        [
          [1, 2],
          [3, 4],
        ],
        { device, requiresGrad: true },
      );
      const x = tensor(
        [
          [1, 0],
          [2, 1],
        ],
        { device },
      );
      const dout = tensor(
        [
          [1, 2],
          [3, 4],
        ],
        { device },
      );
      x.matmul(w).backward(dout);
      x.matmul(w).backward(dout);
      expect(gradientOf(w)).toEqual([
        [14, 20],
        [6, 8],
      ]);
    });
  });

  it('frees the graph, unless told to retain it', () => {
    scope(() => {
      const x = leaf([3]);
      const y = x.mul(x);
      y.backward(undefined, { retainGraph: true });
      y.backward();
      expect(gradientOf(x)).toEqual([12]);
      expect(() => y.backward()).toThrow(/^backward: the tensor has no graph/);
    });
  });

  it('needs one element or a gradient of the right form', () => {
    scope(() => {
      const x = leaf([1, 2]);
      expect(() => x.mul(2).backward()).toThrow(
        'backward: needs a tensor of one element or a gradient, got shape [2]',
      );
      expect(() => x.mul(2).backward(ones([3], { device }))).toThrow(
        'backward: the gradient must have the shape [2], got [3]',
      );
      expect(() => x.mul(2).backward(3 as never)).toThrow(
        /^backward: the gradient must be a tensor/,
      );
      expect(() => x.mul(2).backward(ones([2], { device, dtype: 'float64' }))).toThrow(
        /^backward: the gradient must be float32 on/,
      );
      expect(() => tensor([1], { device }).backward()).toThrow(
        /^backward: the tensor has no graph/,
      );
    });
  });

  it('stops at noGrad and detach', () => {
    scope(() => {
      const x = leaf([2]);
      const hidden = noGrad(() => x.mul(3));
      expect(hidden.requiresGrad).toBe(false);
      expect(noGrad(() => enableGrad(() => x.mul(3))).requiresGrad).toBe(true);
      x.detach().mul(x).backward();
      expect(gradientOf(x)).toEqual([2]);
    });
  });

  it('leaves frozen leaves alone', () => {
    scope(() => {
      const x = leaf([2]);
      const y = leaf([3]).requireGrad(false);
      x.mul(y).backward();
      expect(gradientOf(x)).toEqual([3]);
      expect(y.grad).toBeNull();
      expect(x.requiresGrad).toBe(true);
      expect(y.requiresGrad).toBe(false);
      expect(() => x.mul(2).requireGrad()).toThrow(/^requireGrad: only leaves/);
    });
  });

  it('returns gradients without accumulating them', () => {
    scope(() => {
      const x = leaf([2]);
      const y = leaf([3]);
      const z = leaf([4]);
      const gradients = grad(x.mul(y), [x, z, y]);
      expect(gradients.map((g) => g.toArray())).toEqual([[3], [0], [2]]);
      expect(x.grad).toBeNull();
      expect(() => grad(x.mul(y), [tensor([1], { device })])).toThrow(
        /^grad: inputs must require gradients/,
      );
    });
  });

  it('gives value and gradients of a model', () => {
    scope(() => {
      const w = leaf([2]);
      const frozen = leaf([5]).requireGrad(false);
      const model = {
        *namedParameters(): Generator<[string, Tensor]> {
          yield ['w', w];
          yield ['frozen', frozen];
        },
      };
      const step = valueAndGrad(model, (x: Tensor) => sum(w.mul(x).mul(frozen)));
      const { value, gradients } = step(tensor([3], { device }));
      expect(value.item()).toBe(30);
      expect([...gradients].map(([name, g]) => [name, g.toArray()])).toEqual([['w', [15]]]);
      expect(w.grad).toBeNull();
    });
  });

  it('calls hooks with gradients and takes what they return', () => {
    scope(() => {
      const x = leaf([2]);
      const y = x.mul(3);
      const seen: unknown[] = [];
      const remove = y.onGrad((g) => {
        seen.push(g.toArray());
        return g.mul(10);
      });
      x.onGrad((g) => {
        seen.push(g.toArray());
      });
      y.mul(2).backward();
      expect(seen).toEqual([[2], [60]]);
      expect(gradientOf(x)).toEqual([60]);
      remove();
      expect(() => x.onGrad(3 as never)).toThrow(/^onGrad: /);
    });
  });

  it('refuses what a hook returns where it is no gradient', () => {
    scope(() => {
      const x = leaf([2, 3]);
      x.onGrad(() => ones([3], { device }));
      expect(() => x.mul(2).backward(ones([2], { device }))).toThrow(/^onGrad: a hook must return/);
    });
  });

  it('retains gradients of computed tensors', () => {
    scope(() => {
      const x = leaf([2]);
      const y = x.mul(3).retainGrad();
      y.mul(y).backward();
      expect(gradientOf(y)).toEqual([12]);
      expect(gradientOf(x)).toEqual([36]);
    });
  });

  it('notices a change in place of what it saved', () => {
    scope(() => {
      const x = leaf([2]);
      const y = x.mul(1);
      const z = y.mul(y);
      y.copyFrom(zeros([1], { device }));
      expect(() => z.backward()).toThrow(
        'backward: a tensor that mul needs was changed in place after it was used',
      );
    });
  });

  it('sums over what broadcasting stretched', () => {
    scope(() => {
      const x = tensor([[1], [2]], { device, requiresGrad: true });
      const y = leaf([1, 2, 3]);
      const s = tensor(2, { device, requiresGrad: true });
      x.mul(y)
        .mul(s)
        .backward(
          tensor(
            [
              [1, 0, 1],
              [0, 1, 1],
            ],
            { device },
          ),
        );
      expect(gradientOf(x)).toEqual([[8], [10]]);
      expect(gradientOf(y)).toEqual([2, 4, 6]);
      expect(s.grad?.item()).toBe(4 + 10);
    });
  });

  it('casts gradients to the dtype of their leaf', () => {
    scope(() => {
      const x = tensor([1, 2], { device, dtype: 'bfloat16', requiresGrad: true });
      const y = tensor([3, 4], { device, requiresGrad: true });
      x.mul(y).backward(tensor([1, 2], { device }));
      expect(x.grad?.dtype).toBe('bfloat16');
      expect(gradientOf(x)).toEqual([3, 8]);
      expect(y.grad?.dtype).toBe('float32');
    });
  });

  it('gives integers no gradient', () => {
    scope(() => {
      const x = tensor([4], { device, dtype: 'int32' });
      expect(x.sqrt().requiresGrad).toBe(false);
      const y = leaf([2]);
      expect(y.to('int32').requiresGrad).toBe(false);
      expect(y.mul(x).requiresGrad).toBe(true);
    });
  });

  it('goes through long chains', () => {
    scope(() => {
      const x = leaf([1]);
      let y: Tensor = x;
      const length = device.type === 'emulated' ? 200 : 20_000;
      for (let i = 1; i < length; ++i) y = y.add(x);
      y.backward();
      expect(gradientOf(x)).toEqual([length]);
    });
  });

  it('works over views of one leaf', () => {
    scope(() => {
      const x = randn([3, 4], { device, requiresGrad: true });
      x.at(0).add(x.at(1, null)).mul(x.T.at(null, 2)).sum().backward();
      const values = x.toArray() as number[][];
      const [a, b, c] = values as [number[], number[], number[]];
      const expected = [c, c, a.map((v, j) => v + (b[j] as number))];
      const gradient = gradientOf(x) as number[][];
      gradient.forEach((row, i) => {
        row.forEach((v, j) => {
          expect(v).toBeCloseTo(expected[i]?.[j] as number, 5);
        });
      });
    });
  });
});
