/** What `compile` settles: clipping, autocast, losses and metrics of the user's own, several inputs. */
import { describe, expect, it } from 'vitest';
import {
  autocast,
  crossEntropy,
  metrics,
  nn,
  optim,
  scope,
  type Tensor,
  tensor,
  trainer,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { bits, logits, net, Output, points, quiet } from '../support/training.js';

/** Adds up two inputs, each through a layer of its own. */
class Two extends nn.Module {
  readonly a: nn.Sequential;
  readonly b: nn.Sequential;
  constructor(device: (typeof devices)[number]) {
    super();
    this.a = net(device);
    this.b = net(device);
  }
  forward(x: Tensor, y: Tensor): Tensor {
    return this.a.forward(x).add(this.b.forward(y));
  }
}

describe.each(devices)('compile on $name', (device) => {
  it.each([
    ['clipNorm', { clipNorm: 0.05 }],
    ['autocast', { autocast: 'bfloat16' }],
  ] as const)('has %s', async (name, options) => {
    const [x, y] = points(device);
    const own = net(device);
    const optimizer = new optim.SGD(own.parameters(), { lr: 0.1 });
    for (let i = 0; i < 3; ++i) {
      scope(() => {
        optimizer.zeroGrad();
        const forward = (): Tensor => own.forward(x);
        const scores = name === 'autocast' ? autocast({}, forward).to('float32') : forward();
        crossEntropy(scores, y).backward();
        if (name === 'clipNorm') optim.clipGradNorm(own.parameters(), 0.05);
        optimizer.step();
      });
    }
    const [model, plain] = [net(device), net(device)];
    const compiled = { optimizer: 'sgd', learningRate: 0.1, loss: logits } as const;
    const fitted = { ...quiet, batchSize: 44, epochs: 3, shuffle: false };
    await trainer(model)
      .compile({ ...compiled, ...options })
      .fit(x, y, fitted);
    await trainer(plain).compile(compiled).fit(x, y, fitted);
    expect(bits(model)).toBe(bits(own));
    expect(bits(plain)).not.toBe(bits(own));
  });

  it('takes losses, optimizers and metrics of the user’s own', async () => {
    const [x, y] = points(device);
    const losses = [
      logits,
      new nn.CrossEntropyLoss(),
      (p: Tensor, t: Tensor) => crossEntropy(p, t),
      (p: Tensor, t: Tensor) => crossEntropy(p, t, { reduction: 'none' }),
    ];
    const found: string[] = [];
    for (const loss of losses) {
      const model = net(device);
      const optimizer = new optim.Adam(model.parameters(), { lr: 0.01, eps: 1e-7 });
      const f1 = new metrics.F1({ average: 'macro', name: 'own' });
      const t = trainer(model).compile({ optimizer, loss, metrics: [f1, 'accuracy'] });
      const { history } = await t.fit(x, y, { ...quiet, batchSize: 11, epochs: 3 });
      expect(Object.keys(history)).toEqual(['loss', 'own', 'accuracy']);
      expect(t.optimizer).toBe(optimizer);
      found.push(bits(model));
    }
    expect(new Set(found).size).toBe(1);
    const scalar = trainer(net(device)).compile({ optimizer: 'sgd', loss: losses[2] as never });
    await expect(scalar.fit(x, y, { ...quiet, classWeight: { 1: 2 } })).rejects.toThrow(
      'fit: weights need a loss per sample',
    );
  });

  it('refuses an optimizer of another model', async () => {
    const [x, y] = points(device);
    const [model, other] = [net(device), net(device)];
    const made = (from: nn.Module) => new optim.SGD(from.parameters(), { lr: 0.1 });
    for (const optimizer of [made(other), () => made(other)]) {
      const t = trainer(model).compile({ optimizer, loss: logits });
      await expect(t.fit(x, y, quiet)).rejects.toThrow(
        'fit: the optimizer must have parameters of this model, got one that has only others',
      );
    }
    await trainer(model)
      .compile({ optimizer: made(model), loss: logits })
      .fit(x, y, quiet);
  });

  it('trains modules of several inputs', async () => {
    const [x, y] = points(device);
    const model = new Two(device);
    const t = trainer(model).compile({ optimizer: 'adam', learningRate: 0.05, loss: logits });
    const { history } = await t.fit([x, x.neg()], y, { ...quiet, epochs: 6 });
    const loss = history.loss as number[];
    expect(loss[5] as number).toBeLessThan(loss[0] as number);
    const scores = await t.predict([x, x.neg()], { batchSize: 7 });
    const expected = scope(() => model.forward(x, x.neg()).detach().clone());
    const [a, b] = [scores.toArray(), expected.toArray()] as [number[][], number[][]];
    for (const [i, row] of a.entries()) {
      for (const [j, value] of row.entries()) expect(value).toBeCloseTo(b[i]?.[j] as number, 5);
    }
  });

  it('counts batches whose number nobody knows, and keeps the modes of modules', async () => {
    const [x, y] = points(device);
    const model = net(device).eval();
    const output = Object.assign(new Output(), { isTTY: true });
    const t = trainer(model).compile({ optimizer: 'sgd', loss: logits });
    const batches = function* () {
      for (let i = 0; i < 3; ++i) yield [x, y, tensor(new Array(44).fill(1))] as const;
    };
    await t.fit(batches, { output });
    expect(output.text).toMatch(/ 3 .* - loss: \d/);
    expect(model.training).toBe(false);
    const { loss } = await t.evaluate(batches, { ...quiet, steps: 1 });
    expect(loss).toBeCloseTo((await t.evaluate(x, y, quiet)).loss as number, 5);
  });
});
