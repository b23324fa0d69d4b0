import * as ng from '../../../lib/index.js';
import { at, build, map, type Nd } from '../../support/nd.js';
import type { OpRow } from '../../support/op.js';
import { channelsFirst, channelsLast } from './conv.js';

/** The windows of one axis: the elements of window i. */
type Windows = (size: number) => {
  count: number;
  of: (i: number) => number[];
  extent: (i: number) => number;
};

function sliding(
  kernel: number,
  stride: number,
  padding = 0,
  dilation = 1,
  ceil = false,
  countPad = false,
): Windows {
  return (size) => {
    const room = size + 2 * padding - dilation * (kernel - 1) - 1;
    let count = (ceil ? Math.ceil(room / stride) : Math.floor(room / stride)) + 1;
    if (ceil && (count - 1) * stride >= size + padding) --count;
    const of = (i: number): number[] =>
      Array.from({ length: kernel }, (_, a) => i * stride - padding + a * dilation).filter(
        (j) => j >= 0 && j < size,
      );
    const extent = (i: number): number =>
      countPad
        ? Math.min(i * stride - padding + kernel, size + padding) - (i * stride - padding)
        : of(i).length;
    return { count, of, extent };
  };
}

function adaptive(count: number | null): Windows {
  return (size) => {
    const wanted = count ?? size;
    const of = (i: number): number[] => {
      const begin = Math.floor((i * size) / wanted);
      return Array.from(
        { length: Math.ceil(((i + 1) * size) / wanted) - begin },
        (_, a) => begin + a,
      );
    };
    return { count: wanted, of, extent: (i) => of(i).length };
  };
}

function pooled(x: Nd, high: Windows, wide: Windows, average: boolean): Nd {
  const [images, channels, height, width] = x.shape as [number, number, number, number];
  const [rows, columns] = [high(height), wide(width)];
  return build([images, channels, rows.count, columns.count], (index) => {
    const [n, c, i, j] = index as [number, number, number, number];
    const values = rows
      .of(i)
      .flatMap((row) => columns.of(j).map((column) => at(x, [n, c, row, column])));
    if (!average) return Math.max(...values);
    return values.reduce((a, b) => a + b, 0) / (rows.extent(i) * columns.extent(j));
  });
}

interface Variant {
  variant: string;
  fn: (x: ng.Tensor) => ng.Tensor;
  windows: [Windows, Windows];
  shape?: (n: number) => ng.Shape;
  /** Whether the input is [N,H,W,C]. */
  last?: boolean;
  relu?: boolean;
  more?: Partial<OpRow>;
}

const image = (n: number): ng.Shape => [2, 3, n + 3, n + 4];

function rowsOf(op: 'maxPool2d' | 'avgPool2d', variants: readonly Variant[]): OpRow[] {
  return variants.map(
    ({ variant, fn, windows, shape = image, last, relu, more }): OpRow => ({
      op,
      variant,
      fn: (x) => fn(x as ng.Tensor),
      reference: (x: Nd) => {
        const y = pooled(last ? channelsFirst(x) : x, ...windows, op === 'avgPool2d');
        const z = relu ? map(y, (v) => Math.max(v, 0)) : y;
        return last ? channelsLast(z) : z;
      },
      inputs: [{ shape }],
      sizes: [1, 9],
      terms: () => 20,
      ...more,
    }),
  );
}

function errorsOf(name: 'maxPool2d' | 'avgPool2d'): OpRow['errors'] {
  const fn = name === 'maxPool2d' ? ng.maxPool2d : ng.avgPool2d;
  return [
    {
      name: 'a padding beyond half the kernel',
      call: (device) => fn(ng.zeros([1, 1, 4, 4], { device }), 3, { padding: 2 }),
      message: `${name}: padding must be at most half the kernel, got 2 and 3`,
    },
    {
      name: 'a kernel that does not fit',
      call: (device) => fn(ng.zeros([1, 1, 2, 4], { device }), 3),
      message: `${name}: the kernel must fit into the padded input, got 3 taps, 1 apart, in 2`,
    },
    {
      name: 'integers',
      call: (device) => fn(ng.zeros([1, 1, 4, 4], { device, dtype: 'int64' }), 2),
      message: `${name}: needs a floating dtype, got int64`,
    },
  ];
}

/** Distinct elements far enough apart for central differences. */
const exact: Partial<OpRow> = { exact: ['float32', 'bfloat16'] };

