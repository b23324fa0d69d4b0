import * as ng from '../../../lib/index.js';
import { at, build, type Nd } from '../../support/nd.js';
import type { OpRow } from '../../support/op.js';

/** Strides, paddings before and behind, dilations, groups. */
interface Geometry {
  stride: [number, number];
  before: [number, number];
  behind: [number, number];
  dilation: [number, number];
  groups: number;
}

const plain: Geometry = {
  stride: [1, 1],
  before: [0, 0],
  behind: [0, 0],
  dilation: [1, 1],
  groups: 1,
};

function outputSize(size: number, kernel: number, g: Geometry, axis: 0 | 1): number {
  const reach = g.dilation[axis] * (kernel - 1) + 1;
  return Math.floor((size + g.before[axis] + g.behind[axis] - reach) / g.stride[axis]) + 1;
}

function convolution(x: Nd, w: Nd, bias: Nd | undefined, g: Geometry, relu = false): Nd {
  const [images, , height, width] = x.shape as [number, number, number, number];
  const [outputs, inputs, kh, kw] = w.shape as [number, number, number, number];
  const shape = [images, outputs, outputSize(height, kh, g, 0), outputSize(width, kw, g, 1)];
  return build(shape, (index) => {
    const [n, o, i, j] = index as [number, number, number, number];
    const group = Math.floor((o * g.groups) / outputs);
    let sum = bias ? at(bias, [o]) : 0;
    for (let c = 0; c < inputs; ++c) {
      for (let a = 0; a < kh; ++a) {
        for (let b = 0; b < kw; ++b) {
          const row = i * g.stride[0] + a * g.dilation[0] - g.before[0];
          const column = j * g.stride[1] + b * g.dilation[1] - g.before[1];
          if (row < 0 || column < 0 || row >= height || column >= width) continue;
          sum += at(x, [n, group * inputs + c, row, column]) * at(w, [o, c, a, b]);
        }
      }
    }
    return relu ? Math.max(sum, 0) : sum;
  });
}

/** Each element of x adds its window to the result. */
function transposed(x: Nd, w: Nd, bias: Nd | undefined, g: Geometry, more = [0, 0]): Nd {
  const [images, inputs, height, width] = x.shape as [number, number, number, number];
  const [, each, kh, kw] = w.shape as [number, number, number, number];
  const size = (from: number, kernel: number, axis: 0 | 1): number =>
    (from - 1) * g.stride[axis] -
    2 * g.before[axis] +
    g.dilation[axis] * (kernel - 1) +
    (more[axis] as number) +
    1;
  const shape = [images, each * g.groups, size(height, kh, 0), size(width, kw, 1)];
  const y = build(shape, ([, o]) => (bias ? at(bias, [o as number]) : 0));
  build([...x.shape, each, kh, kw], (index) => {
    const [n, c, i, j, o, a, b] = index as [number, number, number, number, number, number, number];
    const row = i * g.stride[0] + a * g.dilation[0] - g.before[0];
    const column = j * g.stride[1] + b * g.dilation[1] - g.before[1];
    const [high, wide] = [shape[2] as number, shape[3] as number];
    if (row < 0 || column < 0 || row >= high || column >= wide) return 0;
    const channel = Math.floor((c * g.groups) / inputs) * each + o;
    const place = ((n * each * g.groups + channel) * high + row) * wide + column;
    const product = at(x, [n, c, i, j]) * at(w, [c, o, a, b]);
    y.data[place] = (y.data[place] as number) + product;
    return 0;
  });
  return y;
}

/** [N,H,W,C] as [N,C,H,W], and back. */
export function channelsFirst(x: Nd): Nd {
  const [n, h, w, c] = x.shape as [number, number, number, number];
  return build([n, c, h, w], ([a, b, i, j]) => at(x, [a, i, j, b] as number[]));
}
export function channelsLast(x: Nd): Nd {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  return build([n, h, w, c], ([a, i, j, b]) => at(x, [a, b, i, j] as number[]));
}

