import * as ng from '../../../lib/index.js';
import { at, build, type Nd, nd } from '../../support/nd.js';
import type { ErrorCase, OpRow } from '../../support/op.js';

const integers = ['int32', 'int64', 'uint8', 'bool'] as const;
const two = (n: number): ng.Shape => [n, 6];
const three = (n: number): ng.Shape => [2, n, 3];
type Source = (index: number[], shape: readonly number[]) => number[] | null;

/** An array whose elements come from those that `source` says, or are `fill`. */
function taken(x: Nd, shape: readonly number[], source: Source, fill = 0): Nd {
  return build(shape, (index) => {
    const from = source([...index], x.shape);
    return from ? at(x, from) : fill;
  });
}

function remap(
  variant: string,
  shape: (n: number) => ng.Shape,
  fn: (x: ng.Tensor) => ng.Tensor,
  size: (shape: readonly number[]) => number[],
  source: Source,
  options: Partial<OpRow> & { fill?: number } = {},
): OpRow {
  const { fill = 0, ...more } = options;
  return {
    op: variant.split(' ')[0] as OpRow['op'],
    variant: variant.slice(variant.indexOf(' ') + 1),
    fn: fn as OpRow['fn'],
    reference: (x) => taken(x, size(x.shape), source, fill),
    inputs: [{ shape }],
    sizes: [0, 1, 33],
    exact: integers,
    terms: () => 8,
    ...more,
  };
}

const refuses = (
  name: string,
  call: (x: ng.Tensor) => unknown,
  message: string | RegExp,
): ErrorCase => ({
  name,
  call: (device) => call(ng.zeros([2, 3], { device })),
  message,
});
const same = (shape: readonly number[]): number[] => [...shape];
const modulo = (i: number, n: number): number => ((i % n) + n) % n;
const mirrored = (i: number, n: number): number => (i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i);
const clamped = (i: number, n: number): number => Math.min(Math.max(i, 0), n - 1);
const grown =
  (...by: number[]) =>
  (shape: readonly number[]): number[] =>
    shape.map((size, axis) => size + (by[axis] ?? 0));

/** Padding by p elements before the last two axes, along which `place` says what stands where. */
function padded(place: (i: number, n: number) => number, rows: number, columns: number): Source {
  return ([...index], shape) => {
    const [r, c] = [shape.length - 2, shape.length - 1];
    index[r] = place((index[r] as number) - rows, shape[r] as number);
    index[c] = place((index[c] as number) - columns, shape[c] as number);
    return index.every((i, axis) => i >= 0 && i < (shape[axis] as number)) ? index : null;
  };
}

