/** GradScaler: what it skips, what it keeps, and what it launches. */
import { describe, expect, it } from 'vitest';
import {
  autocast,
  capture,
  nn,
  ones,
  optim,
  profile,
  scope,
  type Tensor,
  tensor,
} from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { devices } from '../support/devices.js';

describe.each(devices)('GradScaler on $name', (device) => {
  const options = { initScale: 8, growthInterval: 2 };
  const makers = {
    SGD: (p: Tensor) => new optim.SGD([p], { lr: 0.1, momentum: 0.9, weightDecay: 0.1 }),
    Adam: (p: Tensor) => new optim.Adam([p], { lr: 0.1, weightDecay: 0.1 }),
    Adagrad: (p: Tensor) => new optim.Adagrad([p], { lr: 0.1, initialAccumulatorValue: 0.5 }),
  };
  const skipped = [
    ['SGD', 'float32'],
    ['Adam', 'float64'],
    ['Adam', 'bfloat16'],
    ['Adagrad', 'float32'],
  ] as const;

  it.each(skipped)('skips steps of %s in %s that are not finite', (name, dtype) => {
    scope(() => {
      // The bad steps are left out in the second run.
      const run = (factors: number[]): unknown => {
        const p = nn.parameter(tensor([1, 2], { device, dtype }));
        const optimizer = makers[name](p);
        const scaler = new optim.GradScaler(options);
        const scales: number[] = [];
        for (const factor of factors) {
          optimizer.zeroGrad();
          scaler.scale(p.mul(factor).square().sum()).backward();
          scaler.step(optimizer);
          scaler.update();
          scales.push(scaler.getScale());
        }
        const state = [...optimizer.stateDict().values()].map((t) => t.toArray());
        return { p: p.toArray(), state, scales };
      };
      const bad = Number.POSITIVE_INFINITY;
      const skipping = run([bad, 1, 2, bad, 3]) as { scales: number[] };
      const plain = run([1, 2, 3]) as { scales: number[] };
      expect(skipping.scales).toEqual([4, 4, 8, 4, 4]);
      expect(plain.scales).toEqual([8, 16, 16]);
      expect({ ...skipping, scales: 0 }).toEqual({ ...plain, scales: 0 });
    });
  });

  it('gives the gradients without the scale to what comes between', () => {
    scope(() => {
      const p = nn.parameter(tensor([3], { device }));
      const optimizer = makers.SGD(p);
      const scaler = new optim.GradScaler(options);
      scaler.scale(p.mul(2).sum()).backward();
      expect(p.grad?.item()).toBe(16);
      scaler.unscale(optimizer);
      expect(p.grad?.item()).toBe(2);
      expect(() => scaler.unscale(optimizer)).toThrow(/^unscale: was done already/);
      scaler.step(optimizer);
      expect(() => scaler.step(optimizer)).toThrow(/^step: was done already/);
      scaler.update();
      expect(() => scaler.update()).toThrow('update: needs a step() or unscale() before it');
      expect(() => scaler.step({} as never)).toThrow(/^step: must be given an optimizer/);
      const off = new optim.GradScaler({ enabled: false });
      expect(off.scale(p)).toBe(p);
      expect(off.getScale()).toBe(1);
    });
  });

  it('decides anew in every replay of a captured step, and resumes', async () => {
    const p = nn.parameter(tensor([1, 2], { device }));
    const optimizer = makers.Adam(p);
    const scaler = new optim.GradScaler(options);
    const step = capture((factor: Tensor) => {
      optimizer.zeroGrad();
      const loss = autocast({ dtype: 'float16' }, () => p.mul(factor).square().sum());
      scaler.scale(loss).backward();
      scaler.step(optimizer);
      scaler.update();
    });
    const bad = Number.POSITIVE_INFINITY;
    const scales: number[] = [];
    const moved: boolean[] = [];
    for (const factor of [1, bad, 1, 1, bad, Number.NaN, 1, 1]) {
      const before = p.toArray();
      await step(tensor([factor], { device }));
      scales.push(scaler.getScale());
      moved.push(JSON.stringify(before) !== JSON.stringify(p.toArray()));
    }
    expect(scales).toEqual([8, 4, 4, 8, 4, 2, 2, 4]);
    expect(moved).toEqual([true, false, true, true, false, false, true, true]);
    expect(step.recordings).toBe(1);
    step.dispose();
    const again = new optim.GradScaler(options);
    again.loadStateDict(scaler.stateDict());
    expect(again.getScale()).toBe(4);
    expect(() => again.loadStateDict(new Map([['scale', ones([])]]))).toThrow(
      /^GradScaler: the state must have scale and growthTracker/,
    );
  });

  it('records unscale() anew where another parameter has a gradient', async () => {
    const [a, b] = [1, 2].map((x) => nn.parameter(tensor([x], { device }))) as [Tensor, Tensor];
    const optimizer = new optim.SGD([a, b], { lr: 1 });
    const scaler = new optim.GradScaler({ initScale: 4 });
    scaler.scale(ones([], { device }));
    const step = capture(() => {
      scaler.unscale(optimizer);
      scaler.update();
    });
    for (const both of [false, false, false, true]) {
      optimizer.zeroGrad();
      scope(() => a.mul(8).sum().backward());
      if (both) scope(() => b.mul(8).sum().backward());
      await step();
      expect([a.grad?.item(), b.grad?.item()]).toEqual([2, both ? 2 : undefined]);
    }
    step.dispose();
  });

  it('leaves the counts of groups, and of parameters that come later, where a step is skipped', () => {
    scope(() => {
      const [a, b, c] = [1, 2, 3].map((x) => nn.parameter(tensor([x], { device }))) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const optimizer = new optim.Adam([{ parameters: [a, b] }, { parameters: [c], lr: 1 }]);
      const scaler = new optim.GradScaler(options);
      const step = (loss: Tensor): number[] => {
        optimizer.zeroGrad();
        scaler.scale(loss).backward();
        scaler.step(optimizer);
        scaler.update();
        const state = optimizer.stateDict();
        return [0, 1, 2].map((i) => Number(state.get(`state.${i}.hyper`)?.at(5).item() ?? -1));
      };
      expect(step(a.square().sum())).toEqual([1, -1, -1]);
      expect(step(a.add(b).mul(Number.NaN).sum())).toEqual([1, 0, -1]);
      expect(step(a.add(b).sum())).toEqual([2, 1, -1]);
      expect(step(c.mul(b).sum())).toEqual([2, 2, 1]);
      expect(step(c.div(0).sum())).toEqual([2, 2, 1]);
    });
  });

  it('skips the steps of one optimizer alone, and has one scale for all', async () => {
    const [a, b] = [1, 2].map((x) => nn.parameter(tensor([x], { device }))) as [Tensor, Tensor];
    const optimizers = [new optim.SGD([a], { lr: 1 }), new optim.SGD([b], { lr: 1 })];
    const weights: [string, Tensor][] = [
      ['a', a],
      ['b', b],
    ];
    const ema = new optim.EMA({ namedParameters: () => weights }, { decay: 0 });
    const scaler = new optim.GradScaler(options);
    const step = capture((factor: Tensor) => {
      for (const optimizer of optimizers) optimizer.zeroGrad();
      scaler.scale(a.add(b.mul(factor)).sum()).backward();
      for (const optimizer of optimizers) scaler.step(optimizer);
      scaler.update();
      ema.update();
    });
    const seen: unknown[] = [];
    for (const factor of [1, 2, Number.NaN, 1]) {
      await step(tensor([factor], { device }));
      const averages = [...ema.stateDict()].filter(([name]) => name.startsWith('average'));
      seen.push([a.item(), b.item(), averages.map(([, x]) => x.item()), scaler.getScale()]);
    }
    expect(seen).toEqual([
      [0, 1, [0, 1], 8],
      [-1, -1, [-1, -1], 16],
      [-2, -1, [-2, -1], 8],
      [-3, -2, [-3, -2], 8],
    ]);
    expect(step.recordings).toBe(1);
    step.dispose();
  });

  it('launches one kernel over all gradients, and copies nothing', () => {
    const p = [1, 2, 3, 4].map((x) => nn.parameter(tensor([x, x], { device })));
    const optimizer = new optim.Adam(p);
    const scaler = new optim.GradScaler(options);
    const kernels: string[] = [];
    const count = (fn: () => void): void => {
      for (const { kind, name, calls: times } of profile(fn).summary()) {
        for (let i = 0; kind === 'kernel' && i < times; ++i) kernels.push(name);
      }
    };
    for (let step = 0; step < 2; ++step) {
      optimizer.zeroGrad();
      const loss = p.reduce((sum, x) => sum.add(x.sum()), tensor(0, { device }));
      let scaled = loss;
      kernels.length = 0;
      count(() => {
        scaled = scaler.scale(loss);
      });
      scaled.backward();
      count(() => {
        scaler.step(optimizer);
        scaler.update();
      });
    }
    expect(kernels.length).toBeLessThanOrEqual(6);
    expect(kernels.filter((name) => name === 'unscale')).toEqual(['unscale']);
  });

  it('grows by a product rounded once, and never to infinity', () => {
    scope(() => {
      const p = nn.parameter(tensor([0], { device }));
      const optimizer = makers.SGD(p);
      const grown = (initScale: number, growthFactor: number, steps: number): number => {
        const scaler = new optim.GradScaler({ initScale, growthFactor, growthInterval: 1 });
        for (let step = 0; step < steps; ++step) {
          optimizer.zeroGrad();
          scaler.scale(p.mul(0).sum()).backward();
          scaler.step(optimizer);
          scaler.update();
        }
        expect(scaler.stateDict().get('growthTracker')?.item()).toBe(0);
        return scaler.getScale();
      };
      expect(grown(3, 1.1, 2)).toBe(Math.fround(Math.fround(3 * 1.1) * 1.1));
      expect(grown(2 ** 126, 2, 3)).toBe(2 ** 127);
    });
  });

  it('unscales gradients of all sizes and dtypes at once', () => {
    scope(() => {
      const scale = tensor(4, { device });
      const found = tensor(0, { dtype: 'int32', device });
      const dtypes = ['float32', 'float64', 'bfloat16', 'float16'] as const;
      const sizes = [0, 1, 33, 1025, 20_000, ...Array<number>(65).fill(2)];
      const values = Float64Array.from({ length: 20_001 }, (_, i) => ((i * 7) % 64) - 32);
      const list = dtypes.flatMap((dtype) => {
        const all = tensor(values, { dtype, device });
        // From 1 on, so that addresses are not aligned; the last of all is.
        return [...sizes.map((size) => all.slice(0, 1, 1 + size).clone()), all.clone().slice(0, 1)];
      });
      native.unscaleGradients(
        list.map((x) => x.h),
        scale.h,
        found.h,
      );
      for (const x of list) {
        const expected = [...values.subarray(1, 1 + x.size)].map((v) => v / 4);
        expect([...x.data()].map(Number)).toEqual(expected);
      }
      expect(found.item()).toBe(0);
      for (const dtype of dtypes) {
        // 40000 · 2 is beyond float16 as it is stored.
        const beyond = dtype === 'float16' ? [40_000] : [];
        for (const wild of [Number.NaN, Number.NEGATIVE_INFINITY, ...beyond]) {
          const x = tensor([...values.subarray(0, 300), wild], { dtype, device });
          native.fillInto(found.h, 0);
          const half = tensor(0.5, { device });
          native.unscaleGradients([scale.clone().h, x.h], half.h, found.h);
          expect(found.item(), `${dtype} ${wild}`).toBe(1);
        }
      }
      expect(() => native.unscaleGradients([found.h], scale.h, found.h)).toThrow(
        'unscale: needs floating tensors, got int32',
      );
    });
  });
});
