import { describe, expect, it } from 'vitest';
import {
  bernoulli,
  capture,
  checkpoint,
  grad,
  manualSeed,
  memory,
  mul,
  nn,
  ones,
  randn,
  scope,
  type Tensor,
  tensor,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';

describe.each(devices)('checkpoint on $name', (device) => {
  const network = () => {
    manualSeed(3);
    return new nn.Sequential(
      new nn.Linear(4, 8, { device }),
      new nn.Tanh(),
      new nn.Linear(8, 4, { device }),
    );
  };
  const dropout = (x: Tensor): Tensor => mul(x, bernoulli(x.shape, 0.5, { device }));

  it('gives the gradients of inputs and parameters, and repeats random numbers', () => {
    const run = (recompute: boolean) =>
      scope(() => {
        const model = network();
        const x = tensor([[1, -1, 0.5, 2]], { device, requiresGrad: true });
        const part = (h: Tensor) => dropout(model.forward(dropout(h)));
        manualSeed(9);
        const y = recompute ? checkpoint(part, x) : part(x);
        const after = randShape();
        y.square().sum().add(x.sum()).backward();
        return [y, x.grad as Tensor, ...[...model.parameters()].map((p) => p.grad as Tensor), after]
          .concat(randShape())
          .map((t) => t.toArray());
      });
    const randShape = () => bernoulli([16], 0.5, { device });
    expect(run(true)).toEqual(run(false));
  });

  it('reaches parameters where no input needs a gradient, and grad() sees them', () => {
    scope(() => {
      const model = network();
      const x = ones([2, 4], { device });
      const first = [...model.parameters()][0] as Tensor;
      const plain = grad(model.forward(x).sum(), [first])[0] as Tensor;
      const y = checkpoint((h: Tensor) => model.forward(h), x);
      expect(y.requiresGrad).toBe(true);
      const again = grad(y.sum(), [first])[0] as Tensor;
      expect(again.toArray()).toEqual(plain.toArray());
      expect(first.grad).toBeNull();
      model.requireGrad(false);
      expect(checkpoint((h: Tensor) => model.forward(h), x).requiresGrad).toBe(false);
    });
  });

  it('takes several inputs and gives several outputs, nested too', () => {
    scope(() => {
      const a = tensor([2], { device, requiresGrad: true });
      const b = tensor([3], { device, requiresGrad: true });
      const [s, p] = checkpoint(
        (x: Tensor, y: Tensor, k: number): [Tensor, Tensor] => [
          x.add(y),
          checkpoint((u: Tensor, v: Tensor) => u.mul(v).mul(k), x, y),
        ],
        a,
        b,
        10,
      );
      s.add(p).backward();
      expect(a.grad?.item()).toBe(31);
      expect(b.grad?.item()).toBe(21);
    });
  });

  it('works in captured steps', async () => {
    const model = network();
    const w = [...model.parameters()][0] as Tensor;
    const x = randn([2, 4], { device });
    const make = (recompute: boolean) =>
      capture((input: Tensor) => {
        model.zeroGrad();
        const part = (h: Tensor) => dropout(model.forward(h));
        const y = recompute ? checkpoint(part, input) : part(input);
        y.square().sum().backward();
        return y;
      });
    const results = [];
    for (const recompute of [false, true]) {
      const step = make(recompute);
      manualSeed(5);
      const seen: unknown[] = [];
      for (let i = 0; i < 4; ++i) {
        const y = await step(x);
        seen.push(y.toArray(), w.grad?.toArray());
      }
      expect(step.recordings).toBe(1);
      step.dispose();
      results.push(seen);
    }
    expect(results[1]).toEqual(results[0]);
  });

  it('takes less memory', () => {
    const peak = (recompute: boolean): number =>
      scope(() => {
        let x = ones([256, 256], { device, requiresGrad: true });
        memory.resetPeak(device);
        const before = memory.stats(device).allocated;
        const block = (h: Tensor) => {
          let y = h;
          for (let i = 0; i < 8; ++i) y = y.tanh();
          return y;
        };
        for (let i = 0; i < 8; ++i) x = recompute ? checkpoint(block, x) : block(x);
        x.sum().backward();
        return memory.stats(device).peakAllocated - before;
      });
    const bytes = 256 * 256 * 4;
    const [plain, less] = [peak(false), peak(true)];
    // Either way gradients are released as backward() goes.
    expect(plain).toBeGreaterThanOrEqual(64 * bytes);
    expect(plain).toBeLessThanOrEqual(68 * bytes);
    // Eight kept, eight of one block, and a few gradients.
    expect(less).toBeLessThanOrEqual(20 * bytes);
  });
});
