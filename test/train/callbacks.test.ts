/** Callbacks: what they do to a run, and what they write. */
import { appendFile, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Callback,
  CSVLogger,
  DataLoader,
  EarlyStopping,
  EventWriter,
  LearningRateScheduler,
  type Logs,
  LossCurves,
  linePlot,
  ModelCheckpoint,
  matrixPlot,
  metrics,
  oneHot,
  optim,
  ReduceOnPlateau,
  type Run,
  TensorBoard,
  TensorDataset,
  trainer,
} from '../../lib/index.js';
import { cpu } from '../support/devices.js';
import { bits, logits, net, points, quiet } from '../support/training.js';

let folder = '';
const at = (name: string): string => path.join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-callbacks-'));
});
afterAll(() => rm(folder, { recursive: true }));

const [x, y] = points(cpu);
const compiled = () =>
  trainer(net(cpu)).compile({ optimizer: 'adam', loss: logits, metrics: ['accuracy'] });

/** Puts numbers of its own into the logs, as a stand-in for what training finds. */
function script(name: string, values: number[]): Callback {
  return {
    onEpochEnd: (epoch, logs) => {
      logs[name] = values[epoch] as number;
    },
  };
}

describe('callbacks', () => {
  it('are called in order, those that say so last', async () => {
    const seen: string[] = [];
    const note = (name: string, last = false): Callback => ({
      last,
      onTrainBegin: () => void seen.push(`${name} begin`),
      onEpochBegin: async (epoch) => void seen.push(`${name} epoch ${epoch}`),
      onBatchBegin: (batch) => void seen.push(`${name} batch ${batch}`),
      onBatchEnd: (batch) => void seen.push(`${name} batch ${batch} done`),
      onEpochEnd: (epoch, { loss }, run: Run) => {
        seen.push(`${name} epoch ${epoch} done ${loss === run.history.history.loss?.at(-1)}`);
        run.stop();
      },
      onTrainEnd: ({ stopped }) => void seen.push(`${name} ${stopped}`),
    });
    await compiled().fit(x, y, {
      ...{ ...quiet, batchSize: 44, epochs: 3 },
      callbacks: [note('b', true), note('a')],
    });
    expect(seen).toEqual(
      [...['begin', 'epoch 0', 'batch 0', 'batch 0 done', 'epoch 0 done true', 'callback']].flatMap(
        (what) => [`a ${what}`, `b ${what}`],
      ),
    );
  });

  it('stop early, with the weights of the best epoch', async () => {
    const values = [3, 2, 2.05, 1.95, 1.96, 2, 9, 9];
    const kept: string[] = [];
    const run = async (options: object, list = values) => {
      kept.length = 0;
      const t = compiled();
      const watch: Callback = { onEpochEnd: (_, __, { model }) => void kept.push(bits(model)) };
      const stopping = new EarlyStopping({ monitor: 'watched', mode: 'min', ...options });
      const history = await t.fit(x, y, {
        ...{ ...quiet, epochs: list.length },
        callbacks: [script('watched', list), watch, stopping],
      });
      return [history.epoch.length, history.stopped, bits(t.model), stopping.best] as const;
    };
    const best = await run({ patience: 2, restoreBestWeights: true });
    expect(best).toEqual([6, 'callback', kept[3], 1.95]);
    expect(await run({ patience: 2, minDelta: 0.1 })).toEqual([4, 'callback', kept[3], 2]);
    expect((await run({ mode: 'max', patience: 3 }))[0]).toBe(4);
    expect((await run({ monitor: 'accuracy' }, [1]))[0]).toBe(1);
    await expect(run({ monitor: 'valLoss' })).rejects.toThrow(
      'EarlyStopping: monitor must be one of loss, accuracy, watched, got valLoss',
    );
  });

  it('leave a run that was stopped early as it is, however often it is resumed', async () => {
    const last = at('stopped');
    const run = async (patience: number, more: object) => {
      const stopping = new EarlyStopping({
        ...{ monitor: 'loss', minDelta: 10, patience, restoreBestWeights: true },
      });
      const t = compiled();
      const { epoch, stopped } = await t.fit(x, y, {
        ...{ ...quiet, epochs: 9, ...more },
        callbacks: [stopping, new ModelCheckpoint({ last })],
      });
      return [epoch.length, stopped, bits(t.model)];
    };
    const first = await run(2, {});
    expect(first.slice(0, 2)).toEqual([3, 'callback']);
    expect(await run(2, { resume: last })).toEqual(first);
    expect(await run(2, { resume: last })).toEqual(first);
    expect((await run(4, { resume: last })).slice(0, 2)).toEqual([5, 'callback']);
  });

  it('know what is best of losses and metrics under any name, and ask of other numbers', async () => {
    const named = [
      new metrics.F1({ average: 'macro', name: 'macroF1' }),
      new metrics.MeanSquaredError({ name: 'accuracyLost' }),
    ];
    // Logs tell of epochs what they are scripted to; validation has the names of its own.
    const best = async (monitor: string, values: number[]) => {
      const stopping = new EarlyStopping({ monitor, patience: 9 });
      const labels = oneHot(y, 3, { dtype: 'float32' });
      await trainer(net(cpu))
        .compile({ optimizer: 'adam', loss: 'mse', metrics: named })
        .fit(x, labels, {
          ...{ ...quiet, epochs: 3, validationSplit: 0.25 },
          callbacks: [script(monitor, values), stopping],
        });
      return stopping.best;
    };
    expect(await best('valMacroF1', [0.1, 0.9, 0.5])).toBe(0.9);
    expect(await best('macroF1', [0.1, 0.9, 0.5])).toBe(0.9);
    expect(await best('valAccuracyLost', [0.1, 0.9, 0.5])).toBe(0.1);
    expect(await best('valLoss', [0.5, 0.1, 0.9])).toBe(0.1);
    const begun: Callback[] = [
      new EarlyStopping({ monitor: 'own' }),
      new ReduceOnPlateau({ monitor: 'own' }),
      new ModelCheckpoint({ best: at('own'), monitor: 'own' }),
    ];
    for (const callback of begun) {
      const fitted = compiled().fit(x, y, { ...quiet, callbacks: [script('own', [1]), callback] });
      await expect(fitted).rejects.toThrow(
        `${callback.constructor.name}: mode must be given to monitor what does not tell its own best, got own`,
      );
    }
  });

  it('set learning rates by functions, by schedules and by what is reached', async () => {
    const rates: number[] = [];
    const watch = (per: 'onBatchBegin' | 'onEpochBegin' | 'onEpochEnd'): Callback => ({
      last: true,
      [per]: (...args: unknown[]) => void rates.push((args.at(-1) as Run).optimizer.lr),
    });
    const run = async (callbacks: Callback[], epochs = 3): Promise<number[]> => {
      rates.length = 0;
      await compiled().fit(x, y, { ...quiet, batchSize: 22, epochs, callbacks });
      return rates.map((rate) => Number(rate.toPrecision(6)));
    };
    const own = new LearningRateScheduler((epoch, lr) => (epoch === 0 ? lr : lr / 2));
    expect(await run([own, watch('onEpochBegin')])).toEqual([0.001, 0.0005, 0.00025]);
    const make = (o: Run['optimizer']) =>
      new optim.LinearLR(o, { startFactor: 0.5, totalIters: 4 });
    const perBatch = new LearningRateScheduler({ make, per: 'batch' });
    expect(await run([perBatch, watch('onBatchBegin')])).toEqual([
      ...[0.0005, 0.000625, 0.00075, 0.000875, 0.001, 0.001],
    ]);
    const perEpoch = new LearningRateScheduler({ make });
    for (const per of ['onEpochBegin', 'onEpochEnd'] as const) {
      expect(await run([perEpoch, watch(per)])).toEqual([0.0005, 0.000625, 0.00075]);
    }
    const values = [1, 1, 1, 0.5, 0.5];
    const plateau = new ReduceOnPlateau({
      ...{ monitor: 'watched', mode: 'min', factor: 0.1, patience: 1 },
    });
    expect(await run([script('watched', values), plateau, watch('onEpochBegin')], 5)).toEqual([
      ...[0.001, 0.001, 0.001, 0.0001, 0.0001],
    ]);
  });

  it('add numbers to the history', async () => {
    const late: Callback = {
      onEpochEnd: (epoch, logs) => {
        if (epoch > 0) logs.late = 7;
      },
    };
    const { history } = await compiled().fit(x, y, {
      ...{ ...quiet, epochs: 2 },
      callbacks: [script('mine', [3, 4]), late],
    });
    expect(history).toMatchObject({ mine: [3, 4], late: [Number.NaN, 7] });
    expect(history.loss).toHaveLength(2);
  });

  it('write tables and curves', async () => {
    const [csv, svg] = [at('log/run.csv'), at('log/run.svg')];
    const options = { ...quiet, epochs: 2, validationSplit: 0.25 };
    const history = await compiled().fit(x, y, {
      ...options,
      callbacks: [new CSVLogger(csv), new LossCurves(svg)],
    });
    await compiled().fit(x, y, { ...options, callbacks: [new CSVLogger(csv, { append: true })] });
    const lines = (await readFile(csv, 'utf8')).trimEnd().split('\n');
    expect(lines[0]).toBe('epoch,loss,accuracy,valLoss,valAccuracy');
    expect(lines.slice(1).map((line) => line.split(',')[0])).toEqual(['0', '1', '0', '1']);
    expect(Number(lines[2]?.split(',')[3])).toBe(history.history.valLoss?.[1]);
    const fresh = at('log/fresh.csv');
    await compiled().fit(x, y, {
      ...{ ...quiet, epochs: 1, callbacks: [new CSVLogger(fresh, { append: true })] },
    });
    expect(await readFile(fresh, 'utf8')).toMatch(/^epoch,loss,accuracy\n0,/);
    const last = at('log/last');
    const log = () => [new CSVLogger(fresh), new ModelCheckpoint({ last })];
    await compiled().fit(x, y, { ...quiet, epochs: 2, callbacks: log() });
    const before = await readFile(fresh, 'utf8');
    await appendFile(fresh, '2,9,9\n'); // of an epoch that the checkpoint does not hold
    await compiled().fit(x, y, { ...quiet, epochs: 3, callbacks: log(), resume: last });
    const after = await readFile(fresh, 'utf8');
    expect(after.startsWith(before)).toBe(true);
    expect(
      after
        .trimEnd()
        .split('\n')
        .map((line) => line.split(',')[0]),
    ).toEqual([...['epoch', '0', '1', '2']]);
    const picture = await readFile(svg, 'utf8');
    expect(picture.match(/<polyline/g)).toHaveLength(2);
    expect(picture).toContain('>valLoss</text>');
  });
});

