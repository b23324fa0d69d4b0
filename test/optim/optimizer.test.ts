import { describe, expect, it } from 'vitest';
import {
  capture,
  type Device,
  full,
  manualSeed,
  nn,
  ones,
  optim,
  randn,
  scope,
  type Tensor,
  tensor,
  valueAndGrad,
} from '../../lib/index.js';
import { expectClose, expectSameBits, valuesOf } from '../support/compare.js';
import { cpu, devices } from '../support/devices.js';

function network(device: Device): nn.Sequential {
  return new nn.Sequential(new nn.Linear(6, 8), new nn.Tanh(), new nn.Linear(8, 3)).to(device);
}

type Make = (parameters: Iterable<Tensor>) => optim.Optimizer<{ lr: number }>;
const makers: [string, Make][] = [
  ['SGD', (p) => new optim.SGD(p, { lr: 0.05 })],
  ['SGD with momentum', (p) => new optim.SGD(p, { lr: 0.05, momentum: 0.9, nesterov: true })],
  ['classical SGD', (p) => new optim.SGD(p, { lr: 0.05, momentum: 0.9, form: 'classical' })],
  ['Adam', (p) => new optim.Adam(p, { lr: 0.01 })],
  ['AMSGrad', (p) => new optim.Adam(p, { lr: 0.01, amsgrad: true })],
  ['RMSprop', (p) => new optim.RMSprop(p, { lr: 0.01, momentum: 0.5, centered: true })],
  ['Adagrad', (p) => new optim.Adagrad(p, { lr: 0.05, initialAccumulatorValue: 0.1 })],
  ['Adadelta', (p) => new optim.Adadelta(p, { lr: 10 })],
  ['Lion', (p) => new optim.Lion(p, { lr: 0.01 })],
  ['AdamW', (p) => new optim.AdamW(p, { lr: 0.01 })],
];

function train(model: nn.Sequential, optimizer: ReturnType<Make>, from: number, to: number): void {
  const device = ([...model.parameters()][0] as Tensor).device;
  for (let step = from; step < to; ++step) {
    scope(() => {
      manualSeed(step);
      const x = randn([4, 6], { device: cpu }).to(device);
      optimizer.zeroGrad();
      model.forward(x).square().mean().backward();
      optimizer.step();
    });
  }
}

