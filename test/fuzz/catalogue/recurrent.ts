/** Recurrent layers and sequences. */
import * as ng from '../../../lib/index.js';
import { layer, nn, plain } from '../entries.js';
import type { Maker } from '../maker.js';

plain(
  'recurrent',
  ng.recurrent,
  (m) => {
    const mode = m.pick(['lstm', 'gru', 'tanh', 'relu'] as const);
    const dtype = m.float();
    const gates = { lstm: 4, gru: 3, tanh: 1, relu: 1 }[mode];
    const [batch, steps, input] = [m.integer(0, 4), m.integer(0, 3), m.integer(0, 5)];
    const [hidden, directions, biased] = [m.integer(1, 5), m.integer(1, 2), m.chance(0.5)];
    const size = gates * hidden;
    const weights = Array.from({ length: directions }, () => [
      m.make([size, input], dtype),
      m.make([size, hidden], dtype),
      ...(biased ? [m.make([size], dtype), m.make([size], dtype)] : []),
    ]);
    const state = () => (m.chance(0.5) ? m.make([directions, batch, hidden], dtype) : null);
    const options = {
      batchFirst: m.chance(0.5),
      lengths: m.chance(0.5) ? m.index(batch, steps + 2) : null,
      h0: state(),
      c0: mode === 'lstm' ? state() : null,
    };
    const shape = options.batchFirst ? [batch, steps, input] : [steps, batch, input];
    return [mode, m.make(shape, dtype), weights, options];
  },
  { op: 'rnn' },
);

for (const name of ['RNN', 'GRU', 'LSTM'] as const) {
  layer(
    name,
    nn[name] as never,
    (m) => [3, 4, { numLayers: m.integer(1, 2), bidirectional: m.chance(0.5), dropout: 0.5 }],
    (m) => [m.make([m.integer(0, 3), m.integer(0, 3), 3], 'float32')],
  );
}
for (const name of ['RNNCell', 'GRUCell', 'LSTMCell'] as const) {
  layer(
    name,
    nn[name] as never,
    (m) => [3, 4, { bias: m.chance(0.5) }],
    (m) => [m.make([m.integer(0, 4), 3], 'float32')],
  );
}
const packedRows = (m: Maker): [ng.Tensor, ng.Tensor | number[], { batchFirst: boolean }] => {
  const [batch, steps] = [m.integer(0, 4), m.integer(1, 4)];
  const lengths = m.chance(0.5)
    ? m.index(batch, steps + 2)
    : Array.from({ length: batch }, () => m.integer(1, steps));
  return [m.make([batch, steps, 2], m.float()), lengths, { batchFirst: true }];
};
plain('nn.packPaddedSequence', nn.packPaddedSequence, packedRows);
plain('nn.padPackedSequence', nn.padPackedSequence, (m) => [
  nn.packPaddedSequence(...packedRows(m)),
  { batchFirst: m.chance(0.5), paddingValue: m.integer(0, 1), totalLength: m.integer(4, 6) },
]);
plain(
  'nn.PackedSequence',
  (...given: [ng.Tensor, ng.Tensor]) => void new nn.PackedSequence(...given),
  (m) => [m.make([2, 3, 1], 'float32'), m.index(2, 3)],
);
plain('nn.padSequence', nn.padSequence, (m) => {
  const dtype = m.dtype();
  const parts = Array.from({ length: m.integer(1, 4) }, () => m.make([m.integer(0, 4), 2], dtype));
  return [parts, { batchFirst: m.chance(0.5), paddingValue: 1 }];
});
