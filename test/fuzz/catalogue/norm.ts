/** Normalisation, dropout, embedding. */
import * as ng from '../../../lib/index.js';
import { both, type Call, type Constructor, layer, layers, nn, op, plain } from '../entries.js';
import type { Maker } from '../maker.js';

function normOptions(m: Maker, shape: readonly number[], dtype: ng.DType): ng.AffineOptions {
  const weight = m.make(shape, dtype);
  return m.pick([{}, { weight }, { weight, bias: m.make(shape, dtype), eps: 1e-3 }]);
}
both('layerNorm', ng.layerNorm as Call, (m) => {
  const x = m.floating(m.integer(1, 4));
  const shape = x.shape.slice(m.integer(0, x.rank - 1));
  return [x, shape, normOptions(m, shape, x.dtype)];
});
both('rmsNorm', ng.rmsNorm as Call, (m) => {
  const x = m.floating(m.integer(1, 4));
  const shape = x.shape.slice(m.integer(0, x.rank - 1));
  return [x, shape, m.chance(0.5) ? { weight: m.make(shape, x.dtype) } : {}];
});
op('groupNorm', ng.groupNorm, (m) => {
  const [groups, each, dtype] = [m.integer(1, 4), m.integer(0, 3), m.float()];
  const x = m.make([m.integer(0, 5), groups * each, ...m.shape(m.integer(0, 2))], dtype);
  return [x, groups, normOptions(m, [groups * each], dtype)];
});
plain(
  'instanceNorm',
  ng.instanceNorm,
  (m) => {
    const x = m.floating(m.integer(3, 4));
    return [x, normOptions(m, [x.shape[1] as number], x.dtype)];
  },
  { op: 'groupNorm' },
);
op('batchNorm', ng.batchNorm, (m) => {
  const [channels, dtype] = [m.integer(0, 5), m.float()];
  const x = m.make([m.integer(2, 9), channels, ...m.shape(m.integer(0, 2))], dtype);
  const wide = dtype === 'float64' ? dtype : 'float32';
  const running = {
    runningMean: m.make([channels], wide),
    runningVar: m.make([channels], wide),
    numBatchesTracked: m.make([], 'int64'),
    momentum: m.pick([null, 0.1, 1]),
  };
  const options = normOptions(m, [channels], dtype);
  return [x, { ...options, ...(m.chance(0.6) && running), training: m.chance(0.8) }];
});
const dropoutGenerator = new ng.Generator(2);
both('dropout', ng.dropout as Call, (m) => {
  const generator = m.chance(0.5) ? [dropoutGenerator] : [];
  return [m.floating(), m.pick([0, 0.3, 0.5, 1]), m.chance(0.8), ...generator];
});
op('embedding', ng.embedding, (m) => {
  const rows = m.integer(0, 6);
  const table = m.make([rows, m.integer(0, 6)], m.float());
  const index = m.index(6, rows + 1).reshape(m.pick([[6], [2, 3], [3, 1, 2]]));
  return [
    table,
    index,
    rows > 0 && m.chance(0.5) ? { paddingIdx: m.integer(-rows, rows - 1) } : {},
  ];
});

for (const [name, shape] of [
  ['LayerNorm', [4, 3]],
  ['RMSNorm', [4, 3]],
  ['BatchNorm1d', [4, 3]],
  ['BatchNorm2d', [4, 3, 2, 2]],
  ['InstanceNorm2d', [4, 3, 2, 2]],
] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [3, { eps: 1e-3 }],
    (m) => [m.make(shape, 'float32')],
  );
}
layer(
  'GroupNorm',
  nn.GroupNorm as never,
  () => [2, 4, { eps: 1e-3 }],
  (m) => [m.make([3, 4, 2], 'float32')],
);
for (const [name, rank] of [
  ['Dropout', 2],
  ['Dropout1d', 3],
  ['AlphaDropout', 3],
  ['Dropout2d', 4],
] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [0.5],
    (m) => [m.floating(rank)],
  );
}
layer(
  'Embedding',
  nn.Embedding as never,
  () => [6, 3, { paddingIdx: 1 }],
  (m) => [m.index(5, 7)],
);
layer(
  'EmbeddingBag',
  nn.EmbeddingBag as never,
  () => [6, 3, { mode: 'sum', paddingIdx: 1 }],
  (m) => [m.index(6, 7).reshape([2, 3])],
);
plain(
  'nn.EmbeddingBag.forward with offsets',
  (mode: 'mean' | 'sum' | 'max', index: ng.Tensor, call: object) =>
    new nn.EmbeddingBag(6, 3, { mode }).forward(index, call),
  (m) => [
    m.pick(['mean', 'sum', 'max']),
    m.index(6, 7),
    { offsets: m.chance(0.5) ? [0, m.integer(0, 6)] : m.index(m.integer(0, 3), 7) },
  ],
);
plain('nn.Embedding.fromPretrained', nn.Embedding.fromPretrained, (m) => [
  m.make([4, 3], m.float()),
  { freeze: m.chance(0.5) },
]);