it('files that cannot be written are named, and closed', async () => {
  const handles = async () => (await readdir('/proc/self/fd')).length;
  const writers: [Callback, string][] = [
    [new CSVLogger('/dev/full'), 'CSVLogger: cannot write /dev/full: the disk is full'],
    [new LossCurves('/dev/full'), 'LossCurves: cannot write /dev/full: the disk is full'],
  ];
  for (const [callback, message] of writers) {
    const fitted = compiled().fit(x, y, { ...quiet, callbacks: [callback] });
    await expect(fitted).rejects.toThrow(message);
  }
  await appendFile(at('file'), '');
  const inside = at('file/last');
  const checkpoint = new ModelCheckpoint({ last: inside });
  await expect(compiled().fit(x, y, { ...quiet, callbacks: [checkpoint] })).rejects.toThrow(
    `ModelCheckpoint: cannot write ${inside}: EEXIST`,
  );
  const before = await handles();
  const broken: Callback = {
    last: true,
    onEpochEnd: () => {
      throw new Error('first');
    },
    onTrainEnd: () => {
      throw new Error('second');
    },
  };
  const board = new TensorBoard(at('broken'));
  const options = { ...quiet, validationSplit: 0.25, callbacks: [broken, board] };
  await expect(compiled().fit(x, y, options)).rejects.toThrow('first');
  expect(await handles()).toBe(before);
});