type Make = (n: number) => ng.Shape;

function rowOf(
  variant: string,
  options: ng.Conv2dOptions,
  geometry: Partial<Geometry>,
  [x, w, bias]: [Make, Make, Make?],
  more: Partial<OpRow> = {},
): OpRow {
  const g = { ...plain, ...geometry };
  return {
    op: 'conv2d',
    variant,
    fn: (...[a, b, c]: ng.Tensor[]) => ng.conv2d(a as ng.Tensor, b as ng.Tensor, c, options),
    reference: (...[a, b, c]: Nd[]) => {
      if (options.layout !== 'NHWC') return convolution(a as Nd, b as Nd, c, g, options.relu);
      return channelsLast(convolution(channelsFirst(a as Nd), b as Nd, c, g, options.relu));
    },
    inputs: [{ shape: x }, { shape: w }, ...(bias ? [{ shape: bias }] : [])],
    sizes: [1, 9],
    terms: (n) => 40 * n,
    ...more,
  };
}

const errors: OpRow['errors'] = [
  {
    name: 'channels that do not match',
    call: (device) =>
      ng.conv2d(ng.zeros([1, 3, 4, 4], { device }), ng.zeros([2, 2, 3, 3], { device })),
    message:
      "conv2d: channels must match the weight's and divide by the groups, got [1,3,4,4], [2,2,3,3] and 1",
  },
  {
    name: 'a kernel that does not fit',
    call: (device) =>
      ng.conv2d(ng.zeros([1, 1, 4, 4], { device }), ng.zeros([1, 1, 3, 3], { device }), null, {
        dilation: [2, 1],
      }),
    message: 'conv2d: the kernel must fit into the padded input, got 3 taps over 5 in 4',
  },
  {
    name: 'a bias of another size',
    call: (device) =>
      ng.conv2d(
        ng.zeros([1, 1, 4, 4], { device }),
        ng.zeros([2, 1, 3, 3], { device }),
        ng.zeros([1], { device }),
      ),
    message: 'conv2d: the bias must be float32[2], got float32[1]',
  },
  {
    name: "'same' with a stride",
    call: (device) =>
      ng.conv2d(ng.zeros([1, 1, 4, 4], { device }), ng.zeros([1, 1, 3, 3], { device }), null, {
        padding: 'same',
        stride: 2,
      }),
    message: "conv2d: padding 'same' needs a stride of 1, got [2,2]; 'sameUpper' takes any",
  },
  {
    name: 'an input of another rank',
    call: (device) => ng.conv2d(ng.zeros([4, 4], { device }), ng.zeros([1, 1, 3, 3], { device })),
    message: 'conv2d: the input must be [N,C,H,W] or [C,H,W], got [4,4]',
  },
  {
    name: 'integers',
    call: (device) =>
      ng.conv2d(
        ng.zeros([1, 1, 4, 4], { device, dtype: 'int32' }),
        ng.zeros([1, 1, 3, 3], { device, dtype: 'int32' }),
      ),
    message: 'conv2d: needs two tensors of one floating dtype, got int32 and int32',
  },
];

