/** `fit` beside loops written by hand; weights, validation, aborts, memory, errors. */
import { describe, expect, it } from 'vitest';
import {
  crossEntropy,
  DataLoader,
  type FitOptions,
  full,
  layers,
  memory,
  optim,
  scope,
  sequential,
  type Tensor,
  TensorDataset,
  tensor,
  trainer,
} from '../../lib/index.js';
import { cpu, devices } from '../support/devices.js';
import { collectGarbage } from '../support/garbage.js';
import { bits, logits, net, Output, points, quiet } from '../support/training.js';

describe.each(devices)('fit on $name', (device) => {
  it.each([true, false])('equals a loop written by hand, captured: %s', async (capture) => {
    const [x, y] = points(device);
    const own = net(device);
    const optimizer = new optim.Adam(own.parameters(), { lr: 0.01 });
    const data = new TensorDataset(x, y);
    const loader = new DataLoader(data, { batchSize: 8, shuffle: true, seed: 4 });
    const losses: number[] = [];
    for (let epoch = 0; epoch < 3; ++epoch) {
      let total = 0;
      for await (const [bx, by] of loader) {
        optimizer.zeroGrad();
        const loss = crossEntropy(own.forward(bx), by);
        loss.backward();
        optimizer.step();
        total += (loss.item() as number) * (by.shape[0] as number);
      }
      losses.push(total / 44);
    }

    const model = net(device);
    const fitted = trainer(model).compile({
      ...{ optimizer: (p) => new optim.Adam(p, { lr: 0.01 }), loss: logits },
      ...{ metrics: ['accuracy'], capture },
    });
    const options = { ...quiet, batchSize: 8, epochs: 3, seed: 4 };
    const { history, epoch } = await fitted.fit(x, y, options);
    expect(bits(model)).toBe(bits(own));
    expect(epoch).toEqual([0, 1, 2]);
    expect(history.loss).toEqual(losses);
    expect(history.accuracy).toHaveLength(3);
  });

  it('validates with the last samples, before shuffling', async () => {
    const [x, y] = points(device);
    const compiled = () =>
      trainer(net(device)).compile({ optimizer: 'adam', loss: logits, metrics: ['accuracy'] });
    const options = { ...quiet, batchSize: 8, epochs: 2, seed: 1 };
    const split = await compiled().fit(x, y, { ...options, validationSplit: 0.25 });
    const held = compiled();
    const [x1, y1] = [x.slice(0, 0, 33), y.slice(0, 0, 33)];
    const rest = [x.slice(0, 33, 44), y.slice(0, 33, 44)] as const;
    const given = await held.fit(x1, y1, { ...options, validationData: rest });
    expect(split.history).toEqual(given.history);
    expect(Object.keys(split.history)).toEqual(['loss', 'accuracy', 'valLoss', 'valAccuracy']);
    const after = await held.evaluate(...rest, { ...quiet, batchSize: 8 });
    const { valLoss, valAccuracy } = given.history;
    expect(after).toEqual({ loss: valLoss?.[1], accuracy: valAccuracy?.[1] });
    const scores = await held.predict(rest[0], { batchSize: 4 });
    const right = scores.argmax(1).eq(rest[1]).sum().item() as number;
    expect(right / 11).toBeCloseTo(after.accuracy as number, 12);
    expect(x.released).toBe(false);
  });

  it('counts samples by their class and weight', async () => {
    const [x, y] = points(device);
    const labels = y.toArray() as number[];
    const weights = labels.map((label) => (label === 1 ? 3 : 1));
    const runs: FitOptions[] = [
      { classWeight: { 1: 3 } },
      { sampleWeight: weights },
      { classWeight: { 0: 0.5, 1: 1.5, 2: 0.5 }, sampleWeight: new Float32Array(44).fill(2) },
    ];
    const results: string[] = [];
    for (const options of runs) {
      const model = net(device);
      const t = trainer(model).compile({ optimizer: 'sgd', loss: logits });
      await t.fit(x, y, { ...quiet, ...options, batchSize: 11, epochs: 2, shuffle: false });
      results.push(bits(model));
    }
    expect(new Set(results).size).toBe(1);
    const own = net(device);
    const optimizer = new optim.SGD(own.parameters(), { lr: 0.01 });
    for (let i = 0; i < 8; ++i) {
      const at = 11 * (i % 4);
      scope(() => {
        optimizer.zeroGrad();
        const [bx, by] = [x.slice(0, at, at + 11), y.slice(0, at, at + 11)];
        const each = crossEntropy(own.forward(bx), by, { reduction: 'none' });
        const weight = tensor(weights.slice(at, at + 11), { device });
        each.mul(weight).mean().backward();
        optimizer.step();
      });
    }
    expect(results[0]).toBe(bits(own));
  });

  it('ends after the step in which it is aborted', async () => {
    const [x, y] = points(device);
    const t = trainer(net(device)).compile({ optimizer: 'adam', loss: logits });
    const abort = new AbortController();
    const seen: string[] = [];
    const history = await t.fit(x, y, {
      ...{ ...quiet, batchSize: 8, epochs: 9, signal: abort.signal },
      callbacks: [
        {
          onBatchEnd: (batch, loss) => {
            expect(Number.isFinite(loss.item())).toBe(true);
            seen.push(String(batch));
            if (seen.length === 8) abort.abort();
          },
          onTrainEnd: ({ stopped }) => void seen.push(`end: ${stopped}`),
        },
      ],
    });
    expect(seen.slice(6)).toEqual(['0', '1', 'end: signal']);
    expect(history.epoch).toEqual([0]);
    expect(history.stopped).toBe('signal');
  });

  it('reports the first batch whose loss is not a number', async () => {
    const [x, y] = points(device);
    const rows = (x.toArray() as number[][]).map((row) => [...row]);
    (rows[29] as number[])[2] = Number.NaN;
    const t = trainer(net(device)).compile({ optimizer: 'adam', loss: logits });
    const options = { ...quiet, batchSize: 8, shuffle: false };
    await expect(t.fit(rows, y, options)).rejects.toThrow(
      'fit: the loss must be finite, got NaN first in batch 3 of epoch 1; x has NaN in row 29',
    );
    const data = new TensorDataset(tensor(rows, { device }), y);
    const loader = new DataLoader(data, { batchSize: 8 });
    await expect(t.fit(loader, quiet)).rejects.toThrow(/epoch 1; look at that batch/);
    const { history } = await t.fit(loader, { ...quiet, allowNaN: true });
    expect(history.loss).toEqual([Number.NaN]);
  });

  it('holds no more memory from the second epoch on', async () => {
    await collectGarbage(); // of the tests before
    const [x, y] = points(device);
    const held: string[] = [];
    const t = trainer(net(device)).compile({
      ...{ optimizer: 'adam', loss: logits, metrics: ['accuracy'] },
    });
    const note = (): void => {
      const { liveTensors, allocated } = memory.stats(device);
      held.push(`${liveTensors} ${allocated}`);
    };
    const train = (epochs: number) =>
      t.fit(x, y, {
        ...{ ...quiet, batchSize: 8, epochs, validationSplit: 0.25 },
        callbacks: [{ onEpochEnd: note }],
      });
    await train(8);
    const [, , third] = held;
    expect(held.slice(2)).toEqual(new Array(6).fill(third));
    held.length = 0;
    await collectGarbage();
    note();
    await train(2);
    await collectGarbage();
    note();
    expect(held.at(-1)).toBe(held[0]);
  });
});