/** CRC-32C by its definition: the remainder of a polynomial division, bit by bit. */
function crc32c(bytes: Uint8Array): number {
  let rest = 0xffffffffn;
  for (const byte of bytes) {
    rest ^= BigInt(byte);
    for (let i = 0; i < 8; ++i) rest = rest & 1n ? (rest >> 1n) ^ 0x82f63b78n : rest >> 1n;
  }
  return Number(rest ^ 0xffffffffn);
}

/** The mask of TFRecord files. */
function masked(bytes: Uint8Array): number {
  const sum = crc32c(bytes);
  return (Math.floor(sum / 2 ** 15) + (sum % 2 ** 15) * 2 ** 17 + 0xa282ead8) % 2 ** 32;
}

type Fields = Map<number, (number | bigint | Buffer)[]>;

/** The fields of a protobuf message, by the wire format alone. */
function fieldsOf(message: Buffer): Fields {
  const found: Fields = new Map();
  let place = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = BigInt(message.readUInt8(place++));
      value |= (byte & 127n) << shift;
      if (byte < 128n) return value;
    }
  };
  while (place < message.length) {
    const key = Number(varint());
    let value: number | bigint | Buffer;
    if (key % 8 === 0) {
      value = varint();
    } else if (key % 8 === 1) {
      value = message.readDoubleLE(place);
      place += 8;
    } else if (key % 8 === 5) {
      value = message.readFloatLE(place);
      place += 4;
    } else {
      const length = Number(varint());
      value = message.subarray(place, place + length);
      place += length;
    }
    found.set(key >> 3, [...(found.get(key >> 3) ?? []), value]);
  }
  return found;
}

