/** Layers of inferred sizes, metrics, training in the manner of Keras. */
import * as ng from '../../../lib/index.js';
import { api, type Call, plain } from '../entries.js';
import type { Maker } from '../maker.js';

const quiet = { verbose: 0, batchSize: 3 } as const;
const small = { weight: 0.2 };

/** Builds a layer by itself, and runs it once. */
for (const [name, args, shape] of [
  ['dense', (m) => [m.integer(1, 5), { activation: m.pick(['relu', 'softmax']) }], [3]],
  ['activation', (m) => [m.pick(['tanh', 'gelu', 'linear'])], [3]],
  ['dropout', (m) => [m.pick([0, 0.5])], [3]],
  ['flatten', () => [{ name: 'flat' }], [2, 3]],
  ['reshape', () => [[3, -1]], [6]],
  ['rescaling', () => [0.5, { offset: 1 }], [3]],
  ['lambda', () => [(x: ng.Tensor) => x.mul(2)], [3]],
  ['batchNorm', () => [{ momentum: 0.9 }], [3]],
  ['layerNorm', () => [{ epsilon: 1e-4 }], [3]],
  ['conv2d', (m) => [m.integer(1, 4), m.integer(1, 3), { padding: 'same' }], [2, 5, 5]],
  ['maxPool2d', (m) => [m.integer(1, 3)], [2, 5, 5]],
  ['avgPool2d', (m) => [m.integer(1, 3), { strides: 1 }], [2, 5, 5]],
  ['globalAvgPool2d', () => [], [2, 5, 5]],
  ['globalMaxPool2d', () => [], [2, 5, 5]],
  ['lstm', (m) => [m.integer(1, 4), { returnSequences: m.chance(0.5) }], [4, 3]],
  ['gru', (m) => [m.integer(1, 4), { bidirectional: m.chance(0.5) }], [4, 3]],
  ['simpleRnn', (m) => [m.integer(1, 4)], [4, 3]],
  ['conv1d', (m) => [m.integer(1, 4), m.integer(1, 3)], [4, 3]],
  ['maxPool1d', (m) => [m.integer(1, 3)], [4, 3]],
  ['globalAvgPool1d', () => [], [4, 3]],
  ['globalMaxPool1d', () => [], [4, 3]],
] as [keyof typeof ng.layers, (m: Maker) => unknown[], number[]][]) {
  const make = ng.layers[name] as Call;
  plain(
    `layers.${name}`,
    (...args: never[]) => {
      const model = ng.sequential([make(...args) as ng.layers.LazyLayer], { inputShape: shape });
      return model.forward(ng.zeros([2, ...shape]));
    },
    args,
    small,
  );
}
plain(
  'layers.embedding',
  (index: ng.Tensor, ...args: Parameters<typeof ng.layers.embedding>) =>
    ng.sequential([ng.layers.embedding(...args)], { device: 'cpu' }).forward(index.to('cpu')),
  (m) => [m.make([2, 3], 'int64'), m.integer(1, 9), m.integer(1, 4), { paddingIdx: 0 }],
  small,
);

for (const [name, kind] of [
  ['Accuracy', 'classes'],
  ['BinaryAccuracy', 'binary'],
  ['CategoricalAccuracy', 'oneHot'],
  ['SparseCategoricalAccuracy', 'classes'],
  ['TopKAccuracy', 'classes'],
  ['Precision', 'binary'],
  ['Recall', 'binary'],
  ['F1', 'binary'],
  ['ConfusionMatrix', 'classes'],
  ['AUC', 'binary'],
  ['MeanSquaredError', 'numbers'],
  ['MeanAbsoluteError', 'numbers'],
  ['RootMeanSquaredError', 'numbers'],
  ['R2Score', 'numbers'],
  ['FrechetDistance', 'numbers'],
] as const) {
  const Made = ng.metrics[name] as new (options: object) => ng.metrics.Metric<unknown>;
  plain(
    `metrics.${name}`,
    (p: ng.Tensor, t: ng.Tensor, options: object) => {
      const metric = new Made(options);
      try {
        metric.update(p, t);
        metric.loadStateDict(metric.stateDict());
        metric.compute();
        metric.reset();
      } finally {
        metric.dispose();
      }
    },
    (m) => {
      const rows = m.integer(1, 9);
      const columns = kind === 'binary' ? 1 : m.integer(2, 4);
      const p = m.make([rows, columns], m.float());
      if (kind === 'numbers') return [p, m.beside(p), {}];
      if (kind === 'oneHot') return [p, ng.oneHot(m.index(rows, columns), columns), {}];
      return [p, m.index(rows, kind === 'binary' ? 2 : columns), {}];
    },
    small,
  );
}
for (const name of ['rocAuc', 'rocCurve'] as const) {
  plain(`metrics.${name}`, ng.metrics[name], (m) => {
    const scores = m.make([m.integer(1, 9)], m.float());
    return [scores, m.beside(scores)];
  });
}

for (const name of ['trainer', 'Trainer', 'sequential', 'SequentialModel'] as const) {
  const make = (options: never): ng.Trainer => {
    if (name === 'trainer') return ng.trainer(new ng.nn.Linear(3, 1));
    if (name === 'Trainer') return new ng.Trainer(new ng.nn.Linear(3, 1));
    const items = [ng.layers.dense(1)];
    if (name === 'sequential') return ng.sequential(items, options).trainer;
    return new ng.SequentialModel(items, options).trainer;
  };
  plain(
    name,
    async (model: never, compiled: never, x: never, y: never, options: never) => {
      const t = make(model).compile(compiled);
      await t.fit(x, y, { ...quiet, ...(options as object) });
      await t.evaluate(x, y, quiet);
      const found = await t.predict(x);
      t.summary();
      return found;
    },
    (m) => [
      { inputShape: [3] },
      { optimizer: m.pick(['adam', 'sgd']), loss: m.pick(['mse', 'mae']), metrics: ['mse'] },
      m.make([5, 3], 'float32').to('cpu'),
      [1, 2, 3, 4, 5],
      { epochs: 1, validationSplit: m.pick([0, 0.4]), shuffle: m.chance(0.5) },
    ],
    small,
  );
}
plain('linePlot', ng.linePlot, (m) => [
  { series: [{ name: 'a', x: [1, 2, m.number()], y: [1, 2, m.number()] }], title: 'b' },
]);
plain('matrixPlot', ng.matrixPlot, (m) => [
  [
    [1, m.number()],
    [2, 3],
  ],
  { title: 'a' },
]);

for (const [name, args] of [
  ['EarlyStopping', [{ monitor: 'loss', patience: 2, restoreBestWeights: true }]],
  ['ModelCheckpoint', [{ best: 'best.safetensors', everyBatches: 2 }]],
  ['LearningRateScheduler', [() => 0.1]],
  ['ReduceOnPlateau', [{ monitor: 'loss', patience: 2 }]],
  ['CSVLogger', ['run.csv', { append: true }]],
  ['LossCurves', ['run.svg', { names: ['loss'] }]],
  ['TensorBoard', ['logs']],
] as const) {
  const Made = api[name] as unknown as new (...given: unknown[]) => ng.Callback;
  plain(
    name,
    (...given: unknown[]) => void new Made(...given).stateDict?.(),
    () => [...args],
    small,
  );
}
