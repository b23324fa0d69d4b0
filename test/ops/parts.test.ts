/** Parts of a tensor that are taken together. */
import { describe, expect, it } from 'vitest';
import type { Tensor } from '../../lib/index.js';
import * as ng from '../../lib/index.js';
import { devices } from '../support/devices.js';

const counted = (...shape: number[]): Tensor =>
  ng.arange(shape.reduce((a, b) => a * b, 1)).reshape(shape);

describe.each(devices)('parts of a tensor on $name', (device) => {
  const parts = (x: Tensor): Record<string, Tensor[]> => ({
    split: x.split([1, 3, 2], 1),
    chunk: x.chunk(3, 1),
    unbind: x.unbind(1),
  });

  it('have one gradient together, zeros where a part is not used', () => {
    ng.scope(() => {
      for (const name of ['split', 'chunk', 'unbind']) {
        const x = counted(4, 6).to(device, 'float64').detach().requireGrad();
        const [, second, third] = parts(x)[name] as [Tensor, Tensor, Tensor];
        second.square().sum().add(second.sum()).add(third.mul(3).sum()).backward();
        const grad = x.grad as Tensor;
        const y = x.detach().requireGrad();
        const at = { split: [1, 4, 6], chunk: [2, 4, 6], unbind: [1, 2, 3] }[name] as number[];
        const part = (i: number): Tensor => y.slice(1, at[i] as number, at[i + 1]);
        part(0).square().sum().add(part(0).sum()).add(part(1).mul(3).sum()).backward();
        expect([name, grad.toArray()]).toEqual([name, y.grad?.toArray()]);
      }
    });
  });

  it('cost one tensor of gradients, however many they are', () => {
    const bytes = 64 * 1024 * 4;
    const peak = (count: number): number =>
      ng.scope(() => {
        const x = ng.ones([64, 1024], { device, requiresGrad: true });
        const sum = x
          .split(64 / count)
          .reduce((all, part) => all.add(part.sum()), ng.zeros([], { device }));
        ng.memory.resetPeak(device);
        const before = ng.memory.stats(device).allocated;
        sum.backward();
        expect(x.grad?.sum().item()).toBe(64 * 1024);
        return ng.memory.stats(device).peakAllocated - before;
      });
    // The gradient, and the copy of it that the leaf keeps.
    expect(peak(32)).toBeLessThan(2.6 * bytes);
    expect(peak(2)).toBeLessThan(2.6 * bytes);
  });

  it('can be differentiated twice, and again', () => {
    ng.scope(() => {
      const x = ng.tensor([1, 2, 3, 4], { device, requiresGrad: true });
      const loss = (): Tensor => {
        const [a, b] = x.split(2) as [Tensor, Tensor];
        return a.mul(b).square().sum();
      };
      const [dx] = ng.grad(loss(), [x], undefined, { createGraph: true }) as [Tensor];
      expect(dx.toArray()).toEqual([18, 64, 6, 32]);
      dx.sum().backward();
      expect(x.grad?.toArray()).toEqual([30, 64, 14, 40]);
      x.zeroGrad();
      const again = loss();
      again.backward(undefined, { retainGraph: true });
      again.backward();
      expect(x.grad?.toArray()).toEqual([36, 128, 12, 64]);
    });
  });

  it('run captured as they run eagerly', async () => {
    const x = ng.tensor([1, 2, 3, 4], { device, requiresGrad: true }).keep();
    const step = ng.capture((scale: Tensor) => {
      const [a, b] = x.mul(scale).split(2) as [Tensor, Tensor];
      const [dx] = ng.grad(a.mul(b).sum(), [x]) as [Tensor];
      return dx;
    });
    for (const scale of [1, 2, 3]) {
      const dx = await step(ng.tensor([scale], { device }));
      expect(dx.toArray()).toEqual([3, 4, 1, 2].map((g) => g * scale * scale));
    }
  });
});