/** The messages of a file of records, whose sums are checked. */
function recordsOf(file: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let place = 0; place < file.length; ) {
    const length = Number(file.readBigUInt64LE(place));
    expect(file.readUInt32LE(place + 8)).toBe(masked(file.subarray(place, place + 8)));
    const data = file.subarray(place + 12, place + 12 + length);
    expect(file.readUInt32LE(place + 12 + length)).toBe(masked(data));
    found.push(data);
    place += 16 + length;
  }
  return found;
}

describe('TensorBoard’s files', () => {
  it('have the sums that the standard gives for "123456789"', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  });

  it('hold what was logged', async () => {
    const rates = [0.001, 0.0001, 0.00001];
    const lower: Callback = {
      leavesLogs: true,
      onEpochEnd: (epoch, _, { optimizer }) => {
        optimizer.lr = rates[epoch + 1] ?? 1;
      },
    };
    const { history } = await compiled().fit(x, y, {
      ...{ ...quiet, epochs: 3, validationSplit: 0.25 },
      callbacks: [lower, new TensorBoard(at('board'))],
    });
    for (const [part, prefix] of [
      ['train', ''],
      ['validation', 'val'],
    ] as const) {
      const [name, ...more] = await readdir(at(`board/${part}`));
      expect(name).toMatch(/^events\.out\.tfevents\.\d+\./);
      expect(more).toEqual([]);
      const events = recordsOf(await readFile(at(`board/${part}/${name}`))).map(fieldsOf);
      expect(events).toHaveLength(4);
      expect(String(events[0]?.get(3)?.[0])).toBe('brain.Event:2');
      for (const [epoch, event] of events.slice(1).entries()) {
        const time = event.get(1)?.[0] as number;
        expect(Math.abs(time - Date.now() / 1000)).toBeLessThan(600);
        expect(Number(event.get(2)?.[0] ?? 0)).toBe(epoch);
        const values = fieldsOf(event.get(5)?.[0] as Buffer).get(1) as Buffer[];
        const scalars = new Map(
          values.map(fieldsOf).map((value) => [String(value.get(1)?.[0]), value.get(2)?.[0]]),
        );
        const named = (tag: string): string =>
          prefix ? `val${tag.charAt(0).toUpperCase()}${tag.slice(1)}` : tag;
        for (const tag of ['loss', 'accuracy']) {
          const expected = history[named(tag)]?.[epoch] as number;
          expect(scalars.get(`epoch/${tag}`)).toBe(Math.fround(expected));
        }
        const rate = part === 'train' ? Math.fround(rates[epoch] as number) : undefined;
        expect(scalars.get('epoch/learningRate')).toBe(rate);
      }
    }
  });

  it('hold pictures', async () => {
    const writer = await EventWriter.create(at('pictures/events.out.tfevents.1'));
    await writer.image(70_000, 'digits', { png: Uint8Array.of(1, 2, 3), width: 300, height: 2 });
    await writer.close();
    const file = await readFile(at('pictures/events.out.tfevents.1'));
    const event = fieldsOf(recordsOf(file)[1] as Buffer);
    expect(event.get(2)).toEqual([70_000n]);
    const value = fieldsOf(fieldsOf(event.get(5)?.[0] as Buffer).get(1)?.[0] as Buffer);
    const image = fieldsOf(value.get(4)?.[0] as Buffer);
    expect([1, 2, 3].map((id) => image.get(id)?.[0])).toEqual([2n, 300n, 3n]);
    expect(image.get(4)?.[0]).toEqual(Buffer.of(1, 2, 3));
  });
});

