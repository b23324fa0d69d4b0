/** Checkpoints of runs: best and last, resumed to the bit, on a disk that is full. */
import { mkdtemp, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  type Callback,
  type Device,
  EarlyStopping,
  type FitOptions,
  type History,
  LearningRateScheduler,
  layers,
  ModelCheckpoint,
  manualSeed,
  nn,
  optim,
  ReduceOnPlateau,
  sequential,
  TensorDataset,
} from '../../lib/index.js';
import { cpu, devices } from '../support/devices.js';
import { bits, logits, points, quiet } from '../support/training.js';

let folder = '';
const at = (name: string): string => path.join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-resume-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A model with dropout and batch norm, so that random numbers and buffers matter. */
function compiled(device: Device) {
  return sequential(
    [
      layers.dense(8, { activation: 'relu' }),
      layers.batchNorm(),
      layers.dropout(0.3),
      layers.dense(3),
    ],
    { device, inputShape: [4] },
  ).compile({
    optimizer: 'adam',
    loss: logits,
    metrics: ['accuracy'],
  });
}

const numbersOf = ({ epoch, history, stopped }: History) => ({ epoch, history, stopped });

const others = (): Callback[] => [
  new EarlyStopping({ monitor: 'loss', patience: 50, restoreBestWeights: true }),
  new LearningRateScheduler({
    make: (o) => new optim.CosineAnnealingLR(o, { tMax: 30 }),
    per: 'batch',
  }),
  new ReduceOnPlateau({ monitor: 'loss', patience: 1 }),
];

describe.each(devices)('runs on $name', (device) => {
  const [x, y] = points(device);
  const options: FitOptions = { ...quiet, batchSize: 10, epochs: 5, validationSplit: 0.25 };
  const kinds: [string, (o: FitOptions, model: ReturnType<typeof compiled>) => Promise<History>][] =
    [
      ['in memory', async (o, model) => model.fit(x, y, o)],
      [
        'of a generator',
        async (o, model) => {
          const { validationSplit: _, batchSize: __, ...rest } = o;
          const batches = function* () {
            for (let i = 0; i < 4; ++i)
              yield [x.slice(0, 8 * i, 8 * i + 8), y.slice(0, 8 * i, 8 * i + 8)] as const;
          };
          return model.fit(batches, rest);
        },
      ],
      [
        'of a dataset',
        async (o, model) => {
          const { validationSplit: _, ...rest } = o;
          return model.fit(new TensorDataset(x, y), rest);
        },
      ],
    ];

  describe.each(kinds)('%s', (_, train) => {
    it.each([2, 6, 8])('resume to the same bits after %i batches', async (batches) => {
      const file = at('last.safetensors');
      manualSeed(1);
      const whole = compiled(device);
      const expected = await train({ ...options, callbacks: others() }, whole);

      manualSeed(1);
      const abort = new AbortController();
      let seen = 0;
      const stop: Callback = {
        onBatchEnd: () => {
          if (++seen === batches) abort.abort();
        },
      };
      const checkpoint = () => new ModelCheckpoint({ last: file });
      await train(
        { ...options, signal: abort.signal, callbacks: [...others(), checkpoint(), stop] },
        compiled(device),
      );

      manualSeed(99);
      const second = compiled(device);
      const callbacks = [...others(), checkpoint(), {}];
      const found = await train({ ...options, callbacks, resume: file }, second);
      expect(numbersOf(found)).toEqual(numbersOf(expected));
      expect(found.timing).toHaveLength(5);
      expect(bits(second)).toBe(bits(whole));
      manualSeed(0);
    });
  });
});

it('the best epoch is kept beside the last', async () => {
  const [best, last] = [at('deep/best.safetensors'), at('deep/last.safetensors')];
  const [x, y] = points(cpu);
  const values = [3, 1, 2];
  const weights: string[] = [];
  const watch: Callback = {
    onEpochEnd: (epoch, logs, { model }) => {
      logs.watched = values[epoch] as number;
      weights.push(bits(model));
    },
  };
  const model = compiled(cpu);
  const checkpoint = new ModelCheckpoint({ best, last, monitor: 'watched', mode: 'min' });
  await model.fit(x, y, { ...quiet, epochs: 3, callbacks: [checkpoint, watch] });
  for (const [file, epoch] of [
    [best, 1],
    [last, 2],
  ] as const) {
    const loaded = compiled(cpu);
    const history = await loaded.fit(x, y, {
      ...{ ...quiet, epochs: epoch + 1, resume: file },
      callbacks: [new ModelCheckpoint({ best, monitor: 'watched', mode: 'min' }), watch],
    });
    expect(bits(loaded)).toBe(weights[epoch]);
    expect(history.epoch).toHaveLength(epoch + 1);
  }
  const other = compiled(cpu);
  await expect(other.fit(x, y, { ...quiet, resume: last })).rejects.toThrow(
    /is no checkpoint of a run with these metrics and callbacks/,
  );
  await expect(other.fit(x, y, { ...quiet, resume: at('none') })).rejects.toThrow('cannot open');
  expect(() => new ModelCheckpoint({})).toThrow('ModelCheckpoint: needs a file for best or last');
});

it('a full disk is told, and what was there stays', async () => {
  const file = at('full/run.safetensors');
  const [x, y] = points(cpu);
  const model = compiled(cpu);
  const callbacks = [new ModelCheckpoint({ last: file })];
  await model.fit(x, y, { ...quiet, callbacks });
  const before = await readFile(file);
  // As the system does it: part of the bytes arrive, then an error.
  const handle = await open(file, 'r');
  const prototype = Object.getPrototypeOf(handle) as typeof handle;
  await handle.close();
  const write = prototype.writeFile;
  let calls = 0;
  const spy = vi.spyOn(prototype, 'writeFile').mockImplementation(async function (
    this: typeof handle,
    ...args
  ) {
    if (++calls < 3) return write.apply(this, args);
    const full = new Error('ENOSPC: no space left on device, write');
    throw Object.assign(full, { code: 'ENOSPC', syscall: 'write' });
  });
  try {
    await expect(model.fit(x, y, { ...quiet, callbacks })).rejects.toThrow(
      `saveCheckpoint: cannot write ${file}, what it held is untouched: the disk is full`,
    );
  } finally {
    spy.mockRestore();
  }
  expect(calls).toBe(4); // once more where the error ends the run
  expect((await readFile(file)).equals(before)).toBe(true);
  expect(await readdir(path.dirname(file))).toEqual([path.basename(file)]);
  expect((await stat(file)).size).toBe(before.length);
  const again = compiled(cpu);
  await again.fit(x, y, { ...quiet, epochs: 2, callbacks, resume: file });
  expect(again.trainer.optimizer).toBeInstanceOf(optim.Adam);
  expect(again.layers[0]).toBeInstanceOf(nn.Linear);
});