export const convRows: OpRow[] = [
  rowOf('with a bias', {}, {}, [(n) => [2, 3, n + 2, n + 4], () => [5, 3, 3, 2], () => [5]], {
    errors,
    large: 60,
  }),
  rowOf('with padding', { padding: 1 }, { before: [1, 1], behind: [1, 1] }, [
    (n) => [2, 2, n, n + 1],
    () => [17, 2, 3, 3],
  ]),
  rowOf(
    'with ReLU',
    { relu: true, padding: [0, 1] },
    { before: [0, 1], behind: [0, 1] },
    [(n) => [1, 2, n + 1, n], () => [3, 2, 2, 3], () => [3]],
    { wider: { by: { bfloat16: 4, float16: 4, float32: 4 }, because: 'a sum near 0 is cut' } },
  ),
  rowOf(
    'with strides, dilation and groups',
    { stride: [2, 3], padding: [2, 1], dilation: [1, 2], groups: 2 },
    { stride: [2, 3], before: [2, 1], behind: [2, 1], dilation: [1, 2], groups: 2 },
    [(n) => [2, 4, n + 2, n + 4], () => [6, 2, 3, 3], () => [6]],
    { large: 50 },
  ),
  rowOf('with a stride beyond the kernel', { stride: 3 }, { stride: [3, 3] }, [
    (n) => [1, 3, n + 1, n + 2],
    () => [4, 3, 2, 1],
    () => [4],
  ]),
  rowOf(
    'with strides and dilations that share a factor',
    { stride: [4, 2], dilation: [2, 4], padding: [3, 2] },
    { stride: [4, 2], dilation: [2, 4], before: [3, 2], behind: [3, 2] },
    [(n) => [1, 2, n + 2, n + 5], () => [3, 2, 3, 3]],
  ),
  rowOf(
    'of each channel on its own',
    { groups: 5, padding: 'same' },
    { groups: 5, before: [0, 1], behind: [1, 1] },
    [(n) => [1, 5, n, n], () => [5, 1, 2, 3]],
  ),
  rowOf(
    'of each channel on its own, with strides and two outputs',
    { groups: 3, padding: 1, stride: [2, 1], relu: true },
    { groups: 3, before: [1, 1], behind: [1, 1], stride: [2, 1] },
    [(n) => [2, 3, n + 1, n + 2], () => [6, 1, 3, 3], () => [6]],
    {
      large: 50,
      wider: { by: { bfloat16: 4, float16: 4, float32: 4 }, because: 'a sum near 0 is cut' },
    },
  ),
  rowOf('of one element each', {}, {}, [(n) => [3, 20, n, 2], () => [15, 20, 1, 1], () => [15]]),
  rowOf(
    'channels last',
    { layout: 'NHWC', padding: [1, 0], relu: true },
    { before: [1, 0], behind: [1, 0] },
    [(n) => [2, n, n + 2, 11], () => [19, 11, 3, 2], () => [19]],
    {
      large: 40,
      wider: { by: { bfloat16: 4, float16: 4, float32: 4 }, because: 'a sum near 0 is cut' },
    },
  ),
  rowOf(
    'channels last, with strides, dilation and groups',
    { layout: 'NHWC', stride: [2, 3], padding: [2, 1], dilation: [1, 2], groups: 2 },
    { stride: [2, 3], before: [2, 1], behind: [2, 1], dilation: [1, 2], groups: 2 },
    [(n) => [2, n + 2, n + 4, 4], () => [6, 2, 3, 3], () => [6]],
  ),
  rowOf(
    'channels last, of each channel on its own',
    { layout: 'NHWC', groups: 17, padding: 1, relu: true },
    { groups: 17, before: [1, 1], behind: [1, 1] },
    [(n) => [2, n, 3, 17], () => [17, 1, 3, 3], () => [17]],
    {
      sizes: [1, 8],
      wider: { by: { bfloat16: 4, float16: 4, float32: 4 }, because: 'a sum near 0 is cut' },
    },
  ),
  rowOf(
    'channels last, of one element each, in two slices',
    { layout: 'NHWC' },
    {},
    [(n) => [1, n, 3, 200], () => [3, 200, 1, 1]],
    { terms: () => 200 },
  ),
  rowOf(
    "padded as 'sameUpper' with strides",
    { stride: 2, padding: 'sameUpper' },
    { stride: [2, 2], before: [0, 1], behind: [1, 2] },
    [() => [1, 2, 10, 9], () => [3, 2, 3, 4]],
    { sizes: [9] },
  ),
  rowOf('of no images', {}, {}, [() => [0, 2, 4, 4], () => [3, 2, 3, 3], () => [3]], {
    sizes: [1],
  }),
  rowOf('of no channels in groups', { groups: 2 }, { groups: 2 }, [
    (n) => [2, 0, n, n],
    () => [4, 0, 1, 1],
    () => [4],
  ]),
  rowOf('of no channels', {}, {}, [(n) => [2, 0, n, n], () => [3, 0, 1, 1], () => [3]]),
];