describe('plots', () => {
  it('show curves within their axes, and leave out what is not finite', () => {
    const svg = linePlot({
      series: [{ name: 'a<b', x: [0, 1, 2, 3], y: [4, Number.NaN, 2, 0] }],
      ...{ title: 'T & U', xLabel: 'steps' },
    });
    const [, points] = /points="([^"]*)"/.exec(svg) as RegExpExecArray;
    expect(points).toBe('64,32 437.33,192 624,352');
    expect(svg).toContain('>a&#60;b</text>');
    expect(svg).toContain('>T &#38; U</text>');
    expect(linePlot({ series: [] })).toContain('</svg>');
    expect(() => linePlot({ series: [{ name: 'a', x: [1], y: [] }] })).toThrow(
      'linePlot: x and y of a must be as long, got 1 and 0',
    );
  });

  it.each([
    [[Math.LN2, Math.LN2 + 1.2e-16]],
    [[1, 1 + 1e-10]],
    [[1 / 3, 1 / 3 + 1e-11, 1 / 3 + 4e-12]],
    [[1e17]],
    [[2e15]],
    [[-3e15, -3e15]],
    [[-1e299, 1e299]],
    [[5e-324, 0]],
    [[-0.5]],
    [[]],
    [[Number.MAX_VALUE, 1, 2]],
  ])('keep to a few ticks within the axes, whatever the values: %j', (y) => {
    const svg = linePlot({ series: [{ name: 'a', x: y.map((_, i) => i), y }] });
    expect(svg).not.toMatch(/NaN|Infinity/);
    const grid = [...svg.matchAll(/d="M64 ([-\d.]+)h/g)].map(([, at]) => Number(at));
    const lines = grid.filter((at) => at >= 32 && at <= 352);
    expect(lines).toEqual(grid);
    expect(lines.length).toBeGreaterThanOrEqual(2);
    expect(lines.length).toBeLessThan(12);
    expect(new Set(svg.match(/(?<=text-anchor="end">)[-\d.e+]+(?=<)/g)).size).toBe(lines.length);
  });

  it('show matrices as shades', () => {
    const svg = matrixPlot(
      [
        [5, 0],
        [1, 10],
      ],
      { rowLabels: ['cat', 'dog'] },
    );
    const fills = [...svg.matchAll(/fill="rgb\(([^)]*)\)"/g)].map(([, rgb]) => rgb);
    expect(fills).toEqual(['128,150,181', '247,251,255', '223,231,240', '8,48,107']);
    expect(svg).toContain('>dog</text>');
    expect(() => matrixPlot([[1], [1, 2]])).toThrow('matrixPlot: needs rows of equal length');
  });
});

