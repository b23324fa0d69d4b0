/** Running averages of weights against their formulas. */
import { describe, expect, it } from 'vitest';
import {
  capture,
  type Device,
  full,
  nn,
  optim,
  scope,
  type Tensor,
  tensor,
} from '../../lib/index.js';
import { expectSameBits } from '../support/compare.js';
import { devices } from '../support/devices.js';

class Model extends nn.Module {
  readonly w: Tensor;
  readonly count: Tensor;
  constructor(device: Device, dtype: 'float32' | 'float64' | 'bfloat16' = 'float64') {
    super();
    this.w = nn.parameter(tensor([1, -2], { device, dtype }));
    this.count = nn.buffer(tensor([0], { device }));
  }
  forward(x: Tensor): Tensor {
    return this.w.mul(x).sum();
  }
}

const values = (x: Tensor): number[] => Array.from(x.detach().data() as Float64Array);

describe.each(devices)('averages on $name', (device) => {
  it.each([
    ['EMA', { decay: 0.8 }, () => 0.8],
    ['EMA', { decay: 0.4, warmup: true }, (t: number) => Math.min(0.4, (1 + t) / (10 + t))],
    ['SWA', {}, (t: number) => 1 - 1 / t],
  ] as const)('%s %o follows its formula', (kind, options, keep) => {
    scope(() => {
      const model = new Model(device);
      const average = kind === 'EMA' ? new optim.EMA(model, options) : new optim.SWA(model);
      const expected = values(model.w);
      for (let t = 1; t <= 8; ++t) {
        model.w.copyFrom(tensor([t * t, 1 / t], { device, dtype: 'float64' }));
        model.count.copyFrom(tensor([t], { device }));
        average.update();
        values(model.w).forEach((w, i) => {
          const a = expected[i] as number;
          expected[i] = a + (1 - keep(t)) * (w - a);
        });
        const found = values(average.stateDict().get('average.w') as Tensor);
        found.forEach((a, i) => {
          expect(Math.abs(a - (expected[i] as number))).toBeLessThan(1e-12);
        });
      }
      expect(average.stateDict().get('average.count')?.item()).toBe(8);
    });
  });

  it('swaps in and out, whatever happens between', async () => {
    const model = new Model(device);
    const average = new optim.EMA(model, { decay: 0.5 });
    model.w.copyFrom(tensor([3, 0], { device, dtype: 'float64' }));
    average.update();
    expect(average.with(() => values(model.w))).toEqual([2, -1]);
    expect(values(model.w)).toEqual([3, 0]);
    expect(await average.with(async () => values(model.w))).toEqual([2, -1]);
    expect(values(model.w)).toEqual([3, 0]);
    expect(() =>
      average.with(() => {
        average.update();
      }),
    ).toThrow('EMA: update() needs the trained weights in place');
    expect(values(model.w)).toEqual([3, 0]);
    average.swap();
    expect(values(model.w)).toEqual([2, -1]);
    expect(() => average.stateDict()).toThrow('EMA: swap back before saving');
    average.swap();
  });

  it('averages 16-bit weights in float32', () => {
    scope(() => {
      const model = new Model(device, 'bfloat16');
      const average = new optim.EMA(model, { decay: 0.999 });
      model.w.copyFrom(tensor([2, -1], { device }));
      // Each step is far smaller than bfloat16 resolves.
      let [a, b] = [1, -2];
      for (let t = 0; t < 100; ++t) {
        average.update();
        [a, b] = [a + (2 - a) / 1000, b + (-1 - b) / 1000];
      }
      const found = values(average.stateDict().get('master.w') as Tensor);
      expect(found[0]).toBeCloseTo(a, 5);
      expect(found[1]).toBeCloseTo(b, 5);
    });
  });

  it('is updated by captured steps, saved and loaded', async () => {
    const run = async (captured: boolean): Promise<[Model, optim.EMA]> => {
      const model = new Model(device);
      const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 });
      const average = new optim.EMA(model, { decay: 0.9, warmup: true });
      const body = (x: Tensor): Tensor => {
        optimizer.zeroGrad();
        const loss = model.forward(x).square();
        loss.backward();
        optimizer.step();
        average.update();
        return loss;
      };
      const step = captured ? capture(body) : async (x: Tensor) => body(x);
      for (let i = 0; i < 5; ++i) await step(full([2], 0.1 * i, { device, dtype: 'float64' }));
      return [model, average];
    };
    const [, eager] = await run(false);
    const [model, replayed] = await run(true);
    const expected = eager.stateDict();
    for (const [name, t] of replayed.stateDict()) {
      expectSameBits(t, expected.get(name) as Tensor, name);
    }
    const other = new optim.EMA(model, { decay: 0.1, warmup: true });
    other.loadStateDict(replayed.stateDict());
    for (const average of [other, replayed]) average.update();
    for (const [name, t] of other.stateDict()) {
      expectSameBits(t, replayed.stateDict().get(name) as Tensor, name);
    }
  });
});

describe('averages', () => {
  it('refuse what does not fit', () => {
    const model = new Model(devices[0] as Device);
    expect(() => new optim.EMA(model, { decay: 2 })).toThrow('EMA: decay must be in [0,1], got 2');
    expect(() => new optim.SWA({} as never)).toThrow('SWA: needs a model with parameters');
    expect(() => new optim.EMA(new nn.ReLU())).toThrow('EMA: needs at least one parameter');
    expect(() => new optim.EMA(model).loadStateDict(new Map())).toThrow(
      'EMA: the state lacks hyper',
    );
  });
});
