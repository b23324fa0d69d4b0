/** Labels, weights and names that do not fit: told before they spoil a run. */
import { describe, expect, it } from 'vitest';
import {
  DataLoader,
  EarlyStopping,
  type FitOptions,
  full,
  IterableDataset,
  layers,
  ModelCheckpoint,
  manualSeed,
  ReduceOnPlateau,
  sequential,
  type Tensor,
  TensorDataset,
  tensor,
  trainer,
} from '../../lib/index.js';
import { cpu, devices } from '../support/devices.js';
import { bits, logits, net, Output, points, quiet } from '../support/training.js';

const compiled = (metrics: 'precision'[] = []) =>
  trainer(net(cpu)).compile({ optimizer: 'sgd', loss: logits, metrics });
const [x, y] = points(cpu);

describe.each(devices)('labels on $name', (device) => {
  const four = full([4, 4], 0.5, { device });
  const int64 = { device, dtype: 'int64' } as const;
  const good = { classes: tensor([0, 1, 2, 1], int64), shares: tensor([0, 1, 0.5, 1], { device }) };
  const cases: [string, 'classes' | 'shares', Tensor, string][] = [
    [
      'a class too many',
      'classes',
      tensor([0, 1, 7, 1], int64),
      'classes from 0 to 2, got 7 in row 2',
    ],
    [
      'half a class',
      'classes',
      tensor([0, 1.5, 0, 1], { device }),
      'classes from 0 to 2, got 1.5 in row 1',
    ],
    [
      'a share of 5',
      'shares',
      tensor([0, 1, 0, 5], { device }),
      'targets in [0,1], got 5 in row 3',
    ],
    ['a label of 5', 'shares', tensor([5, 1, 0, 5], int64), 'targets in [0,1], got 5 in row 0'],
  ];
  it.each(cases)('of a later batch are named: %s', async (_, kind, bad, told) => {
    const layer = layers.dense(kind === 'classes' ? 3 : 1, { activation: 'sigmoid' });
    const loss = kind === 'classes' ? logits : 'binaryCrossentropy';
    const fresh = () =>
      sequential([layer], { device, inputShape: [4] }).compile({ optimizer: 'sgd', loss });
    const model = fresh();
    const batches = (last: Tensor) => () => [
      [four, good[kind]] as const,
      [four, good[kind]] as const,
      [four, last] as const,
    ];
    await expect(model.fit(batches(bad), quiet)).rejects.toThrow(
      `expects ${told} of batch 2 of epoch 1`,
    );
    await expect(model.evaluate(batches(bad), quiet)).rejects.toThrow(`${told} of batch 2`);
    const before = bits(model);
    await expect(
      model.fit(four, good[kind], { ...quiet, validationData: [four, bad] }),
    ).rejects.toThrow(`expects ${told} of the validation data; values go from`);
    expect(bits(model)).toBe(before);
    const { history } = await fresh().fit(batches(good[kind]), quiet);
    expect(history.loss?.[0]).toBeGreaterThan(0);
  });
});

it('what is in memory is looked at whole by evaluate and predict', async () => {
  const last = (first: number, other: number) =>
    tensor(Array.from({ length: 44 }, (_, i) => (i === 40 ? other : first)));
  const shares = sequential([layers.dense(1, { activation: 'sigmoid' })], { device: cpu });
  shares.compile({ optimizer: 'sgd', loss: 'binaryCrossentropy' });
  await expect(shares.evaluate(x, last(0, 5), quiet)).rejects.toThrow(
    'evaluate: the loss binaryCrossentropy expects targets in [0,1], got 5 in row 40',
  );
  const classes = sequential([layers.dense(3)], { device: cpu });
  classes.compile({ optimizer: 'sgd', loss: logits });
  for (const bad of [0.5, 7]) {
    const told = `expects classes from 0 to 2, got ${bad} in row 40`;
    await expect(classes.evaluate(x, last(1, bad), quiet)).rejects.toThrow(told);
  }
  // A module of one's own tells its classes by running.
  await expect(compiled().evaluate(x, last(1, 7).to('int64'), quiet)).rejects.toThrow(
    'evaluate: the loss sparseCategoricalCrossentropy expects classes from 0 to 2, got 7 in row 40',
  );
  const words = sequential([layers.embedding(10, 2), layers.flatten(), layers.dense(1)], {
    device: cpu,
    inputShape: [2],
  }).compile({ optimizer: 'sgd', loss: 'mse' });
  const rows = [
    [1, 2],
    [3, 10],
  ];
  const told = 'integer indices below 10 of rank 2, [N,T], got indices from 1 to 10';
  const single = { batchSize: 1 };
  await expect(words.predict(rows, single)).rejects.toThrow(told);
  await expect(words.evaluate(rows, [0, 1], { ...quiet, ...single })).rejects.toThrow(told);
});

it('weights of classes go with one-hot targets of two, and must be of classes', async () => {
  const hot = y.eq(0).to('int64');
  const targets = tensor((hot.toArray() as number[]).map((c) => [1 - c, c]));
  const found: number[] = [];
  for (const [loss, t] of [
    [{ name: 'categoricalCrossentropy', fromLogits: true }, targets],
    [logits, hot],
  ] as const) {
    manualSeed(4);
    const model = sequential([layers.dense(2)], { device: cpu, inputShape: [4] });
    model.compile({ optimizer: 'sgd', loss });
    const options = { ...quiet, batchSize: 44, classWeight: { 1: 3 } };
    found.push((await model.fit(x, t, options)).history.loss?.[0] as number);
  }
  expect(found[0]).toBeCloseTo(found[1] as number, 5);
  await expect(compiled().fit(x, y, { ...quiet, classWeight: { 7: 2 } })).rejects.toThrow(
    'fit: classWeight must be of classes from 0 to 2, got 7',
  );
});

