import * as ng from '../../../lib/index.js';
import { at, build, count, map, type Nd, nd, permute } from '../../support/nd.js';
import type { ErrorCase, OpRow } from '../../support/op.js';

const integers = ['int32', 'int64', 'uint8', 'bool'] as const;
const two = (n: number): ng.Shape => [n, 6];
const three = (n: number): ng.Shape => [2, n, 3];

type Fn = (x: ng.Tensor) => ng.Tensor;

function view(
  op: OpRow['op'],
  variant: string,
  shape: (n: number) => ng.Shape,
  fn: Fn,
  reference: (x: Nd) => Nd,
  options: Partial<OpRow> = {},
): OpRow {
  return {
    op,
    variant,
    fn: fn as OpRow['fn'],
    reference,
    inputs: [{ shape }],
    sizes: [0, 1, 33],
    exact: integers,
    ...options,
  };
}

const reshaped = (x: Nd, shape: readonly number[]): Nd => nd(shape, x.data);
const part = (x: Nd, axis: number, from: number, to: number, step: number): Nd =>
  build(
    x.shape.map((size, i) => (i === axis ? Math.max(0, Math.ceil((to - from) / step)) : size)),
    (index) =>
      at(
        x,
        index.map((i, a) => (a === axis ? from + i * step : i)),
      ),
  );
const without = (x: Nd, axis: number): Nd =>
  reshaped(
    x,
    x.shape.filter((_, i) => i !== axis),
  );
const refuses = (
  name: string,
  call: (x: ng.Tensor) => unknown,
  message: string | RegExp,
): ErrorCase => ({
  name,
  call: (device) => call(ng.zeros([2, 3], { device })),
  message,
});