describe.each(devices)('optimizers on $name', (device) => {
  it.each(makers)('%s lowers a loss', (_, make) => {
    scope(() => {
      manualSeed(0);
      const model = network(device);
      const x = randn([16, 6], { device });
      const y = randn([16, 3], { device });
      const optimizer = make(model.parameters());
      const losses: number[] = [];
      for (let step = 0; step < 30; ++step) {
        optimizer.zeroGrad();
        const loss = nn.mseLoss(model.forward(x), y);
        loss.backward();
        optimizer.step();
        losses.push(Number(loss.item()));
      }
      expect(losses.at(-1)).toBeLessThan((losses[0] as number) * 0.95);
    });
  });

  it.each(makers)('%s goes on from a saved state to the same bits', (_, make) => {
    manualSeed(1);
    const straight = network(device);
    const straightOptimizer = make(straight.parameters());
    manualSeed(1);
    const before = network(device);
    const beforeOptimizer = make(before.parameters());
    train(straight, straightOptimizer, 0, 8);
    train(before, beforeOptimizer, 0, 4);
    const model = new Map([...before.stateDict()].map(([name, t]) => [name, t.clone()]));
    const state = new Map([...beforeOptimizer.stateDict()].map(([name, t]) => [name, t.clone()]));
    manualSeed(99);
    const after = network(device);
    const afterOptimizer = make(after.parameters());
    after.loadStateDict(model);
    afterOptimizer.loadStateDict(state);
    train(after, afterOptimizer, 4, 8);
    const expected = straight.stateDict();
    for (const [name, t] of after.stateDict()) {
      expectSameBits(t.detach(), (expected.get(name) as Tensor).detach(), name);
    }
    const expectedState = straightOptimizer.stateDict();
    expect([...afterOptimizer.stateDict().keys()].sort()).toEqual([...expectedState.keys()].sort());
    for (const [name, t] of afterOptimizer.stateDict()) {
      expectSameBits(t, expectedState.get(name) as Tensor, name);
    }
  });

  it('takes a learning rate that changes, for all groups or one', () => {
    scope(() => {
      const [a, b] = [1, 2].map(() => nn.parameter(tensor([0], { device }))) as [Tensor, Tensor];
      const optimizer = new optim.SGD([{ parameters: [a] }, { parameters: [b], lr: 10 }], {
        lr: 1,
      });
      const step = (): void => {
        optimizer.zeroGrad();
        a.add(b).backward();
        optimizer.step();
      };
      step();
      expect([a.item(), b.item()]).toEqual([-1, -10]);
      optimizer.setLearningRate(1, 100);
      expect(optimizer.lr).toBe(1);
      step();
      expect([a.item(), b.item()]).toEqual([-2, -110]);
      optimizer.lr = 3;
      step();
      expect([a.item(), b.item()]).toEqual([-5, -113]);
    });
  });

  it('gives each group its own options', () => {
    scope(() => {
      const [a, b] = [1, 2].map(() => nn.parameter(tensor([1], { device }))) as [Tensor, Tensor];
      const optimizer = new optim.SGD(
        [
          { parameters: [a], weightDecay: 0.5 },
          { parameters: [b], momentum: 0.5 },
        ],
        { lr: 1 },
      );
      for (let i = 0; i < 2; ++i) {
        optimizer.zeroGrad();
        a.add(b).backward();
        optimizer.step();
      }
      expect([a.item(), b.item()]).toEqual([1 - 1.5 - (1 - 0.25), 1 - 1 - 1.5]);
    });
  });

  it('leaves parameters without a gradient as they are, and counts their steps apart', () => {
    scope(() => {
      const alone = nn.parameter(tensor([1], { device }));
      const late = nn.parameter(tensor([1], { device }));
      const reference = nn.parameter(tensor([1], { device }));
      const both = new optim.Adam([alone, late], { lr: 0.1 });
      const one = new optim.Adam([reference], { lr: 0.1 });
      for (const withLate of [false, true, false, true, true]) {
        both.zeroGrad();
        one.zeroGrad();
        (withLate ? alone.mul(2).add(late.mul(3)) : alone.mul(2)).backward();
        const before = late.item();
        both.step();
        if (withLate) {
          reference.mul(3).backward();
          one.step();
          expect(late.item()).toBe(reference.item());
        } else {
          expect(late.item()).toBe(before);
        }
      }
    });
  });

  it('saves and loads cohorts that have had different numbers of steps', () => {
    scope(() => {
      const make = (): [Tensor, Tensor, optim.Adam] => {
        const a = nn.parameter(tensor([1], { device }));
        const b = nn.parameter(tensor([1], { device }));
        return [a, b, new optim.Adam([a, b], { lr: 0.1 })];
      };
      const step = ([a, b, optimizer]: [Tensor, Tensor, optim.Adam], both: boolean): void => {
        optimizer.zeroGrad();
        (both ? a.mul(2).add(b) : a.mul(2)).backward();
        optimizer.step();
      };
      const first = make();
      for (const both of [false, true, true]) step(first, both);
      const second = make();
      second[0].copyFrom(first[0]);
      second[1].copyFrom(first[1]);
      second[2].loadStateDict(first[2].stateDict());
      for (const both of [true, false, true]) {
        step(first, both);
        step(second, both);
        expectSameBits(second[0].detach(), first[0].detach(), 'a');
        expectSameBits(second[1].detach(), first[1].detach(), 'b');
      }
    });
  });

  it('does not move frozen parameters', () => {
    scope(() => {
      const p = nn.parameter(tensor([1], { device }));
      const optimizer = new optim.SGD([p], { lr: 1 });
      p.mul(2).backward();
      p.requireGrad(false);
      optimizer.step();
      expect(p.item()).toBe(1);
    });
  });

  it('applies gradients that valueAndGrad returned, in a parameter order or by name', () => {
    scope(() => {
      manualSeed(3);
      const model = network(device);
      const twin = network(device);
      twin.loadStateDict(model.stateDict());
      const x = randn([4, 6], { device });
      const one = new optim.Adam(model.parameters());
      const other = new optim.Adam(twin.parameters());
      const step = valueAndGrad(model, (input: Tensor) => model.forward(input).square().mean());
      for (let i = 0; i < 3; ++i) {
        const { value, gradients } = step(x);
        one.apply(gradients);
        other.zeroGrad();
        const loss = twin.forward(x).square().mean();
        expect(loss.item()).toBe(value.item());
        loss.backward();
        other.step();
      }
      const expected = twin.stateDict();
      for (const [name, t] of model.stateDict()) {
        expectSameBits(t.detach(), (expected.get(name) as Tensor).detach(), name);
      }
    });
  });

  it.each(makers)('%s replays to the same bits', async (_, make) => {
    const run = async (captured: boolean): Promise<Tensor[]> => {
      manualSeed(4);
      const model = network(device);
      const optimizer = make(model.parameters());
      const body = (x: Tensor): Tensor => {
        optimizer.zeroGrad();
        const loss = model.forward(x).square().mean();
        loss.backward();
        optimizer.step();
        return loss;
      };
      const step = captured ? capture(body) : async (x: Tensor) => body(x);
      for (let i = 0; i < 6; ++i) {
        if (i === 4) optimizer.lr /= 2;
        await step(full([4, 6], 0.3 * i - 1, { device }));
      }
      return [...model.parameters()];
    };
    const expected = await run(false);
    for (const [i, parameter] of (await run(true)).entries()) {
      expectSameBits(parameter.detach(), (expected[i] as Tensor).detach(), `parameter ${i}`);
    }
  });

  it.each(makers)('%s updates 16-bit parameters as float32 does, rounded', (_, make) => {
    scope(() => {
      for (const dtype of ['bfloat16', 'float16'] as const) {
        manualSeed(8);
        const half = nn.parameter(randn([700], { device: cpu }).to(dtype, device).detach());
        const wide = nn.parameter(half.detach().to('float32').detach());
        const [one, other] = [make([half]), make([wide])];
        for (let i = 0; i < 5; ++i) {
          const gradient = randn([700], { device: cpu }).to(dtype, device);
          one.apply([gradient]);
          other.apply([gradient.to('float32')]);
          expectSameBits(half.detach(), wide.detach().to(dtype), `step ${i}`);
        }
        // A parameter that was changed from outside is taken as it is.
        half.copyFrom(half.detach().mul(2));
        wide.copyFrom(half.detach().to('float32'));
        const gradient = randn([700], { device: cpu }).to(dtype, device);
        one.apply([gradient]);
        other.apply([gradient.to('float32')]);
        expectSameBits(half.detach(), wide.detach().to(dtype), 'after a change');
        expect(one.stateDict().get('state.0.master')?.dtype).toBe('float32');
      }
    });
  });

  it('updates many tensors of many sizes and dtypes as it does one', () => {
    scope(() => {
      manualSeed(2);
      const dtypes = ['float32', 'float64', 'bfloat16', 'float16'] as const;
      const starts = Array.from({ length: 150 }, (_, i) =>
        randn([(i * 37) % 300], { device: cpu }).to(dtypes[i % 4] as 'float32', device),
      );
      const gradients = starts.map((x) => x.mul(0.5).add(0.1));
      const together = starts.map((x) => nn.parameter(x.clone().detach()));
      const optimizer = new optim.Adam(together, { lr: 0.1 });
      for (let i = 0; i < 2; ++i) optimizer.apply(gradients);
      for (const [i, start] of starts.entries()) {
        const alone = nn.parameter(start.clone().detach());
        const single = new optim.Adam([alone], { lr: 0.1 });
        for (let k = 0; k < 2; ++k) single.apply([gradients[i] as Tensor]);
        expectSameBits((together[i] as Tensor).detach(), alone.detach(), `parameter ${i}`);
      }
    });
  });

  it('takes groups that are added later and options that change', async () => {
    const [a, b] = [1, 2].map(() => nn.parameter(tensor([1], { device }))) as [Tensor, Tensor];
    const optimizer = new optim.SGD([a], { lr: 1 });
    const step = capture((scale: Tensor) => {
      optimizer.zeroGrad();
      const loss = a.add(b).mul(scale);
      loss.backward();
      optimizer.step();
      return loss;
    });
    const one = tensor([1], { device });
    for (let i = 0; i < 3; ++i) await step(one);
    expect([a.item(), b.item()]).toEqual([-2, 1]);
    optimizer.addParamGroup({ parameters: [b], lr: 0.5, weightDecay: 1 });
    expect(optimizer.groupCount).toBe(2);
    for (let i = 0; i < 2; ++i) await step(one);
    expect([a.item(), b.item()]).toEqual([-4, -0.5]);
    optimizer.setOptions(1, { weightDecay: 0, lr: 2 });
    await step(one);
    expect([a.item(), b.item()]).toEqual([-5, -2.5]);
    expect(optimizer.optionsOf(1).weightDecay).toBe(0);
    expect(() => optimizer.setOptions(0, { momentum: 0.9 })).toThrow(
      "SGD: an optimizer's states and form are fixed, got momentum",
    );
    expect(() => optimizer.addParamGroup({ parameters: [a] })).toThrow(
      'SGD: a parameter is given more than once',
    );
    expect(() => optimizer.optionsOf(2)).toThrow('SGD: no group 2');
  });

  it('steps by gradients that several backward passes gathered', () => {
    scope(() => {
      manualSeed(6);
      const model = network(device);
      const twin = network(device);
      twin.loadStateDict(model.stateDict());
      const x = randn([8, 6], { device });
      const one = new optim.SGD(model.parameters(), { lr: 0.5 });
      const other = new optim.SGD(twin.parameters(), { lr: 0.5 });
      model.forward(x).square().mean().backward();
      one.step();
      for (const part of [0, 1, 2, 3]) {
        const rows = x.slice(0, 2 * part, 2 * part + 2);
        twin.forward(rows).square().mean().div(4).backward();
      }
      other.step();
      const expected = model.stateDict();
      for (const [name, t] of twin.stateDict()) {
        const wanted = valuesOf((expected.get(name) as Tensor).detach());
        expectClose(valuesOf(t.detach()), wanted, 1e-5, name);
      }
    });
  });

  it('restores every option with the state, before the first step too', () => {
    type Group = optim.SGDOptions;
    const make = (): [Tensor, optim.SGD] => {
      const p = nn.parameter(tensor([1, -2], { device }));
      return [p, new optim.SGD([p], { momentum: 0.5, lr: 1 })];
    };
    const step = ([p, optimizer]: [Tensor, optim.SGD]): void => {
      scope(() => {
        optimizer.zeroGrad();
        p.square().sum().backward();
        optimizer.step();
      });
    };
    const changes: Partial<Group>[] = [
      { lr: 0.1, momentum: 0.9, weightDecay: 1e-3, dampening: 0.3 },
      { lr: 0.3, momentum: 0.9, nesterov: true, maximize: true },
      { lr: 0.3, momentum: 0.9, form: 'classical' },
      { momentum: 0 },
    ];
    for (const options of changes) {
      for (const stepsBefore of [0, 2]) {
        const p = nn.parameter(tensor([1, -2], { device }));
        const first: [Tensor, optim.SGD] = [p, new optim.SGD([p], options)];
        for (let i = 0; i < stepsBefore; ++i) step(first);
        const second = make();
        step(second);
        second[0].copyFrom(p.detach());
        second[1].loadStateDict(first[1].stateDict());
        expect(second[1].optionsOf(0)).toEqual(first[1].optionsOf(0));
        for (let i = 0; i < 2; ++i) {
          for (const each of [first, second]) {
            step(each);
            each[1].setOptions(0, { lr: 0.2, weightDecay: 0.5 });
          }
          expectSameBits(second[0].detach(), p.detach(), JSON.stringify(options));
        }
      }
    }
  });

  it('takes a state over in captured steps, in place or not', async () => {
    const make = () => {
      const p = nn.parameter(tensor([1, -2], { device }));
      const optimizer = new optim.Adam([p], { lr: 0.1 });
      const step = capture(() => {
        optimizer.zeroGrad();
        const loss = p.square().sum();
        loss.backward();
        optimizer.step();
        return loss;
      });
      return { p, optimizer, step };
    };
    const [first, second] = [make(), make()];
    const fresh = new Map(first.optimizer.stateDict());
    for (let i = 0; i < 3; ++i) await second.step();
    const check = async (state: Map<string, Tensor>): Promise<void> => {
      first.p.copyFrom(tensor([3, 4], { device }));
      second.p.copyFrom(first.p.detach());
      second.optimizer.loadStateDict(state);
      first.optimizer.loadStateDict(state);
      for (let i = 0; i < 3; ++i) {
        scope(() => {
          first.optimizer.zeroGrad();
          first.p.square().sum().backward();
          first.optimizer.step();
        });
        await second.step();
        expectSameBits(second.p.detach(), first.p.detach(), `step ${i}`);
      }
    };
    await check(fresh);
    await check(new Map(first.optimizer.stateDict()));
    const p = nn.parameter(tensor([1, 1], { device }));
    const other = new optim.Adam([p], { lr: 0.2, amsgrad: true });
    other.apply([ones([2], { device })]);
    await check(other.stateDict());
  });

  it('keeps the device and dtype of its state', () => {
    scope(() => {
      const p = nn.parameter(tensor([1], { device, dtype: 'float64' }));
      const optimizer = new optim.Adam([p]);
      p.mul(2).backward();
      optimizer.step();
      const state = optimizer.stateDict();
      expect([...state.keys()].sort()).toEqual([
        ...['amsgrad', 'betas', 'eps', 'lr', 'maximize', 'weightDecay'].map((n) => `group.0.${n}`),
        ...['state.0.first', 'state.0.hyper', 'state.0.second'],
      ]);
      expect(state.get('state.0.first')?.dtype).toBe('float64');
      expect(state.get('state.0.first')?.device).toBe(device);
    });
  });
});