describe('a model that is trained', () => {
  const told = 'this model is at work; await what runs before';

  it('may be evaluated in callbacks, which changes nothing of the run', async () => {
    const run = async (callbacks: Callback[], t = compiled()) => {
      const options = { ...quiet, batchSize: 11, epochs: 2, validationSplit: 0.25 };
      const { history } = await t.fit(x, y, { ...options, callbacks });
      return { history, weights: bits(t.model) };
    };
    const t = compiled();
    const found: Logs[] = [];
    const look = async (): Promise<void> => {
      const { training } = t.model;
      expect((await t.predict(x, { batchSize: 20 })).shape).toEqual([44, 3]);
      found.push(await t.evaluate(x, y, quiet));
      expect(t.model.training).toBe(training);
    };
    const everywhere: Callback = {
      ...{ onTrainBegin: look, onEpochBegin: look, onBatchBegin: look },
      ...{ onBatchEnd: look, onEpochEnd: look, onTrainEnd: look },
    };
    expect(await run([everywhere], t)).toEqual(await run([]));
    expect(found).toHaveLength(18);
    expect(found.at(-1)).toEqual(await t.evaluate(x, y, quiet));
  });

  it('may be evaluated on the loader that it is trained on, which keeps its place', async () => {
    const file = at('midway');
    const run = async (looks: boolean, resume?: string) => {
      const t = compiled();
      const data = new TensorDataset(x, y);
      const loader = new DataLoader(data, { batchSize: 11, shuffle: true, seed: 5 });
      const look = async (): Promise<void> => {
        if (!looks) return;
        const { loss } = await t.evaluate(loader, quiet);
        expect(loss).toBeCloseTo((await t.evaluate(x, y, quiet)).loss as number, 5);
      };
      let steps = 0;
      const watch: Callback = {
        onBatchEnd: async (batch, _loss, of) => {
          ++steps;
          const looking = look();
          if (looks && batch === 2 && steps === 3) await of.save(file);
          await looking;
        },
        onEpochEnd: look,
      };
      const validation = looks ? { validationData: loader } : {};
      const options = { ...quiet, epochs: 3, ...(resume && { resume }) };
      const { history } = await t.fit(loader, { ...options, ...validation, callbacks: [watch] });
      const { loss, accuracy } = history;
      return { loss, accuracy, steps, epoch: loader.epoch, weights: bits(t.model) };
    };
    const plain = await run(false);
    expect(await run(true)).toEqual(plain);
    expect(await run(false, file)).toEqual({ ...plain, steps: 9 });
  });

  it('waits for what a callback did not await, and refuses what runs at the same time', async () => {
    const t = compiled();
    const found: unknown[] = [];
    const one = (): Promise<unknown> => t.evaluate(x, y, quiet).then((logs) => found.push(logs));
    const onEpochEnd = async (): Promise<void> => {
      void one();
      await expect(t.predict(x)).rejects.toThrow(`predict: ${told}`);
      await expect(t.fit(x, y, quiet)).rejects.toThrow(`fit: ${told}`);
      expect(() => t.compile({ optimizer: 'sgd', loss: logits })).toThrow(`compile: ${told}`);
    };
    const run = t.fit(x, y, { ...quiet, callbacks: [{ onEpochEnd }] });
    await expect(t.evaluate(x, y, quiet)).rejects.toThrow(`evaluate: ${told}`);
    await run;
    expect(found).toHaveLength(1);
  });
});
