/** Layers, losses, initialisers, optimizers, data. */
import * as ng from '../../../lib/index.js';
import {
  type Call,
  type Constructor,
  init,
  layer,
  layers,
  module,
  nn,
  op,
  optimizers,
  plain,
  weight,
} from '../entries.js';

// Layers, losses, initialisers.
for (const name of [
  'ReLU',
  'Sigmoid',
  'Tanh',
  'GELU',
  'SiLU',
  'Identity',
  'ReLU6',
  'Hardsigmoid',
  'Hardswish',
  'SELU',
  'Mish',
  'Softsign',
  'LogSigmoid',
] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [],
    (m) => [m.floating()],
  );
}
for (const name of ['Softmax', 'LogSoftmax'] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [-1],
    (m) => [m.floating()],
  );
}
layer(
  'Flatten',
  nn.Flatten as never,
  () => [1],
  (m) => [m.floating(m.integer(2, 4))],
);
layer(
  'Linear',
  nn.Linear as never,
  () => [3, 2],
  (m) => [m.make([m.integer(0, 4), 3], 'float32')],
);
layer(
  'Sequential',
  nn.Sequential as never,
  () => [new nn.ReLU(), new nn.Tanh()],
  (m) => [m.floating()],
);
plain(
  'models.mlp',
  (...given: never[]) => void (ng.models.mlp as Call)(...given),
  () => [[4, 3, 2]],
);
plain('nn.parameter', nn.parameter, (m) => [m.make(m.shape(), m.float())]);
plain('nn.buffer', nn.buffer, (m) => [m.make(m.shape(), m.dtype())]);
op('softCrossEntropy', ng.crossEntropy, (m) => {
  const [rows, classes] = [m.integer(0, 12), m.integer(1, 9)];
  const dtype = m.float();
  const target = m.chance(0.5) ? m.make([rows, classes], dtype) : m.index(rows, classes + 1);
  const weight = m.chance(0.5) ? { weight: m.make([classes], dtype) } : {};
  return [m.make([rows, classes], dtype), target, { labelSmoothing: 0.1, ...weight }];
});
plain(
  'nn.CosineSimilarity',
  (options: object) => void new nn.CosineSimilarity(options),
  () => [{ axis: 0 }],
);
plain(
  'nn.Module',
  (state: never, options: never) => {
    const model = module();
    model.loadStateDict(state, options);
    model.eval().train().requireGrad().zeroGrad();
  },
  () => [module().stateDict(), { strict: true }],
  { weight: 0.3 },
);
plain(
  'nn.Module.to',
  (...to: never[]) => module().to(...to),
  (m) => [m.device, m.float()],
  { weight: 0.2 },
);
for (const name of ['kaimingUniform', 'kaimingNormal'] as const) {
  plain(`nn.init.${name}`, init[name], (m) => [weight(m), { mode: 'fanIn', nonlinearity: 'relu' }]);
}
for (const name of ['xavierUniform', 'xavierNormal'] as const) {
  plain(`nn.init.${name}`, init[name], (m) => [weight(m), 1]);
}
for (const name of ['uniform', 'normal'] as const) {
  plain(`nn.init.${name}`, init[name], (m) => [weight(m), 0, 1]);
}
plain('nn.init.truncatedNormal', init.truncatedNormal, (m) => [weight(m), 0, 1, -1, 2]);
plain('nn.init.constant', nn.init.constant, (m) => [weight(m), m.number()]);
for (const name of ['zeros', 'ones', 'fans'] as const) {
  plain(`nn.init.${name}`, init[name], (m) => [weight(m)]);
}
plain('nn.init.truncatedNormal', nn.init.truncatedNormal, (m) => [weight(m), 0, 1, -2, 2]);
plain('nn.init.orthogonal', nn.init.orthogonal, (m) => [weight(m), 2]);
plain('nn.init.eye', nn.init.eye, (m) => [weight(m)]);
plain('nn.init.calculateGain', nn.init.calculateGain, (m) => [
  m.pick(['relu', 'tanh', 'leakyRelu']),
  0.1,
]);

// Optimizers: made, stepped, saved and loaded.
for (const name of ['SGD', 'Adam', 'AdamW', 'RMSprop', 'Adagrad', 'Adadelta', 'Lion'] as const) {
  plain(
    `optim.${name}`,
    (parameters: never, options: never, gradients: never, lr: never) => {
      const optimizer = new optimizers[name](parameters, options);
      optimizer.apply(gradients);
      optimizer.lr = lr;
      optimizer.step();
      optimizer.zeroGrad();
      optimizer.loadStateDict(optimizer.stateDict());
    },
    (m) => {
      const p = nn.parameter(
        m.make(m.shape(), m.pick(['float32', 'float64', 'bfloat16'] as const)).contiguous(),
      );
      const options = name === 'SGD' ? { lr: 0.1, momentum: m.pick([0, 0.9]) } : { lr: 0.1 };
      return [[p], options, [m.make(p.shape, p.dtype).contiguous()], 0.2];
    },
    { weight: 0.5 },
  );
}

// Data.
plain(
  'TensorDataset',
  (...tensors: [ng.Tensor]) => new ng.TensorDataset(...tensors).batch(Uint32Array.of(0)),
  (m) => [m.make([4, 2], 'float32'), m.make([4], 'int64')],
);
plain(
  'DataLoader',
  async (data: never, options: never) => {
    let batches = 0;
    for await (const batch of new ng.DataLoader(data, options)) if (batch && ++batches > 5) break;
  },
  (m) => [
    new ng.TensorDataset(m.make([4, 2], 'float32')),
    { batchSize: 2, shuffle: true, seed: 1 },
  ],
  { weight: 0.05 },
);
plain('normalize', ng.normalize, (m) => [m.make([2, 3, 4], 'float32'), 0.5, 2]);