describe('optimizers', () => {
  const parameter = (): Tensor => nn.parameter(tensor([1, 2]));
  const refuses = (call: () => unknown, message: string | RegExp): void =>
    expect(() => scope(call)).toThrow(message);

  it('refuse parameters that are none', () => {
    refuses(() => new optim.SGD([]), 'SGD: needs at least one parameter');
    refuses(
      () => new optim.Adam([ones([2])]),
      'Adam: parameters must be leaf tensors that require gradients, got a tensor float32[2]',
    );
    refuses(
      () => new optim.SGD([{ lr: 1 }] as never),
      'SGD: a group needs parameters, got undefined',
    );
    refuses(() => new optim.SGD(5 as never), /^SGD: /);
    refuses(() => {
      const p = parameter();
      return new optim.SGD([p, p]);
    }, 'SGD: a parameter is given more than once');
  });

  it('refuse options out of range', () => {
    refuses(
      () => new optim.SGD([parameter()], { lr: -1 }),
      'SGD: lr must be in [0,Infinity], got -1',
    );
    refuses(
      () => new optim.SGD([parameter()], { momentum: Number.NaN }),
      'SGD: momentum must be in',
    );
    refuses(
      () => new optim.SGD([parameter()], { dampening: 'x' as never }),
      /^SGD: dampening must be/,
    );
    refuses(
      () => new optim.SGD([parameter()], { nesterov: true }),
      'SGD: nesterov needs momentum and no dampening, got 0 and 0',
    );
    refuses(
      () => new optim.Adam([parameter()], { betas: [0.9, 1] }),
      'Adam: each beta must be in [0,1), got 1',
    );
    refuses(
      () => new optim.Adam([parameter()], { betas: 3 as never }),
      'Adam: betas must be two numbers',
    );
    refuses(
      () => new optim.AdamW([parameter()], { eps: -1 }),
      'AdamW: eps must be in [0,Infinity], got -1',
    );
    refuses(() => {
      new optim.SGD([parameter()]).lr = -2;
    }, 'SGD: lr must be in [0,Infinity], got -2');
    refuses(() => new optim.SGD([parameter()]).setLearningRate(1, 1), 'SGD: no group 1');
    refuses(
      () => new optim.SGD([nn.parameter(ones([3, 2]).T)]),
      'SGD: parameters must be contiguous, make them of x.contiguous(), got a view tensor float32[2,3]',
    );
  });

  it('refuse gradients and states that do not fit', () => {
    refuses(() => new optim.SGD([parameter()]).apply([]), 'SGD: apply needs 1 gradients, got []');
    refuses(
      () => new optim.SGD([parameter()]).apply([ones([3])]),
      /^sgd: gradient must be float32\[2\]/i,
    );
    refuses(() => new optim.SGD([parameter()]).apply([3 as never]), /^SGD: /);
    refuses(
      () => new optim.SGD([parameter()]).loadStateDict(new Map([['state.4.hyper', ones([6])]])),
      'SGD: the state has no place for "state.4.hyper"',
    );
    refuses(() => new optim.SGD([parameter()]).loadStateDict({} as never), /^SGD: /);
    const loads = (change: (state: Map<string, Tensor>) => void): void => {
      const optimizer = new optim.Adam([parameter()], { lr: 0.5 });
      optimizer.apply([ones([2])]);
      const state = new Map(optimizer.stateDict());
      state.set('group.0.lr', tensor(0.25, { dtype: 'float64' }));
      change(state);
      try {
        optimizer.loadStateDict(state);
      } finally {
        expect(optimizer.lr).toBe(0.5);
      }
    };
    refuses(
      () => loads((state) => state.set('state.0.hyper', ones([2]))),
      'Adam: state.0.hyper must be float64[6], got a tensor float32[2]',
    );
    refuses(
      () => loads((state) => state.delete('state.0.first')),
      'Adam: the state lacks state.0.first',
    );
    refuses(
      () => loads((state) => state.delete('group.0.eps')),
      'Adam: the state lacks group.0.eps',
    );
    refuses(
      () => loads((state) => state.set('state.0.first', ones([1]))),
      'Adam: state.0.first must have the shape [2], got [1]',
    );
    refuses(
      () => loads((state) => state.set('group.0.maximize', ones([]))),
      'Adam: group.0.maximize must be saved as false is, got a tensor float32[]',
    );
    refuses(
      () => loads((state) => state.set('group.0.eps', tensor(-1))),
      'Adam: eps must be in [0,Infinity], got -1',
    );
    refuses(
      () => loads((state) => state.set('group.1.eps', tensor(1))),
      'Adam: the state has no place for "group.1.eps"',
    );
  });
});
