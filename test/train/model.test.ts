/** Models of layers whose sizes are inferred: shapes, initial values, errors, training. */
import { describe, expect, it } from 'vitest';
import {
  layers,
  manualSeed,
  nn,
  rand,
  randn,
  scope,
  sequential,
  type Tensor,
  tensor,
  uniform,
  zeros,
} from '../../lib/index.js';
import type { FreeShape } from '../../lib/layers/layer.js';
import { cpu, devices } from '../support/devices.js';
import { bits, quiet } from '../support/training.js';

type Items = Parameters<typeof sequential>[0];

describe('sizes', () => {
  const image: FreeShape = [3, 20, 20];
  const cases: [string, Items, FreeShape, FreeShape, number][] = [
    ['dense', [layers.dense(5)], [7], [5], 40],
    ['dense of sequences', [layers.dense(5, { useBias: false })], [null, 7], [null, 5], 35],
    ['conv2d', [layers.conv2d(4, 3, { activation: 'relu' })], image, [4, 18, 18], 112],
    ['conv2d same', [layers.conv2d(4, 3, { padding: 'same' })], image, [4, 20, 20], 112],
    [
      'conv2d same, strides',
      [layers.conv2d(4, 3, { padding: 'same', strides: 3 })],
      image,
      [4, 7, 7],
      112,
    ],
    [
      'conv2d channelsLast',
      [
        layers.conv2d(4, 3, { dataFormat: 'channelsLast' }),
        layers.batchNorm({ dataFormat: 'channelsLast' }),
        layers.maxPool2d(2, { dataFormat: 'channelsLast' }),
        layers.globalAvgPool2d({ dataFormat: 'channelsLast' }),
      ],
      [20, 20, 3],
      [4],
      128,
    ],
    ['conv2d strides', [layers.conv2d(4, [3, 5], { strides: 2 })], image, [4, 9, 8], 184],
    ['conv2d of any size', [layers.conv2d(4, 3)], [3, null, 20], [4, null, 18], 112],
    ['maxPool2d', [layers.maxPool2d()], image, [3, 10, 10], 0],
    ['avgPool2d', [layers.avgPool2d(3, { strides: 1 })], image, [3, 18, 18], 0],
    ['globalAvgPool2d', [layers.globalAvgPool2d()], image, [3], 0],
    ['globalMaxPool2d', [layers.globalMaxPool2d()], image, [3], 0],
    ['flatten', [layers.flatten()], image, [1200], 0],
    ['reshape', [layers.reshape([4, -1])], [12], [4, 3], 0],
    ['rescaling', [layers.rescaling(2, { offset: 1 })], [12], [12], 0],
    ['activation', [layers.activation('gelu')], [12], [12], 0],
    ['dropout', [layers.dropout(0.2)], [12], [12], 0],
    ['lambda', [layers.lambda((x) => x.sum(1))], [3, 4], [4], 0],
    ['batchNorm', [layers.batchNorm()], [6], [6], 24],
    ['batchNorm of sequences', [layers.batchNorm()], [5, 6], [5, 6], 24],
    ['batchNorm of images', [layers.batchNorm()], image, image, 12],
    ['layerNorm', [layers.layerNorm()], [5, 6], [5, 6], 12],
    ['embedding', [layers.embedding(10, 4)], [null], [null, 4], 40],
    ['lstm', [layers.lstm(6)], [null, 4], [6], 4 * 6 * (4 + 6 + 2)],
    ['lstm of all steps', [layers.lstm(6, { returnSequences: true })], [9, 4], [9, 6], 288],
    ['lstm both ways', [layers.lstm(6, { bidirectional: true })], [9, 4], [12], 576],
    ['gru', [layers.gru(6)], [null, 4], [6], 3 * 6 * (4 + 6 + 2)],
    ['simpleRnn', [layers.simpleRnn(6)], [null, 4], [6], 6 * (4 + 6 + 2)],
    ['conv1d', [layers.conv1d(6, 3)], [9, 4], [7, 6], 78],
    ['maxPool1d', [layers.maxPool1d()], [9, 4], [4, 4], 0],
    ['globalAvgPool1d', [layers.globalAvgPool1d()], [null, 4], [4], 0],
    ['globalMaxPool1d', [layers.globalMaxPool1d()], [null, 4], [4], 0],
    ['a module', [new nn.Linear(4, 3), layers.activation(new nn.Tanh())], [4], [3], 15],
  ];
  it.each(cases)('of %s are inferred', (_, items, inputShape, output, parameters) => {
    const model = sequential(items, { inputShape });
    expect(model.builtLayers.at(-1)?.outputShape).toEqual(output);
    const sizes = [...model.stateDict().values()].map((t) => t.size);
    // Batch norm counts its batches in a tensor of one element, which Keras does not have.
    const counters = [...model.namedBuffers()].filter(([, t]) => t.rank === 0).length;
    expect(sizes.reduce((a, b) => a + b, 0) - counters).toBe(parameters);
    const indices = model.vocabulary !== null;
    scope(() => {
      const shape = [2, ...inputShape.map((n) => n ?? 13)];
      const x = indices ? zeros(shape, { dtype: 'int32' }) : rand(shape);
      const expected = [2, ...output.map((n, i) => n ?? model.forward(x).shape[i + 1])];
      expect(model.forward(x).shape).toEqual(expected);
    });
  });

  it('are taken from the first input where none are given', () => {
    const model = sequential([layers.dense(5), layers.dense(2)]);
    expect(model.built).toBe(false);
    expect([...model.parameters()]).toEqual([]);
    expect(model.forward(zeros([3, 7])).shape).toEqual([3, 2]);
    expect(model.inputShape).toEqual([7]);
    expect([...model.stateDict().keys()]).toEqual([
      ...['dense.weight', 'dense.bias', 'dense_1.weight', 'dense_1.bias'],
    ]);
  });

  it('make a summary', () => {
    const model = sequential(
      [
        layers.conv2d(32, 3, { activation: 'relu', name: 'eyes' }),
        layers.maxPool2d(),
        layers.flatten(),
        layers.dense(1, { activation: 'sigmoid' }),
      ],
      { inputShape: [3, 8, 8] },
    );
    expect(model.summary().split('\n')).toEqual([
      'layer          output         parameters',
      '────────────────────────────────────────',
      'eyes (conv2d)  [–, 32, 6, 6]         896',
      'maxPool2d      [–, 32, 3, 3]           0',
      'flatten        [–, 288]                0',
      'dense          [–, 1]                289',
      '────────────────────────────────────────',
      'parameters: 1,185, of which trained: 1,185',
    ]);
  });
});

