/**
 * The kernels that memory bounds, by family: the fewest bytes of each forward and with gradients,
 * every operand once (`item` is the bytes of a number). memory_makers.ts and memory_kernels.py run
 * them.
 */
import { type BenchDType, type Counts, type KernelCase, make, type Sizes, width } from './case.js';

type Bytes = (sizes: Sizes, item: number) => number;

const elements = (sizes: Sizes): number => Object.values(sizes).reduce((a, b) => a * b, 1);
const table = ({ rows = 0, columns = 0 }: Sizes): number => rows * columns;
const images = ({ batch = 0, channels = 0, side = 0 }: Sizes): number =>
  batch * channels * side * side;

/** So many passes over all elements, and more bytes for each. */
const passes =
  (times: number, more = 0, count = elements): Bytes =>
  (sizes, item) =>
    count(sizes) * (times * item + more);

interface Family {
  forward: Bytes;
  /** Left out where there is no gradient, or none that is a kernel of its own. */
  both?: Bytes;
  /** Those of 16 bits are not run. */
  wide?: true;
}

/** Of rows × columns. */
const rows: Readonly<Record<string, Readonly<Record<string, Family>>>> = {
  memory: {
    copy: { forward: passes(2) },
    sum: { forward: passes(1) },
    softmax: { forward: passes(2), both: passes(5) },
    crossEntropy: { forward: passes(1), both: passes(3) },
    layerNorm: { forward: passes(2), both: passes(5) },
    rmsNorm: { forward: passes(2), both: passes(5) },
    gelu: { forward: passes(2), both: passes(5) },
    dropout: { forward: passes(2), both: passes(4) },
    transpose: { forward: passes(2) },
    adamw: { forward: passes(7), wide: true },
    gradNorm: { forward: passes(1) },
    clip: { forward: passes(3) }, // the norm, then every gradient read and written
    batchNorm: { forward: passes(3), both: passes(6) }, // per column: statistics first
    embedding: { forward: passes(2), both: passes(4) }, // a row of a table of as many for each
  },
  pointwise: {
    fill: { forward: passes(1) },
    // Between float32 and bfloat16, whichever the dtype is not.
    cast: { forward: ({ rows = 0, columns = 0 }) => rows * columns * 6 },
    exp: { forward: passes(2) },
    add: { forward: passes(3) },
    addRow: { forward: passes(2), both: passes(3) }, // the gradient of the row is a sum
    where: { forward: passes(3, 1) },
    flip: { forward: passes(2) },
    cat: { forward: passes(2) },
    pad: { forward: passes(2) },
    mse: { forward: passes(2), both: passes(5) },
    smoothL1: { forward: passes(2), both: passes(5) },
    bceLogits: { forward: passes(2), both: passes(5) },
    // Of each row one number and its class; the gradient is zeros beside it.
    nll: {
      forward: ({ rows = 0 }, item) => rows * (item + 8),
      both: ({ rows = 0, columns = 0 }, item) => rows * (2 * (item + 8) + columns * item),
    },
    smoothing: { forward: passes(1), both: passes(3) },
  },
  index: {
    gather: { forward: passes(2, 8) },
    scatterAdd: { forward: passes(3, 8) },
    indexSelect: { forward: passes(2) },
    indexAdd: { forward: passes(2) },
    sort: { forward: passes(2, 8) },
    topk: { forward: passes(1) },
    cumsum: { forward: passes(2) },
    cumsumColumns: { forward: passes(2) },
    argmax: { forward: passes(1) },
    variance: { forward: passes(1) },
  },
  random: {
    rand: { forward: passes(1) },
    randn: { forward: passes(1) },
    bernoulli: { forward: passes(1) },
    multinomial: { forward: passes(1) },
    randperm: { forward: passes(0, 8), wide: true },
  },
  optim: {
    sgd: { forward: passes(5), wide: true },
    adam: { forward: passes(7), wide: true },
    rmsprop: { forward: passes(5), wide: true },
    adagrad: { forward: passes(5), wide: true },
    adadelta: { forward: passes(7), wide: true },
    unscale: { forward: passes(2) },
  },
};

const tiny = (bytes: number): boolean => bytes < 2 ** 20;