it('takes for batches of many lengths little more memory than for the longest', async () => {
  const held = async (lengths: readonly number[]): Promise<number[]> => {
    const model = sequential([layers.lstm(64), layers.dense(1)], { device: cpu });
    model.compile({ optimizer: 'adam', loss: 'mse' });
    const batches = lengths.map((steps, i): [Tensor, Tensor] => [
      full([32, steps, 32], i / 8, { device: cpu }),
      full([32, 1], i, { device: cpu }),
    ]);
    memory.emptyCache(cpu);
    const before = memory.stats(cpu).reserved;
    const found: number[] = [];
    const onEpochEnd = (): void => void found.push(memory.stats(cpu).reserved - before);
    await model.fit(() => batches, { ...quiet, epochs: 5, callbacks: [{ onEpochEnd }] });
    return found;
  };
  const longest = (await held([240]))[4] as number;
  const [, second = 0, ...later] = await held([80, 48, 160, 64, 240, 32, 96]);
  expect(later).toEqual([second, second, second]);
  expect(second).toBeLessThanOrEqual(2 * longest);
});

it.each([1, 33])('trains on %i samples with a score and a label each', async (rows) => {
  const x = full([rows, 4], 0.5, { device: cpu });
  const y = full([rows], 1, { device: cpu });
  for (const loss of ['binaryCrossentropy', 'mse'] as const) {
    const model = sequential([layers.dense(1, { activation: 'sigmoid' })], { device: cpu });
    model.compile({ optimizer: 'sgd', loss, metrics: ['accuracy', 'mae', 'auc', 'f1'] });
    const { history } = await model.fit(x, y, quiet);
    expect(history.loss?.[0]).toBeGreaterThan(0);
    const logs = await model.evaluate(x, y.reshape([rows, 1]), quiet);
    expect(logs).toEqual(await model.evaluate(x, y, quiet));
  }
});