it('initial values are Keras’s', () => {
  manualSeed(2);
  const model = sequential([layers.embedding(50, 8, { paddingIdx: 0 }), layers.lstm(16)], {
    inputShape: [null],
  });
  const of = (name: string): number[] =>
    Array.from((model.stateDict().get(name) as Tensor).data() as Float32Array);
  const table = of('embedding.weight');
  expect(table.slice(0, 8)).toEqual(new Array(8).fill(0));
  expect(Math.max(...table.map(Math.abs))).toBeLessThanOrEqual(0.05);
  expect(Math.max(...table)).toBeGreaterThan(0.04);
  const limit = Math.sqrt(6 / (8 + 64));
  const kernel = of('lstm.layer.weight_ih_l0');
  expect(Math.max(...kernel.map(Math.abs))).toBeLessThanOrEqual(limit);
  expect(Math.max(...kernel)).toBeGreaterThan(0.9 * limit);
  const recurrent = model.stateDict().get('lstm.layer.weight_hh_l0') as Tensor;
  const product = scope(() => recurrent.detach().transpose(0, 1).matmul(recurrent.detach()));
  for (const [i, row] of (product.toArray() as number[][]).entries()) {
    for (const [j, value] of row.entries()) expect(value).toBeCloseTo(i === j ? 1 : 0, 4);
  }
  const bias = [...new Array(16).fill(0), ...new Array(16).fill(1), ...new Array(32).fill(0)];
  expect(of('lstm.layer.bias_ih_l0')).toEqual(bias);
  expect(of('lstm.layer.bias_hh_l0')).toEqual(new Array(64).fill(0));
});

