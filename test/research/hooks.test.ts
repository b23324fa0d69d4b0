import { describe, expect, it } from 'vitest';
import { capture, manualSeed, nn, ones, scope, type Tensor, tensor } from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { devices } from '../support/devices.js';

describe.each(devices)('hooks on $name', (device) => {
  const leaf = (values: number[]): Tensor => tensor(values, { device, requiresGrad: true });

  it('of tensors see and replace gradients until they are removed', () => {
    scope(() => {
      const x = leaf([1, 2]);
      const seen: unknown[] = [];
      const watch = x.registerHook((g) => {
        seen.push(g.toArray());
      });
      const double = x.registerHook((g) => g.mul(2));
      const y = x.mul(3);
      y.registerHook((g) => g.add(1));
      y.sum().backward();
      expect(seen).toEqual([[6, 6]]);
      expect(x.grad?.toArray()).toEqual([12, 12]);
      watch.remove();
      double.remove();
      double.remove();
      x.zeroGrad();
      x.mul(3).sum().backward();
      expect(seen).toHaveLength(1);
      expect(x.grad?.toArray()).toEqual([3, 3]);
      expect(() => x.registerHook(3 as never)).toThrow(
        'registerHook: the hook must be a function, got 3',
      );
      x.registerHook(() => ones([3], { device }));
      expect(() => x.mul(3).sum().backward()).toThrow(
        'onGrad: a hook must return a tensor of the shape [2] or nothing, got a tensor float32[3]',
      );
    });
  });

  it('of modules see and replace arguments and results', () => {
    scope(() => {
      const model = new nn.Sequential(new nn.Identity(), new nn.ReLU());
      const [first, second] = model.layers as [nn.Layer, nn.Layer];
      const order: string[] = [];
      const handles = [
        first.registerForwardPreHook((_m, args) => {
          order.push('before');
          return (args[0] as Tensor).mul(2);
        }),
        first.registerForwardHook((module, args, out) => {
          order.push('after');
          expect(module).toBe(first);
          expect((args[0] as Tensor).toArray()).toEqual([2, -4]);
          return (out as Tensor).add(1);
        }),
        second.registerForwardHook(() => {
          order.push('relu');
        }),
      ];
      const x = tensor([1, -2], { device });
      expect(model.forward(x).toArray()).toEqual([3, 0]);
      expect(order).toEqual(['before', 'after', 'relu']);
      for (const handle of handles) handle.remove();
      expect(model.forward(x).toArray()).toEqual([1, 0]);
      expect(Object.hasOwn(first, 'forward')).toBe(false);
    });
  });

  it('of modules are called where layers would be fused', () => {
    scope(() => {
      const model = new nn.Sequential(new nn.Linear(2, 2, { device }), new nn.ReLU());
      let called = 0;
      const handle = (model.layers[1] as nn.Layer).registerForwardHook(() => {
        ++called;
      });
      const x = tensor([[1, -2]], { device });
      const hooked = model.forward(x).toArray();
      handle.remove();
      expect(model.forward(x).toArray()).toEqual(hooked);
      expect(called).toBe(1);
    });
  });

  it('of modules see and replace gradients', () => {
    scope(() => {
      const layer = new nn.Linear(2, 1, { device, bias: false });
      layer.weight.copyFrom(tensor([[2, 3]], { device }));
      const seen: unknown[] = [];
      const handle = layer.registerFullBackwardHook((_m, gradInput, gradOutput) => {
        seen.push([gradInput[0]?.toArray() ?? null, gradOutput[0]?.toArray()]);
        return gradInput[0] ? [gradInput[0].mul(10)] : undefined;
      });
      const x = tensor([[1, 1]], { device, requiresGrad: true });
      layer.forward(x).mul(5).sum().backward();
      expect(seen).toEqual([[[[10, 15]], [[5]]]]);
      expect(x.grad?.toArray()).toEqual([[100, 150]]);
      expect(layer.weight.grad?.toArray()).toEqual([[5, 5]]);
      layer.forward(x.detach()).sum().backward();
      expect(seen[1]).toEqual([null, [[1]]]);
      handle.remove();
      layer.forward(x).sum().backward();
      expect(seen).toHaveLength(2);
    });
  });

  it('added after a step was recorded take effect', async () => {
    const layer = new nn.Linear(2, 1, { device });
    const x = tensor([[1, 1]], { device });
    const step = capture((input: Tensor) => layer.forward(input));
    const plain = [await step(x), await step(x), await step(x)].map((y) => y.item());
    const handle = layer.registerForwardHook((_m, _args, out) => (out as Tensor).add(100));
    for (let i = 0; i < 3; ++i) {
      expect(Number((await step(x)).item())).toBeCloseTo(Number(plain[0]) + 100, 3);
    }
    handle.remove();
    for (let i = 0; i < 3; ++i) expect((await step(x)).item()).toBe(plain[0]);
    const w = tensor([1], { device, requiresGrad: true });
    const train = capture(() => {
      w.zeroGrad();
      w.mul(2).backward();
    });
    for (let i = 0; i < 3; ++i) await train();
    const double = w.registerHook((g) => g.mul(2));
    for (let i = 0; i < 3; ++i) await train();
    expect(w.grad?.item()).toBe(4);
    double.remove();
    for (let i = 0; i < 3; ++i) await train();
    expect(w.grad?.item()).toBe(2);
    step.dispose();
    train.dispose();
  });
});

describe('frozen parameters', () => {
  it('cost no work in backward', () => {
    manualSeed(1);
    const model = new nn.Sequential(new nn.Linear(4, 5), new nn.Tanh(), new nn.Linear(5, 2));
    const [first, , last] = model.layers as [nn.Layer, nn.Layer, nn.Layer];
    const names = ['matmul', 'linearGradientsInto', 'tanhBackward', 'sumInto'] as const;
    const counts: Record<string, number> = {};
    const originals = names.map((name) => native[name]);
    const x = ones([3, 4]);
    const backward = (): Record<string, number> => {
      const loss = model.forward(x).mean();
      for (const name of names) counts[name] = 0;
      names.forEach((name, i) => {
        (native as unknown as Record<string, unknown>)[name] = (...args: never[]) => {
          counts[name] = (counts[name] as number) + 1;
          return (originals[i] as (...a: never[]) => unknown)(...args);
        };
      });
      try {
        loss.backward();
      } finally {
        names.forEach((name, i) => {
          (native as unknown as Record<string, unknown>)[name] = originals[i];
        });
      }
      return { ...counts };
    };
    scope(() => {
      backward(); // makes the buffers
      expect(backward()).toEqual({
        matmul: 1,
        linearGradientsInto: 2,
        tanhBackward: 1,
        sumInto: 0,
      });
      first.requireGrad(false);
      expect(backward()).toMatchObject({ matmul: 0, linearGradientsInto: 1, tanhBackward: 0 });
      first.requireGrad(true);
      last.requireGrad(false);
      expect(backward()).toMatchObject({ matmul: 1, linearGradientsInto: 1, tanhBackward: 1 });
      model.requireGrad(false);
      expect(model.forward(x).requiresGrad).toBe(false);
    });
  });
});
