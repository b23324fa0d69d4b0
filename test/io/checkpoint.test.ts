import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  bernoulli,
  capture,
  DataLoader,
  type Device,
  defaultGenerator,
  Generator,
  loadCheckpoint,
  loadSafetensors,
  manualSeed,
  memory,
  models,
  nn,
  optim,
  rand,
  saveCheckpoint,
  saveSafetensors,
  scope,
  type Tensor,
  TensorDataset,
  uniform,
  zeros,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { collectGarbage } from '../support/garbage.js';

let folder = '';
const at = (name: string) => path.join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-checkpoint-'));
});
afterAll(() => rm(folder, { recursive: true }));

type Make = (parameters: Iterable<Tensor>) => optim.SGD | optim.Adam;
const optimizers: [string, Make][] = [
  ['SGD', (p) => new optim.SGD(p, { lr: 0.1, momentum: 0.9 })],
  ['AdamW', (p) => new optim.AdamW(p, { lr: 0.01 })],
];

/** A network with dropout, its data in batches of 8, 8, 8 and 6, and a step. */
function makeRun(device: Device, make: Make, captured: boolean) {
  const data = new TensorDataset(
    uniform([30, 6], -1, 1, { generator: new Generator(3) }),
    zeros([30], { dtype: 'int64' }),
  );
  const loader = new DataLoader(data, { batchSize: 8, shuffle: true, seed: 9, device });
  const model = models.mlp([6, 7, 3], { device });
  const optimizer = make(model.parameters());
  const criterion = new nn.CrossEntropyLoss();
  const train = (x: Tensor, y: Tensor) => {
    optimizer.zeroGrad();
    const dropped = x.mul(bernoulli(x.shape, 0.8, { device }));
    const loss = criterion.forward(model.forward(dropped), y);
    loss.backward();
    optimizer.step();
    return loss;
  };
  return { run: { loader, model, optimizer }, step: captured ? capture(train) : train };
}

/** Trains until a count of steps; the losses. */
async function train(
  { run: { loader }, step }: ReturnType<typeof makeRun>,
  steps: number,
): Promise<number[]> {
  const losses: number[] = [];
  while (losses.length < steps) {
    for await (const [x, y] of loader) {
      losses.push((await step(x, y)).item() as number);
      if (losses.length === steps) break;
    }
  }
  return losses;
}

function weights(model: nn.Module): string {
  return [...model.parameters()].map((p) => Buffer.from(p.data().buffer).toString('hex')).join();
}

describe.each(devices)('checkpoints on %s', (device) => {
  describe.each(optimizers)('of %s', (_, make) => {
    it.each([
      ['eager', false],
      ['captured', true],
    ])('resume to the same bits, %s', async (_, captured) => {
      for (const stop of [1, 4, 6]) {
        const file = at('run');
        manualSeed(1);
        const whole = makeRun(device, make, captured);
        const expected = await train(whole, 11);

        manualSeed(1);
        const first = makeRun(device, make, captured);
        const seen = await train(first, stop);
        await saveCheckpoint(file, { ...first.run, extra: { seen } });

        manualSeed(77);
        const second = makeRun(device, make, captured);
        await train(second, 3); // what is there is overwritten
        const extra = await loadCheckpoint<{ seen: number[] }>(file, second.run);
        expect(extra.seen).toEqual(seen);
        expect(second.run.optimizer.lr).toBe(first.run.optimizer.lr);
        seen.push(...(await train(second, 11 - stop)));
        expect(seen).toEqual(expected);
        expect(weights(second.run.model)).toBe(weights(whole.run.model));
      }
      manualSeed(0);
    });
  });

  it('leave no tensors behind', async () => {
    const made = makeRun(device, (p) => new optim.Adam(p), false);
    const { run } = made;
    await train(made, 2);
    await collectGarbage(); // of other tests
    const before = memory.stats().liveTensors;
    await saveCheckpoint(at('live'), run);
    expect(memory.stats().liveTensors).toBe(before);
    await scope(() => loadCheckpoint(at('live'), run));
    expect(memory.stats().liveTensors).toBeLessThanOrEqual(before + 1);
  });
});

describe('checkpoint files', () => {
  it('hold the tensors by part, readable by others', async () => {
    const generator = new Generator(5);
    rand([4], { generator });
    const model = new nn.Linear(2, 3);
    const optimizer = new optim.SGD(model.parameters(), { lr: 0.5, momentum: 0.9 });
    optimizer.apply([zeros([3, 2]), zeros([3])]);
    await saveCheckpoint(at('parts'), { model, optimizer, generator });
    const { tensors } = await loadSafetensors(at('parts'));
    expect([...tensors.keys()].sort()).toEqual([
      'generator.cpu',
      'model.bias',
      'model.weight',
      ...['dampening', 'form', 'lr', 'maximize', 'momentum', 'nesterov', 'weightDecay'].map(
        (name) => `optimizer.group.0.${name}`,
      ),
      'optimizer.state.0.hyper',
      'optimizer.state.0.momentum',
      'optimizer.state.1.hyper',
      'optimizer.state.1.momentum',
    ]);
    expect(tensors.get('generator.cpu')?.toArray()).toEqual([5, Number(generator.getState()[1])]);
  });

  it('restore parts alone', async () => {
    const [a, b] = [new nn.Linear(2, 3), new nn.Linear(2, 3)];
    const state = defaultGenerator.getState();
    await saveCheckpoint(at('model'), { model: a });
    rand([10]);
    expect(await loadCheckpoint(at('model'), { model: b })).toBeUndefined();
    expect(weights(b)).toBe(weights(a));
    expect(defaultGenerator.getState()).toEqual(state);
  });

  it('say what they lack and what does not fit', async () => {
    const model = new nn.Linear(2, 3);
    const optimizer = new optim.SGD(model.parameters());
    const loader = new DataLoader(new TensorDataset(zeros([4])), { batchSize: 2 });
    await saveCheckpoint(at('lacking'), { model });
    await expect(loadCheckpoint(at('lacking'), { model, optimizer, loader })).rejects.toThrow(
      /loadCheckpoint: .*lacking was saved without \["optimizer","loader"\]/,
    );
    await expect(loadCheckpoint(at('lacking'), { model: new nn.Linear(3, 2) })).rejects.toThrow(
      /weight must have the shape \[2,3\], got \[3,2\]/,
    );
    await expect(loadCheckpoint(at('lacking'), { model: models.mlp([2, 3, 4]) })).rejects.toThrow(
      /names must match, missing/,
    );
    await saveSafetensors(at('foreign'), model.stateDict());
    await expect(loadCheckpoint(at('foreign'), { model })).rejects.toThrow(/is no checkpoint/);
    await expect(loadCheckpoint(at('absent'), { model })).rejects.toThrow(/cannot open .*absent/);
    const whole = await readFile(at('lacking'));
    await writeFile(at('cut'), whole.subarray(0, whole.length - 5));
    await expect(loadCheckpoint(at('cut'), { model })).rejects.toThrow(/loadSafetensors: .*cut/);
    await expect(saveCheckpoint(at('x'), { extra: { big: 1n } })).rejects.toThrow(
      /saveCheckpoint: extra must be JSON: .*BigInt/,
    );
  });
});