type Transposed = [ng.ConvTranspose2dOptions, Partial<Geometry>, number[]];
const transposedVariants: [string, Transposed, [Make, Make, Make?]][] = [
  ['with a bias', [{}, {}, [0, 0]], [(n) => [2, 3, n, n + 1], () => [3, 5, 3, 2], () => [5]]],
  [
    'with strides, output padding and groups',
    [
      { stride: [2, 3], padding: 1, outputPadding: [1, 2], groups: 2 },
      { stride: [2, 3], before: [1, 1], groups: 2 },
      [1, 2],
    ],
    [(n) => [2, 4, n, n], () => [4, 3, 3, 3], () => [6]],
  ],
  [
    'with dilation',
    [
      { dilation: [2, 3], outputPadding: [1, 0], stride: [1, 2] },
      { dilation: [2, 3], stride: [1, 2] },
      [1, 0],
    ],
    [(n) => [1, 2, n, n], () => [2, 3, 2, 2]],
  ],
  [
    'channels last, with strides',
    [{ layout: 'NHWC', stride: 2, padding: 1 }, { stride: [2, 2], before: [1, 1] }, [0, 0]],
    [(n) => [2, n, n + 1, 3], () => [3, 5, 4, 3], () => [5]],
  ],
];

export const convTransposeRows: OpRow[] = transposedVariants.map(
  ([variant, [options, geometry, more], [x, w, bias]], i): OpRow => ({
    op: 'convTranspose2d',
    variant,
    fn: (...[a, b, c]: ng.Tensor[]) =>
      ng.convTranspose2d(a as ng.Tensor, b as ng.Tensor, c, options),
    reference: (...[a, b, c]: Nd[]) => {
      const [x, w] = [a as Nd, b as Nd];
      const g = { ...plain, ...geometry };
      if (options.layout !== 'NHWC') return transposed(x, w, c, g, more);
      return channelsLast(transposed(channelsFirst(x), w, c, g, more));
    },
    inputs: [{ shape: x }, { shape: w }, ...(bias ? [{ shape: bias }] : [])],
    sizes: [1, 7],
    terms: (n) => 40 * n,
    ...(i === 0 && {
      large: 40,
      errors: [
        {
          name: 'channels that do not match',
          call: (device) =>
            ng.convTranspose2d(
              ng.zeros([1, 3, 4, 4], { device }),
              ng.zeros([2, 2, 3, 3], { device }),
            ),
          message:
            "convTranspose2d: channels must match the weight's and divide by the groups, got [1,3,4,4], [2,2,3,3] and 1",
        },
        {
          name: 'an output padding that is too large',
          call: (device) =>
            ng.convTranspose2d(
              ng.zeros([1, 1, 4, 4], { device }),
              ng.zeros([1, 1, 3, 3], { device }),
              null,
              { outputPadding: 2, stride: 2 },
            ),
          message: 'convTranspose2d: outputPadding must be below stride or dilation, got 2 and 2',
        },
        {
          name: 'a padding that leaves nothing',
          call: (device) =>
            ng.convTranspose2d(
              ng.zeros([1, 1, 2, 2], { device }),
              ng.zeros([1, 1, 1, 1], { device }),
              null,
              { padding: 1 },
            ),
          message:
            'convTranspose2d: paddings must leave an output, got [1,1,2,2] and the weight [1,1,1,1]',
        },
      ],
    }),
  }),
);
