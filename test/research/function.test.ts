import { describe, expect, it } from 'vitest';
import {
  capture,
  customFunction,
  type FunctionContext,
  grad,
  mul,
  noGrad,
  scope,
  type Tensor,
  tensor,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';

const cube = customFunction({
  name: 'cube',
  forward(ctx: FunctionContext<{ factor: number }>, x: Tensor, factor: number) {
    ctx.save(x);
    ctx.attributes.factor = factor;
    return x.mul(x).mul(x).mul(factor);
  },
  backward(ctx, dout) {
    const [x] = ctx.saved as [Tensor];
    return [dout.mul(x.square()).mul(3 * ctx.attributes.factor), null];
  },
});

const sumAndProduct = customFunction({
  forward(ctx, a: Tensor, b: Tensor): [Tensor, Tensor] {
    ctx.save(a, b);
    return [a.add(b), a.mul(b)];
  },
  backward(ctx, dsum, dproduct) {
    const [a, b] = ctx.saved as [Tensor, Tensor];
    return [
      ctx.needsInputGrad[0] ? (dsum as Tensor).add(mul(dproduct as Tensor, b)) : null,
      ctx.needsInputGrad[1] ? (dsum as Tensor).add(mul(dproduct as Tensor, a)) : null,
    ];
  },
});

/** Central differences of a scalar function, in float64. */
function numeric(fn: (x: Tensor) => Tensor, values: number[]): number[] {
  const h = 1e-6;
  return values.map((_, i) => {
    const at = (d: number): number =>
      scope(() =>
        Number(fn(tensor(Float64Array.from(values, (v, j) => v + (i === j ? d : 0)))).item()),
      );
    return (at(h) - at(-h)) / (2 * h);
  });
}

describe.each(devices)('custom functions on $name', (device) => {
  const leaf = (values: number[]): Tensor => tensor(values, { device, requiresGrad: true });

  it('use their own gradient, with attributes and arguments that are no tensors', () => {
    scope(() => {
      const x = leaf([1, 2, -3]);
      const y = cube(x, 2);
      expect(y.toArray()).toEqual([2, 16, -54]);
      y.sum().backward();
      expect(x.grad?.toArray()).toEqual([6, 24, 54]);
      expect(noGrad(() => cube(x, 2)).requiresGrad).toBe(false);
      expect(cube(x.detach(), 2).requiresGrad).toBe(false);
    });
  });

  it('may have several outputs, of which some are not used', () => {
    scope(() => {
      const [a, b] = [leaf([2, 3]), leaf([5, 7])];
      const [s, p] = sumAndProduct(a, b);
      p.add(s.mul(10)).sum().backward();
      expect(a.grad?.toArray()).toEqual([15, 17]);
      expect(b.grad?.toArray()).toEqual([12, 13]);
      a.zeroGrad();
      const [only] = sumAndProduct(a, b.detach());
      only.sum().backward();
      expect(a.grad?.toArray()).toEqual([1, 1]);
    });
  });

  it('keep what they saved when its scope has ended', () => {
    const x = leaf([3]);
    const y = scope(() => cube(x.mul(1), 1));
    y.backward();
    expect(x.grad?.toArray()).toEqual([27]);
  });

  it('can hand an argument through', () => {
    scope(() => {
      const reverse = customFunction({
        forward: (_ctx, x: Tensor) => x,
        backward: (_ctx, dout) => (dout as Tensor).neg(),
      });
      const x = leaf([1, 2]);
      reverse(x).mul(3).sum().backward();
      expect(x.grad?.toArray()).toEqual([-3, -3]);
    });
  });

  it('say what is wrong with a gradient', () => {
    scope(() => {
      const x = tensor([[1, 2, 3]], { device, requiresGrad: true });
      const wrong = (backward: () => unknown) => () =>
        customFunction({
          name: 'wrong',
          forward: (_ctx, a: Tensor, _k: number) => a.mul(1),
          backward: backward as never,
        })(x, 1)
          .sum()
          .backward();
      expect(wrong(() => [x.sum(), null])).toThrow(
        `wrong: the gradient of argument 0 must be a floating tensor of the shape [1,3] on ${device}, got a tensor float32[]`,
      );
      expect(wrong(() => x)).toThrow(
        'wrong: backward must return a gradient per argument, 2 in all, got 1',
      );
      expect(wrong(() => [x, x])).toThrow(
        'wrong: argument 1 is no tensor, so its gradient must be null, got a tensor float32[1,3]',
      );
      expect(() => customFunction({ forward: () => 3, backward: () => null } as never)()).toThrow(
        'customFunction: forward must return tensors, got 3',
      );
    });
  });

  it('work in captured steps', async () => {
    const x = leaf([1, 2]);
    const step = capture((scale: Tensor) => {
      x.zeroGrad();
      const [s, p] = sumAndProduct(cube(x, 1), scale);
      s.add(p).sum().backward();
    });
    for (const k of [1, 2, 3, 4]) {
      await step(tensor([k, k], { device }));
      const expected = [1, 2].map((v) => 3 * v * v * (1 + k));
      expect(x.grad?.toArray(), `call ${k}`).toEqual(expected);
    }
    expect(step.recordings).toBe(1);
    step.dispose();
  });
});

describe('custom functions', () => {
  it('pass a gradient check', () => {
    const values = [0.3, -1.2, 2.1];
    const fn = (x: Tensor): Tensor => {
      const [s, p] = sumAndProduct(cube(x, 0.7), x);
      return s.mul(p).sum();
    };
    scope(() => {
      const x = tensor(Float64Array.from(values), { requiresGrad: true });
      fn(x).backward();
      const expected = numeric(fn, values);
      [...(x.grad as Tensor).data()].forEach((v, i) => {
        expect(Number(v)).toBeCloseTo(expected[i] as number, 5);
      });
    });
  });

  it('can be differentiated twice where backward is made of ops', () => {
    scope(() => {
      const x = tensor([2], { requiresGrad: true });
      const [dx] = grad(cube(x, 1), [x], undefined, { createGraph: true }) as [Tensor];
      expect(dx.item()).toBe(12);
      expect((grad(dx, [x])[0] as Tensor).item()).toBe(12);
    });
  });
});