describe('what fit prints', () => {
  const [x, y] = points(cpu);
  const print = async (verbose: 0 | 1 | 2, isTTY: boolean): Promise<string> => {
    const output = Object.assign(new Output(), { isTTY });
    const t = trainer(net(cpu)).compile({
      ...{ optimizer: 'adam', loss: logits, metrics: ['accuracy'] },
    });
    await t.fit(x, y, { epochs: 2, batchSize: 8, validationSplit: 0.25, verbose, output });
    return output.text;
  };

  it('is a line per epoch where nobody watches', async () => {
    expect(await print(0, true)).toBe('');
    const lines = (await print(2, false)).trimEnd().split('\n');
    const numbers = ['loss', 'accuracy', 'valLoss', 'valAccuracy'].map((n) => ` - ${n}: [\\d.]+`);
    expect(lines).toHaveLength(2);
    const line = new RegExp(
      `^Epoch 1/2 5/5 - \\d+m?s \\d+ms/step [\\d.]+ samples/s, waited \\d+ms for data \\(\\d+%\\)${numbers.join('')}$`,
    );
    expect(lines[0]).toMatch(line);
    expect(lines[1]).toMatch(/^Epoch 2\/2 5\/5 - /);
    expect((await print(1, false)).split('\n')[0]).toBe('Epoch 1/2');
  });

  it('is a bar on a terminal', async () => {
    const text = await print(1, true);
    expect(text).toContain('5/5');
    expect(text).toContain('█');
    expect(text).toContain('valAccuracy');
  });
});

it('wrong calls of fit are told', async () => {
  const [x, y] = points(cpu);
  const model = trainer(net(cpu));
  await expect(model.fit(x, y)).rejects.toThrow('fit: call compile({ optimizer, loss }) first');
  expect(() => model.compile({ optimizer: 'adamant' as 'adam', loss: 'mse' })).toThrow(
    'compile: optimizer must be one of sgd, adam,',
  );
  expect(() => model.compile({ optimizer: 'adam', loss: 'mes' as 'mse' })).toThrow(
    'compile: loss must be one of binaryCrossentropy,',
  );
  model.compile({ optimizer: 'adam', loss: logits });
  await expect(model.fit(x, y.slice(0, 0, 43), quiet)).rejects.toThrow(
    'fit: x and y must have as many samples, got [44,4] and [43]',
  );
  await expect(model.fit(x, y, { ...quiet, validationSplit: 1 })).rejects.toThrow(
    'fit: validationSplit must be in [0,1), got 1',
  );
  const three = 3 as unknown as [Tensor, Tensor][];
  await expect(model.fit(three, quiet)).rejects.toThrow('fit: x must be numbers, a DataLoader');
  const inputsAlone = new Set([[x] as unknown as [Tensor, Tensor]]);
  await expect(model.fit(inputsAlone, quiet)).rejects.toThrow(
    'fit: a batch must be [x, y] or [x, y, weight]',
  );
  await expect(model.fit(x.slice(0, 0, 0), y.slice(0, 0, 0), quiet)).rejects.toThrow(
    'fit: x must have samples, got none in [0,4]',
  );
  const first = model.fit(x, y, quiet);
  await expect(model.evaluate(x, y, quiet)).rejects.toThrow('evaluate: this model is at work');
  await first;
});
