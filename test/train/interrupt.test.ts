/** Runs that end before their time: what is kept, and that resuming goes on to the same bits. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  type BatchSource,
  type Callback,
  copyInto,
  type Dataset,
  EarlyStopping,
  type FitOptions,
  full,
  type History,
  ImageFolder,
  LearningRateScheduler,
  layers,
  loadCheckpoint,
  ModelCheckpoint,
  manualSeed,
  noGrad,
  saveCheckpoint,
  saveImages,
  sequential,
  type Tensor,
  WorkerDataset,
} from '../../lib/index.js';
import { cpu } from '../support/devices.js';
import { bits, logits, points, quiet } from '../support/training.js';

let folder = '';
const at = (name: string): string => path.join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-interrupt-'));
});
afterAll(() => rm(folder, { recursive: true }));

const [x, y] = points(cpu);
const rowsOf = (from: number): [Tensor, Tensor] => [
  x.slice(0, from, from + 11),
  y.slice(0, from, from + 11),
];
function* batches(): Generator<[Tensor, Tensor]> {
  for (let i = 0; i < 4; ++i) yield rowsOf(11 * i);
}

function compiled() {
  manualSeed(1);
  return sequential([layers.dense(6), layers.dropout(0.2), layers.dense(3)], {
    ...{ device: cpu, inputShape: [4] },
  }).compile({ optimizer: 'adam', loss: logits, metrics: ['accuracy'] });
}

const halving = () => new LearningRateScheduler((_, lr) => lr / 2);
const numbersOf = ({ epoch, history }: History) => ({ epoch, history });

/** The run to its end at once, and the same run cut by `cut` and resumed: both are to be equal. */
async function cutAndResumed(
  cut: (model: ReturnType<typeof compiled>, options: FitOptions) => Promise<unknown>,
  validationData?: BatchSource,
): Promise<void> {
  const file = at('last.safetensors');
  const base = { ...quiet, epochs: 3, ...(validationData && { validationData }) };
  const callbacks = () => [
    halving(),
    new EarlyStopping({ monitor: 'loss', patience: 9, restoreBestWeights: true }),
    new ModelCheckpoint({ last: file }),
  ];
  const whole = compiled();
  const expected = await whole.fit(batches, { ...base, callbacks: callbacks() });
  await cut(compiled(), { ...base, callbacks: callbacks() });
  const second = compiled();
  manualSeed(77);
  const found = await second.fit(batches, { ...base, callbacks: callbacks(), resume: file });
  expect(numbersOf(found)).toEqual(numbersOf(expected));
  expect(bits(second)).toBe(bits(whole));
}

it('a source that fails in mid-epoch leaves a checkpoint', async () => {
  let epochs = 0;
  await cutAndResumed(async (model, options) => {
    const failing = function* () {
      if (++epochs === 2) {
        yield* [rowsOf(0), rowsOf(11)];
        throw new Error('the file is gone');
      }
      yield* batches();
    };
    await expect(model.fit(failing, options)).rejects.toThrow('the file is gone');
  });
});

/** A run of samples that are made elsewhere, whose sixth batch `spoil` makes fail. */
async function failsAndResumes<D extends Dataset<readonly Tensor[]>>(
  data: D,
  spoil: (failing: D, indices: Uint32Array) => ReturnType<D['batch']>,
  mend: () => unknown,
  message: RegExp,
): Promise<void> {
  const file = at('elsewhere.safetensors');
  let calls = 0;
  const failing: Dataset<readonly Tensor[]> = {
    length: data.length,
    batch: (indices, place) => (++calls === 6 ? spoil(data, indices) : data.batch(indices, place)),
  };
  const fitted = async (source: Dataset<readonly Tensor[]>, resume?: string) => {
    manualSeed(2);
    const model = sequential([layers.flatten(), layers.dense(1)], { device: cpu });
    model.compile({ optimizer: 'adam', loss: 'mse' });
    if (resume !== undefined) model.build(data.length === 8 ? [3, 8, 8] : [1], 'float32');
    const callbacks = [new ModelCheckpoint({ last: file })];
    const options = { ...quiet, batchSize: 2, epochs: 2, seed: 3, callbacks };
    await model.fit(source, resume === undefined ? options : { ...options, resume });
    return bits(model);
  };
  const expected = await fitted(data);
  await expect(fitted(failing)).rejects.toThrow(message);
  await mend();
  expect(await fitted(data, file)).toBe(expected);
}

it('a killed worker leaves a checkpoint', async () => {
  const program = new URL('../data/serve.mjs', import.meta.url);
  type Squares = { square: Tensor };
  const workers = await WorkerDataset.start<Squares>(program, {
    workers: 1,
    data: { samples: 20 },
  });
  const pair = ({ square }: Squares): [Tensor, Tensor] => {
    const x = square.reshape([-1, 1]).to('float32').mul(0.01);
    return [x, x.mul(2)];
  };
  const data: Dataset<readonly Tensor[]> = {
    length: 10,
    batch: async (indices, place) => pair(await workers.batch(indices, place)),
  };
  const kill = async () => pair(await workers.batch(Uint32Array.of(17)));
  await failsAndResumes(data, kill, () => {}, /worker 1 of 1 ended/);
  await workers.close();
});

