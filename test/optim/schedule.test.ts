/** Learning rates against PyTorch's over 30 steps (test/vectors/schedules.json). */
import { describe, expect, it } from 'vitest';
import { capture, nn, optim, scope, type Tensor, tensor, zeros } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { readVectors } from '../support/vectors.js';

interface Case {
  schedule: string;
  options: Record<string, unknown>;
  rates: number[][];
  momenta: number[];
  measures?: number[];
}

type Factor = (t: number) => number;
const lambda: Factor = (t) => 0.9 ** t + 0.1 * (t % 3);
const classes = optim as unknown as Record<
  string,
  new (
    optimizer: optim.AnyOptimizer,
    options: unknown,
  ) => optim.Schedule & { step(measure?: number): void }
>;

function sgd(): optim.SGD {
  const parameters = [0, 1].map(() => nn.parameter(zeros([1])));
  const groups = [0.1, 0.3].map((lr, i) => ({ parameters: [parameters[i] as Tensor], lr }));
  return new optim.SGD(groups, { momentum: 0.9 });
}

function make(entry: Case, optimizer: optim.SGD) {
  const options = entry.schedule === 'LambdaLR' ? lambda : entry.options;
  const Made = classes[entry.schedule] as (typeof classes)[string];
  return new Made(optimizer, options);
}

const { cases } = readVectors<Case>('schedules');
const named = cases.map(
  (entry) => [`${entry.schedule} ${JSON.stringify(entry.options)}`, entry] as const,
);

function expectRates(optimizer: optim.SGD, { rates, momenta }: Case, t: number): void {
  for (const group of [0, 1]) {
    const { lr, momentum } = optimizer.optionsOf(group);
    expect(Math.abs(lr - (rates[t]?.[group] as number)), `rate ${group} at ${t}`).toBeLessThan(
      1e-12,
    );
    expect(Math.abs(momentum - (momenta[t] as number)), `momentum at ${t}`).toBeLessThan(1e-12);
  }
}

describe('schedules', () => {
  it.each(named)('%s has the rates of PyTorch', (_, entry) => {
    scope(() => {
      const optimizer = sgd();
      const schedule = make(entry, optimizer);
      for (let t = 0; t < 30; ++t) {
        expectRates(optimizer, entry, t);
        if (t < 29) schedule.step(entry.measures?.[t]);
      }
    });
  });

  it.each(named)('%s goes on from a saved state', (_, entry) => {
    scope(() => {
      const first = make(entry, sgd());
      for (let t = 0; t < 13; ++t) first.step(entry.measures?.[t]);
      const optimizer = sgd();
      const second = make(entry, optimizer);
      second.loadStateDict(JSON.parse(JSON.stringify(first.stateDict())));
      for (let t = 13; t < 30; ++t) {
        expectRates(optimizer, entry, t);
        if (t < 29) second.step(entry.measures?.[t]);
      }
    });
  });

  it('follow one another', () => {
    scope(() => {
      const optimizer = sgd();
      const warm = new optim.LinearLR(optimizer, { startFactor: 0.25, totalIters: 4 });
      const decay = new optim.ExponentialLR(optimizer, { gamma: 0.5 });
      const schedule = new optim.SequentialLR(optimizer, {
        schedules: [warm, decay],
        milestones: [4],
      });
      const found: number[] = [];
      for (let t = 0; t < 7; ++t) {
        found.push((schedule.rates[0] as number) / 0.1);
        schedule.step();
      }
      const expected = [0.25, 0.4375, 0.625, 0.8125, 1, 0.5, 0.25];
      found.forEach((rate, t) => {
        expect(rate).toBeCloseTo(expected[t] as number, 12);
      });
    });
  });

  it('cycle beta1 of Adam, and leave the momentum alone where told', () => {
    scope(() => {
      const adam = new optim.Adam([nn.parameter(zeros([1]))]);
      new optim.OneCycleLR(adam, { maxLr: 1, totalSteps: 10 });
      expect(adam.optionsOf(0).betas).toEqual([0.95, 0.999]);
      const optimizer = sgd();
      new optim.OneCycleLR(optimizer, { maxLr: 1, totalSteps: 10, cycleMomentum: false });
      expect(optimizer.optionsOf(0).momentum).toBe(0.9);
    });
  });

  it('refuse what does not fit', () => {
    scope(() => {
      const optimizer = sgd();
      expect(() => new optim.StepLR(optimizer, { stepSize: 0 })).toThrow(
        'StepLR: stepSize must be an integer of 1 or more, got 0',
      );
      expect(() => new optim.StepLR({} as never, { stepSize: 1 })).toThrow(
        'StepLR: needs an optimizer, got an object of Object',
      );
      expect(() => new optim.MultiStepLR(optimizer, { milestones: [3, 1] })).toThrow(
        'MultiStepLR: milestones must ascend, got [3,1]',
      );
      expect(() => new optim.LambdaLR(optimizer, [() => 1])).toThrow(
        'LambdaLR: needs 2 functions, got 1',
      );
      const cycle = new optim.OneCycleLR(optimizer, { maxLr: 1, totalSteps: 2 });
      cycle.step();
      expect(() => cycle.step()).toThrow('OneCycleLR: the cycle has 2 steps, got step 2');
      expect(() => cycle.loadStateDict({ steps: 1, baseRates: [1] })).toThrow(
        'OneCycleLR: the state needs 2 base rates, got [1]',
      );
      expect(() => new optim.ReduceLROnPlateau(optimizer, { factor: 1 })).toThrow(
        'ReduceLROnPlateau: factor must be in [0,1), got 1',
      );
      expect(() => new optim.SequentialLR(optimizer, { schedules: [], milestones: [1] })).toThrow(
        'SequentialLR: needs 2 schedules, got []',
      );
    });
  });
});

