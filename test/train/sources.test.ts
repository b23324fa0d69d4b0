/** Everything that `fit` takes batches from. */
import { describe, expect, it } from 'vitest';
import {
  DataLoader,
  type History,
  IterableDataset,
  type Tensor,
  TensorDataset,
  type Trainer,
  tensor,
  trainer,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { bits, logits, net, points, quiet } from '../support/training.js';

describe.each(devices)('sources on $name', (device) => {
  it('are numbers, datasets, loaders, iterables and generators alike', async () => {
    const [x, y] = points(device);
    const rows = x.toArray() as number[][];
    const labels = y.toArray() as number[];
    const batch = (i: number) =>
      [rows.slice(8 * i, 8 * i + 8), labels.slice(8 * i, 8 * i + 8)] as const;
    const numbers = [0, 1, 2, 3, 4, 5];
    const data = new TensorDataset(x, y);
    const tensors = numbers.map((i) => {
      const [begin, end] = [8 * i, Math.min(8 * i + 8, 44)];
      return [x.slice(0, begin, end), y.slice(0, begin, end)] as const;
    });
    const plain = { ...quiet, epochs: 2 };
    const options = { ...plain, batchSize: 8, shuffle: false };
    const sources: Record<string, (t: Trainer) => Promise<History>> = {
      arrays: (t) => t.fit(rows, labels, options),
      'typed arrays': (t) => t.fit(rows, Int32Array.from(labels), options),
      dataset: (t) => t.fit(data, options),
      loader: (t) => t.fit(new DataLoader(data, { batchSize: 8, device }), plain),
      stream: (t) =>
        t.fit(
          new IterableDataset(() =>
            rows.map(
              (row, i) => [tensor(row), tensor(labels[i] as number, { dtype: 'int64' })] as const,
            ),
          ),
          options,
        ),
      'array of batches': (t) => t.fit(tensors, plain),
      set: (t) => t.fit(new Set(numbers.map(batch)), plain),
      generator: (t) =>
        t.fit(function* () {
          for (const i of numbers) yield batch(i);
        }, plain),
      'asynchronous generator': (t) =>
        t.fit(async function* () {
          for (const i of numbers) {
            await Promise.resolve();
            const [a, b] = batch(i);
            yield [tensor(a, { device }), tensor(b, { device })] as const;
          }
        }, plain),
    };
    const found = new Map<string, string>();
    for (const [name, train] of Object.entries(sources)) {
      const model = net(device);
      const t = trainer(model).compile({ optimizer: 'adam', loss: logits, metrics: ['accuracy'] });
      const { history } = await train(t as unknown as Trainer);
      found.set(name, `${bits(model)} ${JSON.stringify(history)}`);
    }
    for (const [name, result] of found) expect(result, name).toBe(found.get('arrays'));
  });

  it('that are arrays of batches serve every call', async () => {
    const [x, y] = points(device);
    const [a, b] = [0, 22].map((at) => [x, y].map((t) => t.slice(0, at, at + 22))) as [
      [Tensor, Tensor],
      [Tensor, Tensor],
    ];
    const t = trainer(net(device)).compile({ optimizer: 'sgd', loss: logits });
    const { history } = await t.fit([a, b], { ...quiet, epochs: 2, validationData: [a, b] });
    const { loss } = await t.evaluate([a, b], quiet);
    expect(loss).toBe(history.valLoss?.[1]);
    expect(loss).toBeCloseTo((await t.evaluate(x, y, quiet)).loss as number, 6);
    expect((await t.predict([a, b])).shape).toEqual([44, 3]);
    expect((await t.predict([[x], [x]])).shape).toEqual([88, 3]);
    expect((await t.evaluate([[[x], y]], quiet)).loss).toBeCloseTo(loss as number, 6);
  });

  it('that are iterators go on from epoch to epoch, and say when they end', async () => {
    const [x, y] = points(device);
    const made: number[] = [];
    function* counted(count: number): Generator<[Tensor, Tensor]> {
      for (let i = 0; i < count; ++i) {
        made.push(i);
        yield [x, y];
      }
    }
    const t = trainer(net(device)).compile({ optimizer: 'sgd', loss: logits });
    await t.fit(counted(100), { ...quiet, epochs: 3, steps: 2 });
    expect(made).toEqual([0, 1, 2, 3, 4, 5]);
    await expect(t.fit(counted(1), { ...quiet, epochs: 2 })).rejects.toThrow(
      'fit: the source gave no batches in epoch 2; a function is asked anew for each epoch',
    );
  });

  it('whose batches are empty are refused, and weights stay finite', async () => {
    const model = net(device);
    const [x, y] = points(device);
    const none = [x.slice(0, 0, 0), y.slice(0, 0, 0)] as const;
    const t = trainer(model).compile({ optimizer: 'sgd', loss: logits });
    for (const [op, run] of [
      ['fit', () => t.fit([[x, y], none], quiet)],
      ['evaluate', () => t.evaluate([[x, y], none], quiet)],
    ] as const) {
      await expect(run()).rejects.toThrow(`${op}: a batch must have samples, got none in [0,4]`);
    }
    expect((await t.predict([[x], [none[0]]])).shape).toEqual([44, 3]);
    for (const p of model.parameters()) expect([...p.data()].every(Number.isFinite)).toBe(true);
  });
});