it('a third tensor is a weight per sample, or an error', async () => {
  const loader = (third: Tensor) =>
    new DataLoader(new TensorDataset(x, y, third), { batchSize: 11 });
  await expect(compiled().fit(loader(x), quiet)).rejects.toThrow(
    'fit: the third of a batch [x, y, weight] must be [11], a number per sample, got float32[11,4]',
  );
  await expect(compiled().fit(loader(y), quiet)).rejects.toThrow(
    'fit: the third of a batch [x, y, weight] must be floats, got a tensor int64[11]',
  );
  const weight = tensor(Array.from({ length: 44 }, (_, i) => 1 + (i % 3)));
  const [streamed, inMemory] = [compiled(), compiled()];
  await streamed.fit(loader(weight), quiet);
  const options = { ...quiet, batchSize: 11, shuffle: false };
  await inMemory.fit(x, y, { ...options, sampleWeight: weight });
  expect(bits(streamed.model)).toBe(bits(inMemory.model));
  await expect(compiled().fit(x, y, { ...quiet, sampleWeight: x })).rejects.toThrow(
    'fit: sampleWeight must be [44], a number per sample, got float32[44,4]',
  );
  const split = { ...options, validationSplit: 0.25, sampleWeight: weight };
  const held = [x, y, weight].map((t) => t.slice(0, 33, 44)) as [Tensor, Tensor, Tensor];
  const [one, two] = [compiled(), compiled()];
  const { history } = await one.fit(x, y, split);
  const rest = [x, y, weight].map((t) => t.slice(0, 0, 33)) as [Tensor, Tensor, Tensor];
  const given = { ...options, sampleWeight: rest[2], validationData: held };
  expect((await two.fit(rest[0], rest[1], given)).history).toEqual(history);
  const { loss } = await one.evaluate(held[0], held[1], { ...quiet, sampleWeight: held[2] });
  expect(loss).toBeCloseTo(history.valLoss?.[0] as number, 6);
});

it('options that do not go with a source are told', async () => {
  const loader = new DataLoader(new TensorDataset(x, y), { batchSize: 11 });
  await expect(compiled().fit(loader, { ...quiet, batchSize: 8 })).rejects.toThrow(
    'fit: batchSize goes with numbers and datasets, got it beside batches that are already made',
  );
  await expect(compiled().evaluate(loader, { ...quiet, sampleWeight: y })).rejects.toThrow(
    'evaluate: sampleWeight goes with x and y in memory; let other sources give [x, y, weight]',
  );
  await expect(compiled().fit(x, y, { ...quiet, signal: {} as AbortSignal })).rejects.toThrow(
    'fit: signal must be an AbortSignal, got',
  );
});

it('numbers that a metric cannot count are told with the data that they are of', async () => {
  const t = trainer(net(cpu)).compile({ optimizer: 'sgd', loss: logits, metrics: ['accuracy'] });
  const rows = x.toArray() as number[][];
  const bad = tensor(rows.map((row, i) => (i === 3 ? row.map(() => Number.NaN) : row)));
  const told =
    'scores must be numbers and labels in the range of the classes, got 1 of another kind';
  await expect(t.evaluate(bad, y, quiet)).rejects.toThrow(`evaluate: accuracy: ${told}`);
  await expect(t.fit(x, y, { ...quiet, validationData: [bad, y] })).rejects.toThrow(
    `fit: accuracy of the validation data in epoch 1: ${told}`,
  );
});

it('names that nobody will give, and metrics that do not fit, end the run at its first batch', async () => {
  const run = async (options: FitOptions, metrics: 'precision'[] = []): Promise<number> => {
    let steps = 0;
    const onBatchEnd = (): void => void ++steps;
    const callbacks = [...(options.callbacks ?? []), { onBatchEnd }];
    const fitted = compiled(metrics).fit(x, y, { ...quiet, ...options, callbacks });
    await expect(fitted).rejects.toThrow(
      metrics.length > 0
        ? 'precision: average binary needs 2 classes, got 3'
        : /^\w+: monitor must be one of loss, got valLoss$/,
    );
    return steps;
  };
  expect(await run({}, ['precision'])).toBe(0);
  expect(await run({ callbacks: [new EarlyStopping()] })).toBe(0);
  expect(await run({ callbacks: [new ReduceOnPlateau()] })).toBe(0);
  expect(await run({ callbacks: [new ModelCheckpoint({ best: '/nowhere/best' })] })).toBe(0);
});

it('a bar counts a stream without an end, and shows metrics as it goes', async () => {
  const output = Object.assign(new Output(), { isTTY: true });
  const samples = function* () {
    for (let i = 0; i < 44; ++i) yield [x.select(0, i), y.select(0, i)] as const;
  };
  const t = trainer(net(cpu)).compile({ optimizer: 'sgd', loss: logits, metrics: ['accuracy'] });
  const slow = {
    onBatchEnd: () => new Promise<void>((resolve) => setTimeout(resolve, 110)),
  };
  const stream = new IterableDataset<readonly [Tensor, Tensor], readonly Tensor[]>(samples);
  await t.fit(stream, { output, batchSize: 4, callbacks: [slow] });
  expect(output.text).not.toMatch(/NaN|Infinity/);
  const [before] = output.text.split('samples/s') as [string];
  expect(before).toMatch(/ - loss: [\d.]+ - accuracy: [\d.]+/);
});
