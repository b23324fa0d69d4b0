/** Convolution and pooling. */
import * as ng from '../../../lib/index.js';
import { api, type Constructor, layer, layers, nn, op, plain } from '../entries.js';
import type { Maker } from '../maker.js';

// Convolutions and pooling of one axis or two; `m.integer(…)` keeps kernels within their inputs.
function convolution(m: Maker, axes: 1 | 2, transposed: boolean): unknown[] {
  const dtype = m.float();
  const [groups, each, outputs] = [m.integer(1, 2), m.integer(1, 3), m.integer(1, 3)];
  const kernel = Array.from({ length: axes }, () => m.integer(1, 3));
  const image = kernel.map((taps) => 2 * taps + m.integer(0, 4));
  const weight = transposed ? [groups * each, outputs] : [groups * outputs, each];
  const bias = m.chance(0.5) ? m.make([groups * outputs], dtype) : null;
  const options = {
    groups,
    stride: m.integer(1, 3),
    padding: m.chance(0.2) ? 0 : m.integer(0, 1),
    dilation: m.integer(1, 2),
    ...(m.chance(0.3) && { layout: axes === 1 ? 'NLC' : 'NHWC' }),
  };
  const channels = groups * each;
  const sizes = options.layout ? [...image, channels] : [channels, ...image];
  const x = m.make([m.integer(0, 2), ...sizes], dtype);
  return [x, m.make([...weight, ...kernel], dtype), bias, options];
}
op('conv2d', ng.conv2d, (m) => convolution(m, 2, false));
op('convTranspose2d', ng.convTranspose2d, (m) => convolution(m, 2, true));
plain('conv1d', ng.conv1d, (m) => convolution(m, 1, false), { op: 'conv2d' });
plain('convTranspose1d', ng.convTranspose1d, (m) => convolution(m, 1, true), {
  op: 'convTranspose2d',
});
function pooling(m: Maker, axes: 1 | 2): unknown[] {
  const image = Array.from({ length: axes }, () => m.integer(3, 9));
  const x = m.make([m.integer(0, 2), m.integer(1, 3), ...image], m.float());
  const kernel = m.integer(2, 3);
  const options = { stride: m.integer(1, 4), padding: m.integer(0, 1), ceilMode: m.chance(0.5) };
  return [x, kernel, options];
}
op('maxPool2d', ng.maxPool2d, (m) => pooling(m, 2));
op('avgPool2d', ng.avgPool2d, (m) => pooling(m, 2));
plain('maxPool1d', ng.maxPool1d, (m) => pooling(m, 1), { op: 'maxPool2d' });
plain('avgPool1d', ng.avgPool1d, (m) => pooling(m, 1), { op: 'avgPool2d' });
const images = (m: Maker): ng.Tensor =>
  m.make([...m.shape(m.integer(1, 2)), m.integer(1, 9), m.integer(1, 9)], m.float());
for (const name of ['adaptiveAvgPool2d', 'adaptiveMaxPool2d'] as const) {
  const by = name === 'adaptiveAvgPool2d' ? 'avgPool2d' : 'maxPool2d';
  plain(name, api[name], (m) => [images(m), m.pick([1, [3, null], 11, null])], { op: by });
}
for (const name of ['adaptiveAvgPool1d', 'adaptiveMaxPool1d'] as const) {
  plain(name, api[name], (m) => [m.make([2, 7], m.float()), m.pick([1, 3, 9, null])]);
}
plain('upsample', ng.upsample, (m) => [
  images(m),
  m.pick([
    { scaleFactor: 2 },
    { size: [5, 7] },
    { size: 6, mode: 'bilinear' },
    { scaleFactor: [1.5, 2], mode: 'bilinear', alignCorners: true },
  ]),
]);

for (const name of ['Conv1d', 'Conv2d', 'ConvTranspose1d', 'ConvTranspose2d'] as const) {
  const image = name.endsWith('1d') ? [6] : [6, 5];
  layer(
    name,
    layers[name] as Constructor,
    (m) => [2, 4, m.integer(1, 3), { groups: 2, padding: 1, bias: m.chance(0.5) }],
    (m) => [m.make([m.integer(0, 2), 2, ...image], 'float32')],
  );
}
for (const name of ['MaxPool1d', 'MaxPool2d', 'AvgPool1d', 'AvgPool2d'] as const) {
  const image = name.endsWith('1d') ? [6] : [6, 5];
  layer(
    name,
    layers[name] as Constructor,
    (m) => [m.integer(2, 3), { stride: m.integer(1, 2) }],
    (m) => [m.make([m.integer(0, 2), 2, ...image], m.float())],
  );
}
for (const name of ['AdaptiveAvgPool2d', 'AdaptiveMaxPool2d'] as const) {
  layer(
    name,
    layers[name] as Constructor,
    (m) => [m.pick([1, [2, null]])],
    (m) => [images(m)],
  );
}
for (const name of ['AdaptiveAvgPool1d', 'AdaptiveMaxPool1d'] as const) {
  layer(
    name,
    layers[name] as Constructor,
    (m) => [m.pick([3, null])],
    (m) => [m.make([2, 7], m.float())],
  );
}
layer(
  'Unflatten',
  nn.Unflatten as never,
  () => [1, [2, -1]],
  (m) => [m.make([3, 4], m.float())],
);
layer(
  'Upsample',
  nn.Upsample as never,
  () => [{ scaleFactor: 2 }],
  (m) => [images(m)],
);

plain(
  'models.cnn',
  (options: object) => void ng.models.cnn(options),
  () => [{ input: [1, 6, 7], channels: [2], hidden: 3 }],
  { weight: 0.3 },
);