export const viewRows: readonly OpRow[] = [
  view(
    'reshape',
    'to a vector',
    two,
    (x) => x.reshape([x.size]),
    (x) => reshaped(x, [count(x.shape)]),
    {
      errors: [
        refuses(
          'sizes that do not multiply',
          (x) => x.reshape([4]),
          'reshape: sizes must multiply to 6, got [4]',
        ),
        refuses(
          'two sizes of -1',
          (x) => x.reshape(-1, -1),
          /^reshape: sizes must not be negative/,
        ),
        refuses('a size of -2', (x) => x.reshape(-2, 3), /^reshape: sizes must not be negative/),
        refuses(
          'nine axes',
          (x) => x.reshape(6, 1, 1, 1, 1, 1, 1, 1, 1),
          /^reshape: a shape must be an array of at most 8/,
        ),
        refuses(
          'sizes whose product overflows',
          (x) => ng.zeros([0], { device: x.device }).reshape(2 ** 32, 2 ** 32),
          /^reshape: too many elements, got shape/,
        ),
      ],
    },
  ),
  view(
    'reshape',
    'with -1',
    two,
    (x) => x.reshape(3, -1, 1),
    (x) => reshaped(x, [3, x.data.length / 3, 1]),
    {
      sizes: [1, 33],
    },
  ),
  view(
    'reshape',
    'flatten',
    three,
    (x) => x.flatten(1),
    (x) => reshaped(x, [2, x.data.length / 2]),
  ),
  view(
    'reshape',
    'squeeze',
    (n) => [1, n, 1],
    (x) => x.squeeze(0),
    (x) => without(x, 0),
  ),
  view(
    'reshape',
    'squeeze of several axes',
    (n) => [1, n, 1, 2],
    (x) => x.squeeze([0, -1, 2]),
    (x) => without(without(x, 2), 0),
    { sizes: [0, 33] },
  ),
  view(
    'reshape',
    'squeeze all',
    (n) => [1, n, 1, 3],
    (x) => x.squeeze(),
    (x) =>
      reshaped(
        x,
        x.shape.filter((s) => s !== 1),
      ),
    {
      sizes: [0, 33],
    },
  ),
  view(
    'reshape',
    'unsqueeze',
    two,
    (x) => x.unsqueeze(1),
    (x) => reshaped(x, [x.shape[0] as number, 1, 6]),
  ),
  view(
    'reshape',
    'unsqueeze from the end',
    two,
    (x) => x.unsqueeze(-1),
    (x) => reshaped(x, [...x.shape, 1]),
    {
      errors: [
        refuses(
          'an axis out of range',
          (x) => x.unsqueeze(3),
          'unsqueeze: axis must be an integer in [-3,2], got 3',
        ),
        refuses(
          'squeezing an axis out of range',
          (x) => x.squeeze(2),
          'squeeze: axis must be an integer in [-2,1], got 2',
        ),
        refuses(
          'flattening backwards',
          (x) => x.flatten(1, 0),
          'flatten: start must not come after end, got 1 and 0',
        ),
        refuses(
          'flattening from out of range',
          (x) => x.flatten(2),
          'flatten: start must be an integer in [-2,1], got 2',
        ),
      ],
    },
  ),
  view(
    'permute',
    'of three axes',
    three,
    (x) => x.permute([2, 0, 1]),
    (x) => permute(x, [2, 0, 1]),
    {
      errors: [
        refuses(
          'too few axes',
          (x) => x.permute([0]),
          'permute: needs one axis for each of 2, got [0]',
        ),
        refuses(
          'one axis twice',
          (x) => x.permute([0, -2]),
          'permute: axes must differ, got [0,-2]',
        ),
        refuses(
          'an axis out of range',
          (x) => x.permute([0, 2]),
          'permute: axis must be in [-2,2), got 2',
        ),
      ],
    },
  ),
  view(
    'permute',
    'with negative axes',
    three,
    (x) => x.permute([-1, 0, -2]),
    (x) => permute(x, [2, 0, 1]),
  ),
  view(
    'permute',
    'transpose',
    three,
    (x) => x.transpose(0, 2),
    (x) => permute(x, [2, 1, 0]),
  ),
  view(
    'permute',
    'T',
    two,
    (x) => x.T,
    (x) => permute(x, [1, 0]),
  ),
  view(
    'expand',
    'of a size of 1',
    (n) => [n, 1],
    (x) => x.expand([x.shape[0] as number, 4]),
    (x) => build([x.shape[0] as number, 4], (i) => at(x, i)),
    {
      errors: [
        refuses(
          'a shape it does not broadcast to',
          (x) => x.expand([2, 4]),
          'expand: shape [2,3] does not broadcast to [2,4]',
        ),
        refuses(
          'fewer axes',
          (x) => x.expand([3]),
          'expand: shape [2,3] does not broadcast to [3]',
        ),
      ],
    },
  ),
  view(
    'expand',
    'with axes in front',
    (n) => [n],
    (x) => x.expand([3, 2, -1]),
    (x) => build([3, 2, ...x.shape], (i) => at(x, i)),
  ),
  view(
    'slice',
    'of rows',
    two,
    (x) => x.slice(0, 1, 20),
    (x) => part(x, 0, Math.min(1, x.shape[0] as number), Math.min(20, x.shape[0] as number), 1),
    {
      errors: [
        refuses(
          'an axis out of range',
          (x) => x.slice(2, 0),
          'slice: axis must be in [-2,2), got 2',
        ),
        refuses(
          'a step of 0',
          (x) => x.slice(0, 0, 2, 0),
          'slice: step must be an integer of 1 or more, got 0',
        ),
        refuses(
          'a start that is no integer',
          (x) => x.slice(0, 0.5),
          'slice: start must be an integer, got 0.5',
        ),
      ],
    },
  ),
  view(
    'slice',
    'in steps',
    two,
    (x) => x.slice(1, 1, 6, 2),
    (x) => part(x, 1, 1, 6, 2),
  ),
  view(
    'slice',
    'from the end',
    two,
    (x) => x.slice(-1, -4, -1),
    (x) => part(x, 1, 2, 5, 1),
  ),
  view(
    'slice',
    'past the end',
    two,
    (x) => x.slice(1, 4, 100),
    (x) => part(x, 1, 4, 6, 1),
  ),
  view(
    'slice',
    'of nothing',
    two,
    (x) => x.slice(1, 4, 2),
    (x) => part(x, 1, 4, 4, 1),
  ),
  view(
    'select',
    'of a column',
    two,
    (x) => x.select(1, 2),
    (x) => without(part(x, 1, 2, 3, 1), 1),
    {
      errors: [
        refuses(
          'an index out of range',
          (x) => x.select(1, 3),
          'select: index must be in [-3,3), got 3',
        ),
        refuses(
          'an axis out of range',
          (x) => x.select(2, 0),
          'select: axis must be in [-2,2), got 2',
        ),
        refuses(
          'a scalar',
          (x) => ng.zeros([], { device: x.device }).select(0, 0),
          'select: axis must be in [0,0), got 0',
        ),
      ],
    },
  ),
  view(
    'select',
    'from the end',
    three,
    (x) => x.select(-1, -1),
    (x) => without(part(x, 2, 2, 3, 1), 2),
  ),
  view(
    'select',
    'at',
    three,
    (x) => x.at(1, null, [0, 3, 2]),
    (x) => part(without(part(x, 0, 1, 2, 1), 0), 1, 0, 3, 2),
    {
      errors: [
        refuses('more entries than axes', (x) => x.at(0, 0, 0), 'at: at most 2 entries, got 3'),
        refuses(
          'an entry of another kind',
          (x) => x.at('a' as never),
          /^at: an entry must be an index/,
        ),
      ],
    },
  ),
  view(
    'slice',
    'at',
    three,
    (x) => x.at([1], [undefined, undefined, 2], -1),
    (x) => without(part(part(part(x, 0, 1, 2, 1), 1, 0, x.shape[1] as number, 2), 2, 2, 3, 1), 2),
  ),
  view(
    'diagonal',
    '',
    two,
    (x) => x.diagonal(1),
    (x) =>
      build([Math.max(0, Math.min(x.shape[0] as number, 5))], ([i]) =>
        at(x, [i as number, (i as number) + 1]),
      ),
    {
      errors: [
        refuses(
          'one axis twice',
          (x) => x.diagonal(0, 1, -1),
          'diagonal: axes must differ, got 1 and -1',
        ),
        refuses(
          'an axis out of range',
          (x) => x.diagonal(0, 0, 2),
          'diagonal: axis must be in [-2,2), got 2',
        ),
      ],
    },
  ),
  view(
    'diagonal',
    'of other axes',
    three,
    (x) => x.diagonal(-1, -1, 0),
    (x) =>
      build([x.shape[1] as number, 2], ([i, j]) =>
        at(x, [j as number, i as number, (j as number) + 1]),
      ),
  ),
  view(
    'diagonal',
    'beyond the edge',
    two,
    (x) => x.diagonal(6),
    () => reshaped({ shape: [0], data: new Float64Array() }, [0]),
    { sizes: [1, 33] },
  ),
  view(
    'diagEmbed',
    '',
    two,
    (x) => ng.diagEmbed(x, -2),
    (x) =>
      build([x.shape[0] as number, 8, 8], ([b, i, j]) =>
        (i as number) - 2 === j ? at(x, [b as number, j]) : 0,
      ),
    {
      errors: [
        refuses(
          'a scalar',
          (x) => ng.diagEmbed(x.sum()),
          'diagEmbed: needs a tensor of rank 1 or more, got a scalar',
        ),
      ],
    },
  ),
  view(
    'alias',
    '',
    two,
    (x) => ng.alias(x),
    (x) => map(x, (v) => v),
  ),
];
