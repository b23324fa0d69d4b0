/** Attention and transformers. */
import * as ng from '../../../lib/index.js';
import { layer, nn, op, plain } from '../entries.js';

op('scaledDotProductAttention', ng.scaledDotProductAttention, (m) => {
  const dtype = m.float();
  const [batch, few, group] = [m.integer(0, 2), m.integer(1, 2), m.integer(1, 2)];
  const [queries, keys, width] = [m.integer(0, 9), m.integer(0, 9), m.integer(0, 20)];
  const k = m.make([batch, few, keys, width], dtype);
  const options = {
    mask: m.pick([null, m.make([queries, keys], m.chance(0.5) ? 'bool' : dtype)]),
    keyPadding: m.pick([null, m.make([batch, keys], 'bool')]),
    lengths: m.pick([null, m.make([batch], 'int64')]),
    isCausal: m.chance(0.5),
    dropout: m.pick([0, 0.2]),
    scale: m.pick([undefined, 0.3]),
  };
  return [m.make([batch, few * group, queries, width], dtype), k, k, options];
});

// Attention and transformers.
layer(
  'MultiheadAttention',
  nn.MultiheadAttention as never,
  () => [8, 2, { batchFirst: true }],
  (m) => [m.make([m.integer(0, 2), m.integer(0, 4), 8], 'float32')],
);
plain(
  'nn.MultiheadAttention.forward between sequences',
  (query: never, key: never, value: never, call: never) =>
    new nn.MultiheadAttention(8, 2).forward(query, key, value, call)[0],
  (m) => {
    const [queries, keys, batch] = [m.integer(1, 3), m.integer(1, 3), m.integer(1, 2)];
    const key = m.make([keys, batch, 8], 'float32');
    const call = {
      attnMask: m.pick([null, m.make([queries, keys], 'bool')]),
      keyPaddingMask: m.pick([null, m.make([batch, keys], 'bool')]),
      needWeights: m.chance(0.5),
    };
    return [m.make([queries, batch, 8], 'float32'), key, key, call];
  },
);
for (const [name, make] of [
  ['AdditiveAttention', (options: object) => new nn.AdditiveAttention(4, 4, 3, options)],
  ['DotProductAttention', () => new nn.DotProductAttention()],
] as const) {
  plain(
    `nn.${name}`,
    (query: never, keys: never, values: never, call: never) =>
      make({}).forward(query, keys, values, call)[0],
    (m) => {
      const [batch, length] = [m.integer(0, 2), m.integer(1, 5)];
      const keys = m.make([batch, length, 4], 'float32');
      const query = m.make(
        m.pick([
          [batch, 4],
          [batch, 3, 4],
        ]),
        'float32',
      );
      return [query, keys, keys, { keyPaddingMask: m.make([batch, length], 'bool') }];
    },
  );
}
const small = { dimFeedforward: 4, dropout: 0.1, activation: 'gelu', batchFirst: true } as const;
layer(
  'TransformerEncoderLayer',
  nn.TransformerEncoderLayer as never,
  () => [4, 2, small],
  (m) => [m.make([2, m.integer(0, 3), 4], 'float32')],
);
layer(
  'TransformerEncoder',
  nn.TransformerEncoder as never,
  () => [new nn.TransformerEncoderLayer(4, 2, small), 2, { norm: new nn.LayerNorm(4) }],
  (m) => [m.make([2, m.integer(0, 3), 4], 'float32')],
);
for (const name of ['TransformerDecoderLayer', 'TransformerDecoder'] as const) {
  plain(
    `nn.${name}`,
    (x: never, memory: never, masks: never, width: never, options: never) => {
      const made = new nn.TransformerDecoderLayer(width, 2, options);
      const decoder = name === 'TransformerDecoder' ? new nn.TransformerDecoder(made, 2) : made;
      return decoder.forward(x, memory, masks);
    },
    (m) => {
      const [length, keys] = [m.integer(1, 3), m.integer(1, 3)];
      const masks = { isCausal: true, memoryKeyPaddingMask: m.make([2, keys], 'bool') };
      const x = m.make([2, length, 4], 'float32');
      return [x, m.make([2, keys, 4], 'float32'), masks, 4, small];
    },
    { weight: 0.5 },
  );
}
plain('nn.sinusoidalPositions', nn.sinusoidalPositions, (m) => [
  m.integer(0, 5),
  m.integer(1, 6),
  { base: 100, ...m.options() },
]);
for (const name of ['SinusoidalPositions', 'LearnedPositions', 'RotaryPositions'] as const) {
  layer(
    name,
    nn[name] as never,
    (m) => [4, 6, { ...m.options(), dtype: m.float() }],
    (m) => [m.make([...m.shape(m.integer(0, 2)), m.integer(0, 4), 6], m.float())],
    name === 'RotaryPositions' ? { op: 'rotary' } : {},
  );
}
const tiny = {
  vocabSize: 9,
  hiddenSize: 4,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
  intermediateSize: 4,
  maxPositionEmbeddings: 4,
} as const;
for (const name of ['Bert', 'BertClassifier'] as const) {
  plain(
    `models.${name}`,
    (options: never, tokens: never, inputs: never) => {
      const result: unknown = new ng.models[name](options).forward(tokens, inputs);
      return (Array.isArray(result) ? result[1] : result) as never;
    },
    (m) => {
      const [batch, length] = [m.integer(0, 2), m.integer(0, 5)];
      const inputs = { keyPaddingMask: m.pick([null, m.make([batch, length], 'bool')]) };
      return [tiny, m.make([batch, length], 'int64'), inputs];
    },
    { weight: 0.5 },
  );
}