it('a broken picture leaves a checkpoint', async () => {
  for (let i = 0; i < 8; ++i) {
    const picture = full([1, 3, 8, 8], i / 8, { device: cpu });
    await saveImages(at(`pictures/${i < 4 ? 'a' : 'b'}/${i}.jpg`), picture);
  }
  const data = new ImageFolder(at('pictures'), { size: 8 });
  const whole = await Promise.all(data.files.map((file) => readFile(file)));
  const spoil = async (pictures: typeof data, indices: Uint32Array) => {
    for (const i of indices) {
      await writeFile(data.files[i] as string, (whole[i] as Buffer).subarray(0, 40));
    }
    return pictures.batch(indices);
  };
  const mend = () => Promise.all(data.files.map((file, i) => writeFile(file, whole[i] as Buffer)));
  await failsAndResumes(data, spoil, mend, /^ImageFolder: /);
});

it('a stop after a batch leaves a checkpoint, before best weights are restored', async () => {
  let seen = 0;
  await cutAndResumed(async (model, options) => {
    const stop: Callback = { onBatchEnd: (_, __, run) => void (++seen === 7 && run.stop()) };
    const [first, ...rest] = options.callbacks as Callback[];
    const both: Callback = {
      onBatchEnd: (...args) => stop.onBatchEnd?.(...args),
      onEpochBegin: (...args) => first?.onEpochBegin?.(...args),
      stateDict: () => first?.stateDict?.(),
    };
    const { stopped } = await model.fit(batches, { ...options, callbacks: [both, ...rest] });
    expect(stopped).toBe('callback');
  });
});

it('a signal ends a validation, whose numbers are dropped', async () => {
  let asked = 0;
  const abort = new AbortController();
  const validation = function* () {
    yield* batches();
  };
  const endless = function* () {
    for (;;) {
      if (++asked === 9) abort.abort();
      yield rowsOf(0);
    }
  };
  await cutAndResumed(async (model, options) => {
    const { signal } = abort;
    const cut = { ...options, validationData: endless, signal };
    const { history, stopped } = await model.fit(batches, cut);
    expect([history, stopped, asked]).toEqual([{}, 'signal', 9]);
    const limited = compiled();
    const one = { ...quiet, validationData: () => Array(9).fill(rowsOf(0)), validationSteps: 1 };
    const logs = (await limited.fit(x, y, one)).history;
    const held = await limited.evaluate(...rowsOf(0), quiet);
    expect([logs.valLoss, logs.valAccuracy]).toEqual([[held.loss], [held.accuracy]]);
    await expect(limited.evaluate(endless, { ...quiet, signal })).rejects.toBe(signal.reason);
    await expect(limited.predict(endless, { signal })).rejects.toBe(signal.reason);
  }, validation);
});

it('neither a loss nor weights that are NaN replace a good checkpoint', async () => {
  const file = at('good.safetensors');
  const callbacks = [new ModelCheckpoint({ last: file, everyBatches: 1 })];
  const bad = full([11, 4], Number.NaN, { device: cpu });
  const model = compiled();
  const spoilt = [rowsOf(0), rowsOf(11), [bad, rowsOf(0)[1]], rowsOf(22)] as [Tensor, Tensor][];
  let kept = '';
  const watch: Callback = {
    onBatchBegin: (batch, { model: m }) => {
      if (batch === 2) kept = bits(m);
    },
  };
  await expect(
    model.fit(() => spoilt, { ...quiet, callbacks: [watch, ...callbacks] }),
  ).rejects.toThrow('the loss must be finite, got NaN first in batch 2');
  const restored = compiled();
  await loadCheckpoint(file, { model: restored });
  expect(bits(restored)).toBe(kept);
  const before = await readFile(file);
  const spoil: Callback = {
    onBatchEnd: (_, __, run) => {
      const weight = [...run.model.parameters()][0] as Tensor;
      noGrad(() => copyInto(weight, full(weight.shape, Number.POSITIVE_INFINITY, { device: cpu })));
    },
  };
  await expect(
    compiled().fit(x, y, { ...quiet, callbacks: [spoil, ...callbacks] }),
  ).rejects.toThrow(/weights must be finite to be saved, got NaN or Infinity in dense.weight/);
  expect((await readFile(file)).equals(before)).toBe(true);
});

it('checkpoints hold numbers that are not finite, in folders that they make', async () => {
  const file = at('new/folder/run.safetensors');
  const extra = { loss: [Number.NaN, Number.POSITIVE_INFINITY, 1], best: null, text: 'NaN' };
  await saveCheckpoint(file, { model: compiled(), extra });
  expect(await loadCheckpoint(file, { model: compiled() })).toEqual(extra);
  expect((await stat(file)).size).toBeGreaterThan(0);
  await expect(saveCheckpoint(path.join(file, 'x'), { model: compiled() })).rejects.toThrow(
    `saveCheckpoint: cannot write ${path.join(file, 'x')}`,
  );
});