describe.each(devices)('schedules on $name', (device) => {
  it('are seen by captured steps', async () => {
    const w = nn.parameter(tensor([0], { device, dtype: 'float64' }));
    const optimizer = new optim.SGD([w], { lr: 1, momentum: 0.5 });
    const schedule = new optim.OneCycleLR(optimizer, {
      maxLr: 8,
      totalSteps: 8,
      divFactor: 8,
      baseMomentum: 0.25,
      maxMomentum: 0.75,
    });
    const step = capture((x: Tensor) => {
      optimizer.zeroGrad();
      const loss = w.mul(x).sum();
      loss.backward();
      optimizer.step();
      return loss;
    });
    let [position, velocity] = [0, 0];
    for (let t = 0; t < 8; ++t) {
      const { lr, momentum } = optimizer.optionsOf(0);
      velocity = t === 0 ? 1 : momentum * velocity + 1;
      position -= lr * velocity;
      await step(tensor([1], { device, dtype: 'float64' }));
      expect(w.item()).toBeCloseTo(position, 12);
      if (t < 7) schedule.step();
    }
    expect(step.recordings).toBe(1);
  });

  it('refuse to be stepped within captured functions, before anything changed', async () => {
    const w = nn.parameter(tensor([0], { device }));
    const optimizer = new optim.SGD([w], { lr: 1 });
    const schedule = new optim.StepLR(optimizer, { stepSize: 1 });
    const plateau = new optim.ReduceLROnPlateau(optimizer);
    const calls: [string, () => void][] = [
      ['StepLR: step()', () => schedule.step()],
      ['ReduceLROnPlateau: step()', () => plateau.step(1)],
      ['SGD: setLearningRate()', () => optimizer.setLearningRate(0, 3)],
      ['SGD: setOptions()', () => optimizer.setOptions(0, { lr: 3 })],
    ];
    for (const [call, change] of calls) {
      await expect(capture(change)()).rejects.toThrow(
        `${call} must be called outside the captured function, beside its calls, got a call in it`,
      );
    }
    expect(optimizer.lr).toBe(1);
    expect(schedule.stateDict().steps).toBe(0);
  });
});
