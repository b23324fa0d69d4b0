import { describe, expect, it } from 'vitest';
import type { Device, Tensor } from '../../lib/index.js';
import { memory, nn, noGrad, ones, optim, scope, steps, tensor, zeros } from '../../lib/index.js';
import { devices } from '../support/devices.js';

const alive = (device: Device): number => memory.stats(device).blocks;

describe.each(devices)('scopes on %s', (device) => {
  it('releases what the body made when the next iteration starts', () => {
    let before: Tensor | undefined;
    for (const i of steps(3)) {
      if (i > 0) expect(before?.released).toBe(true);
      before = ones([4], { device });
    }
    expect(before?.released).toBe(true);
  });

  it('names .keep() when a released tensor is touched, and keep() keeps', () => {
    const lost: Tensor[] = [];
    const kept: Tensor[] = [];
    for (const i of steps(2)) {
      lost.push(ones([2], { device }));
      kept.push(zeros([2], { device }).add(i).keep());
    }
    expect(() => lost[0]?.add(1)).toThrow(/add: a is .*released.*\.keep\(\)/);
    expect(kept.map((t) => t.toArray())).toEqual([
      [0, 0],
      [1, 1],
    ]);
  });

  it('carries a running total and a hidden state, and nothing else', () => {
    const w = nn.parameter(ones([3, 3], { device }));
    let total = zeros([], { device });
    let state = ones([1, 3], { device });
    const others: Tensor[] = [];
    for (const i of steps(6)) {
      const x = ones([1, 3], { device }).mul(i);
      const h = x.matmul(w);
      others.push(h);
      state = state.mul(0.5).add(h).tanh();
      total = total.add(h.sum());
    }
    expect(total.item()).toBe(9 * 15);
    expect(state.shape).toEqual([1, 3]);
    expect(Number.isFinite(state.sum().item() as number)).toBe(true);
    expect(others.every((t) => t.released)).toBe(true);
  });

  it('backpropagates through the iterations of an inner loop', () => {
    const w = nn.parameter(tensor([[0.5]], { device }));
    for (const _ of steps(2)) {
      w.zeroGrad();
      let h = ones([1, 1], { device });
      for (const _step of steps(5)) h = h.matmul(w);
      h.sum().backward();
      expect(w.grad?.item()).toBeCloseTo(5 * 0.5 ** 4, 6);
    }
  });

  it('survives break, continue, throw, return and nesting without leaking', () => {
    const start = alive(device);
    const body = (how: string): void => {
      for (const i of steps(5)) {
        ones([8], { device });
        for (const j of steps(5)) {
          ones([8], { device });
          if (j === 2 && how === 'break') break;
          if (j === 2 && how === 'throw') throw new Error('stop');
          if (j === 2 && how === 'return') return;
        }
        if (i === 2 && how === 'continue') continue;
        ones([8], { device });
      }
    };
    for (const how of ['break', 'continue', 'return', 'none']) body(how);
    expect(() => body('throw')).toThrow('stop');
    expect(alive(device)).toBe(start);
  });

  it('keeps memory flat through training in the natural loop', () => {
    const model = new nn.Sequential(
      new nn.Linear(8, 16, { device }),
      new nn.ReLU(),
      new nn.Linear(16, 4, { device }),
    );
    const optimizer = new optim.Adam(model.parameters(), { lr: 0.01 });
    const loss = new nn.MSELoss();
    let total = zeros([], { device });
    const seen: number[] = [];
    const count = device.type === 'cpu' ? 400 : 40;
    for (const i of steps(count)) {
      const rows = 4 + (i % 3);
      const x = ones([rows, 8], { device }).mul(0.1);
      optimizer.zeroGrad();
      const value = loss.forward(model.forward(x), zeros([rows, 4], { device }));
      value.backward();
      optimizer.step();
      total = total.add(value.detach());
      if (i % 3 === 0 && i > count / 2) seen.push(alive(device));
    }
    expect(new Set(seen).size).toBe(1);
    expect(Number.isFinite(total.item() as number)).toBe(true);
  });

  it('does not grow a graph through a sum of losses', () => {
    const w = nn.parameter(ones([2], { device }));
    let total = zeros([], { device });
    let blocks = 0;
    for (const i of steps(30)) {
      const loss = w.mul(i).sum();
      total = total.add(loss);
      loss.backward();
      if (i === 10) blocks = alive(device);
    }
    expect(alive(device)).toBeLessThanOrEqual(blocks);
    expect(total.item()).toBe(2 * 435);
  });

  it('scope() lets results out and releases the rest, also when asynchronous', async () => {
    const start = alive(device);
    const { a, list } = scope(() => {
      const x = ones([4], { device });
      return { a: x.add(1), list: [x.mul(3)] };
    });
    expect(a.toArray()).toEqual([2, 2, 2, 2]);
    expect(list[0]?.toArray()).toEqual([3, 3, 3, 3]);
    const b = await scope(async () => {
      const x = ones([4], { device });
      await new Promise((resolve) => setTimeout(resolve, 1));
      return x.add(ones([4], { device }));
    });
    expect(b.toArray()).toEqual([2, 2, 2, 2]);
    for (const t of [a, b, ...list]) t.dispose();
    expect(alive(device)).toBe(start);
  });

  it('runs two loops at once in scopes of their own', async () => {
    const loop = (n: number) =>
      scope(async () => {
        let total = zeros([], { device });
        for (const i of steps(n)) {
          const x = ones([], { device }).mul(i);
          await new Promise((resolve) => setImmediate(resolve));
          total = total.add(x);
        }
        return total.item();
      });
    expect(await Promise.all([loop(4), loop(6)])).toEqual([6, 15]);
  });

  it('refuses two loops at once in one function', async () => {
    const loop = async (n: number) => {
      for (const i of steps(n)) {
        ones([], { device }).mul(i);
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const results = await Promise.allSettled([loop(4), loop(9)]);
    const errors = results.flatMap((r) => (r.status === 'rejected' ? [String(r.reason)] : []));
    expect(errors.join()).toMatch(/two loops run at once.*scope\(async/);
  });

  it('backpropagates through what a closed scope released', () => {
    const net = new nn.Sequential(
      new nn.Embedding(5, 4, { device }),
      new nn.Linear(4, 5, { device }),
      new nn.ReLU(),
      new nn.Linear(5, 3, { device }),
    );
    const index = () => tensor([0n, 1n, 2n, 1n], { device });
    const parameters = [...net.parameters()];
    const gradients = () => parameters.map((p) => p.grad?.toArray());
    scope(() => net.forward(index()).square().sum().backward());
    const once = gradients();
    // Into new buffers, into those there are, and with the graph kept.
    for (const p of parameters) p.zeroGrad();
    scope(() => net.forward(index()).square().sum()).backward();
    expect(gradients()).toEqual(once);
    for (const p of parameters) p.zeroGrad();
    const loss = scope(() => net.forward(index()).square().sum());
    loss.backward(undefined, { retainGraph: true });
    expect(gradients()).toEqual(once);
    loss.backward();
    const twice = scope(() => parameters.map((p) => (p.grad as Tensor).div(2).toArray()));
    expect(twice).toEqual(once);
    loss.dispose();
    for (const p of parameters) p.dispose();
  });

  it('disposes with `using` semantics', () => {
    const t = ones([2], { device });
    t[Symbol.dispose]();
    expect(t.released).toBe(true);
    t.dispose();
  });

  it('records nothing under noGrad, also across await', async () => {
    const w = nn.parameter(ones([2], { device }));
    expect(noGrad(() => w.mul(2)).requiresGrad).toBe(false);
    const later = await noGrad(async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      return w.mul(2).requiresGrad;
    });
    expect(later).toBe(false);
    expect(w.mul(2).requiresGrad).toBe(true);
  });
});