function cases(op: string, name: string, sizes: Sizes, family: Family, dtype: BenchDType) {
  const counts = (bytes: Bytes): Counts => ({ flops: () => 0, bytes });
  const shape = { name, sizes };
  const { forward, both } = family;
  return [
    make(op, shape, counts(forward), { dtype }),
    ...(both ? [make(op, shape, counts(both), { dtype, backward: true })] : []),
  ];
}

const dtypesOf = ({ wide }: Family): BenchDType[] => (wide ? ['float32'] : ['float32', 'bfloat16']);

/** [batch, channels, side, side], or with the channels last. */
function ofImages(
  op: string,
  family: Family,
  bytes: number,
  layouts: readonly number[],
  more = {},
) {
  const side = tiny(bytes) ? 8 : 64;
  const channels = tiny(bytes) ? 8 : 64;
  return layouts.flatMap((last) =>
    dtypesOf(family).flatMap((dtype) => {
      const batch = Math.ceil(bytes / width[dtype] / (channels * side * side));
      const sizes = { batch, channels, side, last, ...more };
      const [window] = Object.values(more);
      const words = `${batch} x ${channels} x ${side} square${window ? ` by ${window}` : ''}`;
      return cases(op, `${words}${last ? ', channels last' : ''}`, sizes, family, dtype);
    }),
  );
}

function norms(bytes: number): KernelCase[] {
  const batch: Family = { forward: passes(3, 0, images), both: passes(6, 0, images) };
  const group: Family = { forward: passes(2, 0, images), both: passes(5, 0, images) };
  // Strides of 2: a quarter of the numbers comes out.
  const pool: Family = { forward: passes(1.25, 0, images), both: passes(2.5, 0, images) };
  return [
    ...ofImages('batchNorm2d', batch, bytes, [0, 1]),
    ...ofImages('groupNorm', group, bytes, [0]),
    ...ofImages('maxPool', pool, bytes, [0, 1], { kernel: 2 }),
    ...ofImages('maxPool', pool, bytes, [0], { kernel: 3 }),
    ...ofImages('avgPool', pool, bytes, [0, 1], { kernel: 2 }),
  ];
}

function rotations(bytes: number): KernelCase[] {
  const [heads, length, size] = tiny(bytes) ? [2, 8, 64] : [16, 1024, 64];
  const family: Family = { forward: passes(2), both: passes(4) };
  return dtypesOf(family).flatMap((dtype) => {
    const batch = Math.ceil(bytes / width[dtype] / (heads * length * size));
    const name = `${batch} x ${heads} x ${length} by ${size}`;
    return cases('rotary', name, { batch, heads, length, size }, family, dtype);
  });
}

/** Lookups in tables of few rows and of many: as often as one another, or as words of a text are. */
function lookups(bytes: number, columns: number): KernelCase[] {
  const touched = ({ rows = 0, columns: wide = 0, table: high = 0 }: Sizes): number =>
    Math.min(rows, high) * wide;
  const family: Family = {
    forward: (sizes, item) => item * (table(sizes) + touched(sizes)),
    both: (sizes, item) =>
      item * (2 * table(sizes) + touched(sizes) + (sizes.table ?? 0) * (sizes.columns ?? 0)),
  };
  return [
    [2, 0],
    [1000, 0],
    [tiny(bytes) ? 300 : 30522, 1],
  ].flatMap(([high = 0, words = 0]) =>
    dtypesOf(family).flatMap((dtype) => {
      const count = bytes / width[dtype] / columns;
      const sizes = { rows: count, columns, table: high, words };
      const name = `${count} of ${high} x ${columns}${words ? ' as words' : ''}`;
      return cases('lookups', name, sizes, family, dtype);
    }),
  );
}

/** Groups of cases of so many bytes and of rows of so many columns, in float32 and bfloat16. */
export function memoryGroups(bytes: number, columns: number): Record<string, KernelCase[]> {
  const ofRows = (group: string): KernelCase[] =>
    Object.entries(rows[group] ?? {}).flatMap(([op, family]) =>
      dtypesOf(family).flatMap((dtype) => {
        const sizes = { rows: bytes / width[dtype] / columns, columns };
        return cases(op, `${sizes.rows} x ${columns}`, sizes, family, dtype);
      }),
    );
  return {
    memory: ofRows('memory'),
    pointwise: [...ofRows('pointwise'), ...rotations(bytes)],
    norm: norms(bytes),
    index: [...ofRows('index'), ...lookups(bytes, columns)],
    random: ofRows('random'),
    optim: ofRows('optim'),
  };
}