describe('errors name the layer, what it expects and what it got', () => {
  const article = () =>
    sequential([
      layers.embedding(10_000, 32),
      layers.lstm(128),
      layers.dense(1, { activation: 'sigmoid' }),
    ]).compile({ optimizer: 'adam', loss: 'binaryCrossentropy', metrics: ['accuracy'] });

  it('where a classifier of texts is given images', async () => {
    const images = uniform([32, 28, 28], 0, 1);
    const digits = tensor(Array.from({ length: 32 }, (_, i) => i % 10));
    await expect(article().fit(images, digits, quiet)).rejects.toThrow(
      "sequential: layer 0 'embedding' expects integer indices below 10000 of rank 2, [N,T], got float32[32,28,28]",
    );
    const words = zeros([32, 28], { dtype: 'int64' });
    await expect(article().fit(words, digits, quiet)).rejects.toThrow(
      'fit: the loss binaryCrossentropy expects targets in [0,1], got 2 in row 2; values go from 0 to 9',
    );
    await expect(
      article().fit(
        [
          [1, 2],
          [3, 10_000],
        ],
        [0, 1],
        quiet,
      ),
    ).rejects.toThrow(
      "sequential: layer 0 'embedding' expects integer indices below 10000 of rank 2, [N,T], got indices from 1 to 10000",
    );
    await expect(
      article().fit(
        [
          [0.5, 2],
          [3, 1],
        ],
        [0, 1],
        quiet,
      ),
    ).rejects.toThrow('got float32[2,2]');
  });

  it.each<[string, Items, Tensor, string]>([
    [
      'sizes',
      [layers.dense(4), layers.flatten()],
      zeros([2, 5]),
      "sequential: layer 0 'dense' expects floating-point numbers [N,…,3], got float32[2,5]",
    ],
    [
      'dtypes',
      [layers.dense(4)],
      zeros([2, 3], { dtype: 'uint8' }),
      "sequential: layer 0 'dense' expects floating-point numbers [N,…,3], got uint8[2,3]",
    ],
  ])('where %s do not fit', (_, items, x, message) => {
    const model = sequential(items, { inputShape: [3] });
    expect(() => model.forward(x)).toThrow(message);
  });

  it('where values are loaded before the sizes are known', () => {
    const built = sequential([layers.dense(2)], { inputShape: [4] });
    expect(() => sequential([layers.dense(2)]).loadStateDict(built.stateDict())).toThrow(
      'loadStateDict: the model must be built to take values, give it its inputShape',
    );
  });

  it('where layers do not fit one another', () => {
    expect(() =>
      sequential([layers.flatten(), layers.conv2d(3, 3)], { inputShape: [3, 8, 8] }),
    ).toThrow(
      "sequential: layer 1 'conv2d' expects floating-point numbers [N,C,H,W], got float32[?,192]",
    );
    expect(() =>
      sequential([layers.conv2d(3, 3), layers.conv2d(3, 9, { name: 'wide' })], {
        inputShape: [1, 8, 8],
      }),
    ).toThrow(/^sequential: layer 1 'wide': /);
    expect(() =>
      sequential([layers.dense(3, { name: 'a' }), layers.dense(3, { name: 'a' })]),
    ).toThrow('sequential: names must differ, got "a" twice');
    expect(() => layers.dense(3, { activation: 'rely' as 'relu' })).toThrow(
      'dense: activation must be a module or one of relu, sigmoid,',
    );
    const mixed = sequential([layers.dense(4), layers.activation(new nn.Linear(9, 1))]);
    expect(() => mixed.forward(zeros([2, 3]))).toThrow(/^sequential: layer 1 'activation': /);
  });
});

describe.each(devices)('models on $name', (device) => {
  it('learn from images, texts and tables', async () => {
    manualSeed(3);
    const problems: [Items, Tensor, (x: Tensor) => Tensor, object][] = [
      [
        [
          layers.conv2d(4, 3, { activation: 'relu' }),
          layers.maxPool2d(),
          layers.batchNorm({ momentum: 0.5 }),
          layers.flatten(),
          layers.dense(2, { activation: 'softmax' }),
        ],
        randn([32, 1, 8, 8], { device }),
        (x) => x.slice(2, 0, 4).sum([1, 2, 3]).gt(0).to('int64'),
        { loss: 'sparseCategoricalCrossentropy' },
      ],
      [
        [layers.embedding(10, 8), layers.lstm(8), layers.dense(1, { activation: 'sigmoid' })],
        uniform([32, 5], 0, 9.99, { device }).to('int64'),
        (x) => x.select(1, 4).gt(4).to('float32'),
        { loss: 'binaryCrossentropy' },
      ],
      [
        [layers.dense(8, { activation: 'tanh' }), layers.dropout(0.1), layers.dense(1)],
        randn([32, 3], { device }),
        (x) => x.sum(1),
        { loss: 'mse', metrics: ['mae', 'r2'] },
      ],
    ];
    for (const [items, x, label, compiled] of problems) {
      const model = sequential(items, { device }).compile({
        ...{ optimizer: 'adam', loss: 'mse', learningRate: 0.02, metrics: ['accuracy'] },
        ...compiled,
      });
      const y = label(x);
      const { history } = await model.fit(x, y, { ...quiet, epochs: 8, batchSize: 16 });
      const loss = history.loss as number[];
      expect(loss[7] as number).toBeLessThan(0.85 * (loss[0] as number));
      expect(model.training).toBe(true);
    }
  });

  it('are saved and loaded by name', () => {
    const make = () =>
      sequential([layers.dense(3), layers.batchNorm()], { device, inputShape: [2] });
    const [a, b] = [make(), make()];
    b.loadStateDict(a.stateDict());
    expect(bits(b)).toBe(bits(a));
  });
});

