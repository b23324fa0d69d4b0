/** Parameters on several devices: what works on all of them gives what it gives on one. */
import { describe, expect, it } from 'vitest';
import { type Device, nn, optim, scope, type Tensor, tensor } from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { cpu, devices } from '../support/devices.js';

const starts = [[1, -2, 3], [4], [-5, 6]];
const spread = (i: number): Device => devices[i % devices.length] as Device;
const alone = (): Device => cpu;

class Model extends nn.Module {
  parts: Tensor[];
  constructor(place: (i: number) => Device) {
    super();
    this.parts = starts.map((start, i) =>
      nn.parameter(tensor(start, { device: place(i), dtype: 'float64' })),
    );
  }
  forward(): Tensor {
    const sums = this.parts.map((part) => part.square().sum().to(cpu));
    return sums.reduce((a, b) => a.add(b));
  }
}

function expectAlike(one: Iterable<Tensor>, other: Iterable<Tensor>): void {
  const expected = [...other];
  for (const [i, t] of [...one].entries()) {
    const wanted = valuesOf((expected[i] as Tensor).detach());
    expectClose(valuesOf(t.detach()), wanted, 1e-12, `tensor ${i}`);
  }
}

describe('parameters on several devices', () => {
  it.each([2, 1, Number.POSITIVE_INFINITY])('are clipped by their %d-norm together', (p) => {
    scope(() => {
      const found = [spread, alone].map((place) => {
        const model = new Model(place);
        model.forward().backward();
        const norm = optim.clipGradNorm(model.parameters(), 3, p).item();
        const gradients = [...model.parameters()].map(({ grad }) => grad as Tensor);
        const clipped = gradients.map((gradient) => gradient.clone());
        optim.clipGradValue(model.parameters(), 1);
        return { norm, clipped: [...clipped, ...gradients] };
      });
      const [one, other] = found as [(typeof found)[number], (typeof found)[number]];
      expect(one.norm).toBeCloseTo(Number(other.norm), 12);
      expectAlike(one.clipped, other.clipped);
    });
  });

  it('are averaged, saved and loaded', () => {
    scope(() => {
      const [one, other] = [spread, alone].map((place) => {
        const model = new Model(place);
        let ema = new optim.EMA(model, { decay: 0.9, warmup: true });
        for (let t = 0; t < 4; ++t) {
          for (const part of model.parts) part.copyFrom(part.detach().mul(1.5));
          ema.update();
          const state = ema.stateDict();
          ema = new optim.EMA(model, { decay: 0.9, warmup: true });
          ema.loadStateDict(state);
        }
        ema.swap();
        return model;
      }) as [Model, Model];
      expectAlike(one.parts, other.parts);
    });
  });

  it('are scaled, and skipped all where one is not finite', () => {
    scope(() => {
      const [one, other] = [spread, alone].map((place) => {
        const model = new Model(place);
        const optimizer = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
        const scaler = new optim.GradScaler({ initScale: 8 });
        for (let t = 0; t < 4; ++t) {
          optimizer.zeroGrad();
          scaler.scale(model.forward()).backward();
          scaler.step(optimizer);
          scaler.update();
        }
        const before = model.parts.map((part) => part.detach().clone());
        for (const at of [0, 1, 2]) {
          optimizer.zeroGrad();
          scaler.scale(model.forward()).backward();
          const { grad, device } = model.parts[at] as Tensor;
          grad?.copyFrom(tensor([Number.NaN], { device }));
          scaler.step(optimizer);
          scaler.update();
        }
        expectAlike(model.parts, before);
        expect(scaler.getScale()).toBe(1);
        return model;
      }) as [Model, Model];
      expectAlike(one.parts, other.parts);
    });
  });
});