const remapRows: OpRow[] = [
  remap(
    'pad with a constant',
    three,
    (x) => ng.pad(x, [1, 2, 3, 0], 'constant', 0.5),
    grown(0, 3, 3),
    padded((i) => i, 3, 1),
    {
      fill: 0.5,
      exact: [],
      large: 20_001,
      errors: [
        refuses(
          'padding for too many axes',
          (x) => ng.pad(x, [1, 1, 1, 1, 1, 1]),
          'pad: padding must be pairs for at most 2 axes, got [1,1,1,1,1,1]',
        ),
        refuses(
          'half a pair',
          (x) => ng.pad(x, [1]),
          'pad: padding must be pairs for at most 2 axes, got [1]',
        ),
        refuses(
          'a mode that is none',
          (x) => ng.pad(x, [1, 1], 'edge' as never),
          'pad: mode must be one of constant, reflect, replicate, circular, got "edge"',
        ),
        refuses(
          'reflecting more than there is',
          (x) => ng.pad(x, [3, 0], 'reflect'),
          'pad: an axis of 3 elements cannot be padded so (reflect), got 3 and 0',
        ),
        refuses(
          'replicating nothing',
          (x) => ng.pad(x.slice(1, 0, 0), [1, 0], 'replicate'),
          'pad: an axis of 0 elements cannot be padded so (replicate), got 1 and 0',
        ),
        refuses(
          'cutting more than there is',
          (x) => ng.pad(x, [-2, -2]),
          'pad: an axis of 3 elements cannot be padded so (constant), got -2 and -2',
        ),
        refuses(
          'cutting with a mode',
          (x) => ng.pad(x, [-1, 0], 'circular'),
          /^pad: padding must be an integer in \[0,/,
        ),
      ],
    },
  ),
  remap(
    'pad that cuts',
    two,
    (x) => ng.pad(x, [-1, 2, 1, 0]),
    grown(1, 1),
    padded((i) => i, 1, -1),
  ),
  remap(
    'pad of outer axes alone',
    three,
    (x) => ng.pad(x, [0, 0, 0, 0, 1, 2]),
    grown(3),
    ([b, i, j], [n]) =>
      (b as number) < 1 || (b as number) > (n as number)
        ? null
        : [(b as number) - 1, i as number, j as number],
  ),
  remap(
    'pad by reflection',
    (n) => [2, n, 4],
    (x) => ng.pad(x, [3, 2, 2, 1], 'reflect'),
    grown(0, 3, 5),
    padded(mirrored, 2, 3),
    { sizes: [3, 33] },
  ),
  remap(
    'pad by replication',
    three,
    (x) => ng.pad(x, [3, 1, 2, 4], 'replicate'),
    grown(0, 6, 4),
    padded(clamped, 2, 3),
    { sizes: [1, 2, 33], large: 5001 },
  ),
  remap(
    'pad in a circle',
    three,
    (x) => ng.pad(x, [3, 1, 2, 4], 'circular'),
    grown(0, 6, 4),
    padded(modulo, 2, 3),
    { sizes: [1, 2, 33] },
  ),
  remap(
    'flip of one axis',
    three,
    (x) => x.flip(1),
    same,
    ([b, i, j], [, n]) => [b as number, (n as number) - 1 - (i as number), j as number],
    {
      large: 20_001,
      errors: [
        refuses(
          'flipping an axis out of range',
          (x) => x.flip(2),
          'flip: axis must be an integer in [-2,1], got 2',
        ),
        refuses(
          'flipping an axis twice',
          (x) => x.flip([1, -1]),
          'flip: axes must differ, got [1,-1]',
        ),
      ],
    },
  ),
  remap(
    'flip of two axes',
    three,
    (x) => x.flip([0, -1]),
    same,
    ([b, i, j], [m, , n]) => [
      (m as number) - 1 - (b as number),
      i as number,
      (n as number) - 1 - (j as number),
    ],
  ),
  remap(
    'flip by a slice backwards',
    two,
    (x) => x.slice(1, -2, undefined, -2),
    ([n]) => [n as number, 3],
    ([i, j]) => [i as number, 4 - 2 * (j as number)],
  ),
  remap(
    'flip by at backwards',
    two,
    (x) => x.at(null, [undefined, 1, -1]),
    ([n]) => [n as number, 4],
    ([i, j]) => [i as number, 5 - (j as number)],
  ),
  remap(
    'roll of two axes',
    three,
    (x) => x.roll([-2, 7], [1, 2]),
    same,
    ([b, i, j], [, n]) => [
      b as number,
      modulo((i as number) + 2, n as number),
      modulo((j as number) - 7, 3),
    ],
    {
      large: 20_001,
      errors: [
        refuses(
          'other numbers of shifts and axes',
          (x) => x.roll([1, 2], 0),
          'roll: needs as many shifts as axes, got [1,2] and 0',
        ),
        refuses(
          'several shifts without axes',
          (x) => x.roll([1, 2]),
          'roll: needs one shift where no axes are given, got [1,2]',
        ),
      ],
    },
  ),
  remap(
    'roll as one row',
    two,
    (x) => x.roll(4),
    same,
    ([i, j], [n]) => {
      const from = modulo(6 * (i as number) + (j as number) - 4, 6 * (n as number));
      return [Math.floor(from / 6), from % 6];
    },
  ),
  remap(
    'tile of both axes',
    two,
    (x) => x.tile([2, 3]),
    ([n]) => [2 * (n as number), 18],
    ([i, j], [n]) => [(i as number) % (n as number), (j as number) % 6],
    {
      errors: [
        refuses(
          'repeating a negative number of times',
          (x) => x.tile([-1]),
          /^tile: each number of repeats must be an integer in \[0,/,
        ),
      ],
    },
  ),
  remap(
    'tile with axes in front',
    two,
    (x) => x.tile([2, 1, 2]),
    ([n]) => [2, n as number, 12],
    ([, i, j]) => [i as number, (j as number) % 6],
  ),
  remap(
    'tile of the last axis',
    three,
    (x) => x.tile([2]),
    ([b, n]) => [b as number, n as number, 6],
    ([b, i, j]) => [b as number, i as number, (j as number) % 3],
  ),
  remap(
    'repeatInterleave along an axis',
    three,
    (x) => x.repeatInterleave(3, 1),
    ([b, n, c]) => [b as number, 3 * (n as number), c as number],
    ([b, i, j]) => [b as number, Math.floor((i as number) / 3), j as number],
    { large: 5001 },
  ),
  remap(
    'repeatInterleave as one row',
    two,
    (x) => x.repeatInterleave(2),
    ([n]) => [12 * (n as number)],
    ([i]) => [Math.floor((i as number) / 12), Math.floor(((i as number) % 12) / 2)],
    {
      errors: [
        refuses(
          'a list of another length',
          (x) => x.repeatInterleave([1, 2], 1),
          'repeatInterleave: needs a number for each of 3 elements, got [1,2]',
        ),
      ],
    },
  ),
];

const joined = (parts: readonly Nd[], axis: number): Nd => {
  const shape = [...(parts[0] as Nd).shape];
  shape[axis] = parts.reduce((sum, x) => sum + (x.shape[axis] as number), 0);
  return build(shape, (index) => {
    let place = index[axis] as number;
    for (const x of parts) {
      if (place < (x.shape[axis] as number)) {
        return at(
          x,
          index.map((i, a) => (a === axis ? place : i)),
        );
      }
      place -= x.shape[axis] as number;
    }
    return Number.NaN;
  });
};

const catRows: OpRow[] = [
  {
    op: 'cat',
    fn: (...x) => ng.cat(x, 1),
    reference: (...x: Nd[]) => joined(x, 1),
    inputs: [{ shape: three }, { shape: () => [2, 2, 3] }, { shape: three }],
    sizes: [0, 1, 33],
    exact: integers,
    large: 20_001,
    errors: [
      refuses(
        'other sizes',
        (x) => ng.cat([x, x.T]),
        'cat: sizes must match except on axis 0, got [2,3] and [3,2]',
      ),
      refuses('no tensors', () => ng.cat([]), 'cat: needs an array of at least one tensor, got []'),
      refuses(
        'a scalar',
        (x) => ng.cat([x.sum()]),
        'cat: needs tensors of rank 1 or more, got a scalar',
      ),
      refuses('an axis out of range', (x) => ng.cat([x], 2), 'cat: axis must be in [-2,2), got 2'),
    ],
  },
  {
    op: 'cat',
    variant: 'along the last axis',
    fn: (...x) => ng.cat(x, -1),
    reference: (...x: Nd[]) => joined(x, 1),
    inputs: [{ shape: two }, { shape: (n) => [n, 1] }],
    sizes: [0, 1, 33],
  },
  {
    op: 'cat',
    variant: 'stack',
    fn: (...x) => ng.stack(x, -2),
    reference: (...x: Nd[]) =>
      joined(
        x.map(({ shape: [n, c], data }) => nd([n as number, 1, c as number], data)),
        1,
      ),
    inputs: [{ shape: two }, { shape: two }],
    sizes: [0, 1, 33],
    exact: integers,
    errors: [
      refuses(
        'other shapes',
        (x) => ng.stack([x, x.T]),
        'stack: shapes must match, got [2,3] and [3,2]',
      ),
      refuses(
        'an axis out of range',
        (x) => ng.stack([x], 3),
        'stack: axis must be an integer in [-3,2], got 3',
      ),
    ],
  },
];

const triangleRow = (
  variant: string,
  shape: (n: number) => ng.Shape,
  fn: (x: ng.Tensor) => ng.Tensor,
  keeps: (above: number) => boolean,
  errors: ErrorCase[] = [],
): OpRow => ({
  op: variant.split(' ')[0] as OpRow['op'],
  variant: variant.slice(4),
  fn: fn as OpRow['fn'],
  reference: (x) =>
    build(x.shape, (index) => {
      const [i, j] = index.slice(-2) as [number, number];
      return keeps(j - i) ? at(x, index) : 0;
    }),
  inputs: [{ shape }],
  sizes: [0, 1, 33],
  exact: integers,
  errors,
});

const triangleRows: OpRow[] = [
  triangleRow(
    'tril of a matrix',
    two,
    (x) => x.tril(),
    (above) => above <= 0,
    [refuses('a vector', (x) => x.at(0).tril(), 'tril: needs a tensor of rank 2 or more, got [3]')],
  ),
  triangleRow(
    'tril above the diagonal',
    three,
    (x) => x.tril(1),
    (above) => above <= 1,
  ),
  triangleRow(
    'triu of matrices',
    three,
    (x) => x.triu(),
    (above) => above >= 0,
  ),
  triangleRow(
    'triu below the diagonal',
    two,
    (x) => x.triu(-20),
    (above) => above >= -20,
  ),
];

export const movementRows: readonly OpRow[] = [...remapRows, ...catRows, ...triangleRows];