it('what is predicted belongs to the scope around, of one batch as of several', async () => {
  const model = sequential([layers.dense(1)], { inputShape: [4] });
  for (const batchSize of [2, 4]) {
    let found: Tensor | undefined;
    const kept = await scope(async () => {
      found = await model.predict(zeros([4, 4]), { batchSize });
      return model.predict(zeros([4, 4]), { batchSize });
    });
    expect(kept.shape).toEqual([4, 1]);
    expect(kept.toArray()).toHaveLength(4);
    expect(() => found?.data()).toThrow();
  }
});

it('the losses by name are those of their formulas', async () => {
  const p = [
    [0.7, 0.2, 0.1],
    [0.1, 0.3, 0.6],
  ];
  const hot = [
    [1, 0, 0],
    [0, 1, 0],
  ];
  const ln = Math.log;
  const identity = () =>
    sequential([layers.activation('linear')], { inputShape: [3], device: cpu });
  const of = async (loss: object | string, y: number[] | number[][]): Promise<number> => {
    const model = identity().compile({ optimizer: 'sgd', loss: loss as 'mse' });
    return (await model.evaluate(p, y, quiet)).loss as number;
  };
  const cross = -(ln(0.7) + ln(0.3)) / 2;
  expect(await of('sparseCategoricalCrossentropy', [0, 1])).toBeCloseTo(cross, 5);
  expect(await of('categoricalCrossentropy', hot)).toBeCloseTo(cross, 5);
  const soft = [0, 1].map((i) => {
    const scores = p[i] as number[];
    return ln(scores.reduce((a, b) => a + Math.exp(b), 0)) - (scores[i] as number);
  }) as [number, number];
  const fromLogits = { fromLogits: true };
  const softMean = (soft[0] + soft[1]) / 2;
  for (const [name, y] of [
    ['sparseCategoricalCrossentropy', [0, 1]],
    ['categoricalCrossentropy', hot],
  ] as const) {
    expect(await of({ name, ...fromLogits }, [...y] as number[])).toBeCloseTo(softMean, 5);
  }
  const pairs = p.flatMap((row, i) => row.map((v, j) => [v, hot[i]?.[j] as number] as const));
  const mean = (f: (p: number, t: number) => number): number =>
    pairs.reduce((sum, [a, b]) => sum + f(a, b), 0) / pairs.length;
  const bce = mean((a, t) => -(t * ln(a) + (1 - t) * ln(1 - a)));
  expect(await of('binaryCrossentropy', hot)).toBeCloseTo(bce, 5);
  const logistic = mean((a, t) => ln(1 + Math.exp(-a)) + (1 - t) * a);
  expect(await of({ name: 'binaryCrossentropy', ...fromLogits }, hot)).toBeCloseTo(logistic, 5);
  const smooth = mean((a, t) => -((0.8 * t + 0.1) * ln(a) + (0.9 - 0.8 * t) * ln(1 - a)));
  const smoothed = { name: 'binaryCrossentropy', labelSmoothing: 0.2 };
  expect(await of(smoothed, hot)).toBeCloseTo(smooth, 5);
  expect(await of('mse', hot)).toBeCloseTo(
    mean((a, t) => (a - t) ** 2),
    6,
  );
  expect(await of('mae', hot)).toBeCloseTo(
    mean((a, t) => Math.abs(a - t)),
    6,
  );
  const huber = (d: number): number => (d < 0.4 ? d * d * 0.5 : 0.4 * (d - 0.2));
  expect(await of({ name: 'huber', delta: 0.4 }, hot)).toBeCloseTo(
    mean((a, t) => huber(Math.abs(a - t))),
    6,
  );
});