export const maxPoolRows: OpRow[] = rowsOf('maxPool2d', [
  {
    variant: 'of 2 by 2',
    fn: (x) => ng.maxPool2d(x, 2),
    windows: [sliding(2, 2), sliding(2, 2)],
    more: { ...exact, errors: errorsOf('maxPool2d') ?? [], large: 70 },
  },
  {
    variant: 'that overlap and are padded',
    fn: (x) => ng.maxPool2d(x, [3, 2], { stride: [2, 1], padding: 1 }),
    windows: [sliding(3, 2, 1), sliding(2, 1, 1)],
    more: exact,
  },
  {
    variant: 'with dilation and ceilMode',
    fn: (x) => ng.maxPool2d(x, [2, 2], { stride: 3, dilation: [2, 1], ceilMode: true }),
    windows: [sliding(2, 3, 0, 2, true), sliding(2, 3, 0, 1, true)],
    more: exact,
  },
  {
    variant: 'with ceilMode and a last window in the padding',
    fn: (x) => ng.maxPool2d(x, 2, { stride: 2, padding: 1, ceilMode: true }),
    windows: [sliding(2, 2, 1, 1, true), sliding(2, 2, 1, 1, true)],
  },
  {
    variant: 'adaptive',
    fn: (x) => ng.adaptiveMaxPool2d(x, [3, null]),
    windows: [adaptive(3), adaptive(null)],
    more: exact,
  },
  {
    variant: 'with ReLU',
    fn: (x) => ng.maxPool2d(x, 2, { relu: true }),
    windows: [sliding(2, 2), sliding(2, 2)],
    relu: true,
    more: exact,
  },
  {
    variant: 'channels last, that overlap and are padded, with ReLU',
    fn: (x) => ng.maxPool2d(x, [3, 2], { stride: [2, 1], padding: 1, relu: true, layout: 'NHWC' }),
    windows: [sliding(3, 2, 1), sliding(2, 1, 1)],
    shape: (n) => [2, n + 3, n + 4, 5],
    relu: true,
    last: true,
    more: exact,
  },
  {
    variant: 'channels last, adaptive',
    fn: (x) => ng.adaptiveMaxPool2d(x, [3, null], { layout: 'NHWC' }),
    windows: [adaptive(3), adaptive(null)],
    shape: (n) => [2, n + 3, n + 4, 3],
    last: true,
    more: exact,
  },
  {
    variant: 'adaptive to more than there is',
    fn: (x) => ng.adaptiveMaxPool2d(x, 7),
    windows: [adaptive(7), adaptive(7)],
  },
  {
    variant: 'of no images',
    fn: (x) => ng.maxPool2d(x, 2),
    windows: [sliding(2, 2), sliding(2, 2)],
    shape: () => [0, 3, 4, 4],
    more: { sizes: [1] },
  },
]);

export const avgPoolRows: OpRow[] = rowsOf('avgPool2d', [
  {
    variant: 'of 2 by 2',
    fn: (x) => ng.avgPool2d(x, 2),
    windows: [sliding(2, 2), sliding(2, 2)],
    more: { errors: errorsOf('avgPool2d') ?? [], large: 70 },
  },
  {
    variant: 'that overlap and are padded',
    fn: (x) => ng.avgPool2d(x, [3, 2], { stride: [2, 1], padding: 1 }),
    windows: [sliding(3, 2, 1, 1, false, true), sliding(2, 1, 1, 1, false, true)],
  },
  {
    variant: 'without their padding, with ceilMode',
    fn: (x) => ng.avgPool2d(x, 3, { padding: 1, ceilMode: true, countIncludePad: false }),
    windows: [sliding(3, 3, 1, 1, true), sliding(3, 3, 1, 1, true)],
  },
  {
    variant: 'with their padding and ceilMode',
    fn: (x) => ng.avgPool2d(x, [2, 3], { stride: 2, padding: 1, ceilMode: true }),
    windows: [sliding(2, 2, 1, 1, true, true), sliding(3, 2, 1, 1, true, true)],
  },
  {
    variant: 'adaptive',
    fn: (x) => ng.adaptiveAvgPool2d(x, [3, 2]),
    windows: [adaptive(3), adaptive(2)],
  },
  {
    variant: 'channels last, that overlap and are padded',
    fn: (x) => ng.avgPool2d(x, [3, 2], { stride: [2, 1], padding: 1, layout: 'NHWC' }),
    windows: [sliding(3, 2, 1, 1, false, true), sliding(2, 1, 1, 1, false, true)],
    shape: (n) => [2, n + 3, n + 4, 5],
    last: true,
  },
  {
    variant: 'channels last, adaptive',
    fn: (x) => ng.adaptiveAvgPool2d(x, [3, 2], { layout: 'NHWC' }),
    windows: [adaptive(3), adaptive(2)],
    shape: (n) => [2, n + 3, n + 4, 3],
    last: true,
  },
  {
    variant: 'adaptive to one',
    fn: (x) => ng.adaptiveAvgPool2d(x, 1),
    windows: [adaptive(1), adaptive(1)],
    more: { terms: (n) => n * n + 20, large: 70 },
  },
  {
    variant: 'adaptive to none',
    fn: (x) => ng.adaptiveAvgPool2d(x, [0, null]),
    windows: [adaptive(0), adaptive(null)],
  },
]);
