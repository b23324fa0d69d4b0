/**
 * Elements in other places: joined, padded, flipped, rolled, repeated, cut to triangles. Padding,
 * flips, rolls and repetition are one native kernel with one map per axis.
 */
import { type Rule, record } from '../autograd.js';
import {
  describe,
  expectAxes,
  expectAxis,
  expectInteger,
  expectNumber,
  expectOneOf,
  expectTensor,
  fromFront,
} from '../check.js';
import { native } from '../native.js';
import { type Shape, sameShape, type Tensor, take } from '../tensor.js';
import { addMethods, type OpRow, type OpRows, ruleOf } from './define.js';
import { tensor } from './fill.js';
import { indexSelect } from './index.js';
import { flatten, reshape, slice, unsqueeze } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    /** `spec`: mode, before, repeat and the size of the result, for each axis. */
    pad(x: Handle, spec: Numbers, fill: number): void;
    flip(x: Handle, spec: Numbers, fill: number): void;
    roll(x: Handle, spec: Numbers, fill: number): void;
    tile(x: Handle, spec: Numbers, fill: number): void;
    repeatInterleave(x: Handle, spec: Numbers, fill: number): void;
    cat(tensors: Numbers, axis: number): void;
    tril(x: Handle, diagonal: number): void;
    triu(x: Handle, diagonal: number): void;
  }
  interface NativeKernels {
    /** The gradient of such a map on one axis. */
    fold(
      dout: Handle,
      axis: number,
      size: number,
      mode: number,
      before: number,
      repeat: number,
    ): void;
  }
}

// As core/axis_map.h has them.
const modes = { pad: 0, reflect: 1, replicate: 2, circular: 3, flip: 4, each: 5 } as const;

/** How an axis becomes one of `size` elements; see core/axis_map.h. */
interface AxisMap {
  mode: keyof typeof modes;
  before: number;
  repeat: number;
  size: number;
}

const whole = (size: number): AxisMap => ({ mode: 'pad', before: 0, repeat: 1, size });

function stays({ mode, before, size }: AxisMap, from: number): boolean {
  return mode === 'pad' && before === 0 && size === from;
}

type RemapName = 'pad' | 'flip' | 'roll' | 'tile' | 'repeatInterleave';

/** The map that leads back, where each element has one place at most. */
function inverse({ mode, before, size }: AxisMap, from: number): AxisMap | null {
  if (mode === 'pad' || (mode === 'circular' && size === from)) {
    return { mode, before: before === 0 ? 0 : -before, repeat: 1, size: from };
  }
  return mode === 'flip' ? { mode, before: 0, repeat: 1, size: from } : null;
}

interface Remapped {
  shape: Shape;
  maps: readonly AxisMap[];
}

const remapRule: Rule<Remapped> = (dout, _, { shape, maps }) => {
  const back = maps.map((map, axis) => inverse(map, shape[axis] as number));
  if (back.every((map) => map !== null)) return [remap('pad', dout, back)];
  let gradient = dout;
  maps.forEach((map, axis) => {
    const size = shape[axis] as number;
    if (!stays(map, size)) gradient = fold(gradient, axis, size, map);
  });
  return [gradient];
};

interface Folded {
  axis: number;
  map: AxisMap;
}

/** @internal The gradient of {@link fold}: the map again. */
export const foldRule: Rule<Folded> = (dout, _, { axis, map }) => [
  remap(
    'pad',
    dout,
    dout.shape.map((size, i) => (i === axis ? map : whole(size))),
  ),
];

/** The gradient of a map of one axis that had `size` elements. */
function fold(dout: Tensor, axis: number, size: number, map: AxisMap): Tensor {
  native.fold(dout.h, axis, size, modes[map.mode], map.before, map.repeat);
  return record('fold', foldRule, take(0, dout.device), [dout], null, { axis, map });
}

interface Joined {
  axis: number;
  sizes: readonly number[];
}

const catRule: Rule<Joined> = (dout, _, { axis, sizes }, needs) => {
  let end = 0;
  return sizes.map((size, i) => {
    const start = end;
    end += size;
    return needs[i] ? slice(dout, axis, start, end) : null;
  });
};

function moved(summary: string): OpRow {
  return { family: 'movement', summary, dtypes: 'any', gradient: remapRule };
}

export const movementOps: OpRows<RemapName | 'cat' | 'tril' | 'triu'> = {
  pad: moved('elements before and after, by value or by those within'),
  flip: moved('axes in reverse order'),
  roll: moved('elements moved on, those at the end to the front'),
  tile: moved('the whole repeated along its axes'),
  repeatInterleave: moved('each element of an axis repeated'),
  cat: {
    family: 'movement',
    summary: 'tensors one after another along an axis',
    dtypes: 'any',
    gradient: catRule,
  },
  tril: {
    family: 'movement',
    summary: 'lower triangles of matrices, zeros above',
    dtypes: 'any',
    gradient: ((dout, _, diagonal) => [tril(dout, diagonal)]) satisfies Rule<number>,
  },
  triu: {
    family: 'movement',
    summary: 'upper triangles of matrices, zeros below',
    dtypes: 'any',
    gradient: ((dout, _, diagonal) => [triu(dout, diagonal)]) satisfies Rule<number>,
  },
};

function remap(name: RemapName, x: Tensor, maps: readonly AxisMap[], fill = 0): Tensor {
  const spec = maps.flatMap(({ mode, before, repeat, size }) => [
    modes[mode],
    before,
    repeat,
    size,
  ]);
  native[name](x.h, spec, fill);
  const rule = ruleOf(movementOps[name]);
  return record(name, rule, take(0, x.device), [x], null, { shape: x.shape, maps });
}

function expectTensors(op: string, tensors: readonly Tensor[]): readonly Tensor[] {
  if (!Array.isArray(tensors) || tensors.length === 0) {
    throw new TypeError(`${op}: needs an array of at least one tensor, got ${describe(tensors)}`);
  }
  for (const x of tensors) expectTensor(op, x, 'each item');
  return tensors;
}

/**
 * Tensors one after another along an axis, as PyTorch's `cat`. All other sizes must agree; dtypes
 * are promoted to one.
 */
export function cat(tensors: readonly Tensor[], axis = 0): Tensor {
  const [first] = expectTensors('cat', tensors) as [Tensor, ...Tensor[]];
  native.cat(
    tensors.map((x) => x.h),
    expectInteger('cat', 'axis', axis),
  );
  const at = fromFront(axis, first.rank);
  return record('cat', ruleOf(movementOps.cat), take(0, first.device), tensors, null, {
    axis: at,
    sizes: tensors.map((x) => x.shape[at] as number),
  });
}

/** Tensors of one shape along a new axis, as PyTorch's `stack`. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const [first] = expectTensors('stack', tensors) as [Tensor, ...Tensor[]];
  for (const x of tensors) {
    if (!sameShape(x.shape, first.shape)) {
      throw new RangeError(`stack: shapes must match, got [${first.shape}] and [${x.shape}]`);
    }
  }
  const at = expectAxis('stack', axis, first.rank + 1);
  return cat(
    tensors.map((x) => unsqueeze(x, at)),
    at,
  );
}

export type PadMode = 'constant' | 'reflect' | 'replicate' | 'circular';
const padModes: readonly PadMode[] = ['constant', 'reflect', 'replicate', 'circular'];

/**
 * Padded along trailing axes, as PyTorch's `pad`.
 * @param padding elements before and after the last axis, then those of the one before it, …;
 *   negative ones cut (`constant` only)
 * @param mode `constant`; `reflect` mirrors at the ends, which are not repeated (padding must be
 *   smaller than the axis); `replicate` repeats the ends; `circular` goes round
 * @param value what `constant` pads with
 */
export function pad(
  x: Tensor,
  padding: readonly number[],
  mode: PadMode = 'constant',
  value = 0,
): Tensor {
  const { shape, rank } = expectTensor('pad', x);
  expectOneOf('pad', 'mode', mode, padModes);
  const fill = expectNumber('pad', 'the value', value);
  if (!Array.isArray(padding) || padding.length % 2 !== 0 || padding.length > 2 * rank) {
    throw new RangeError(
      `pad: padding must be pairs for at most ${rank} axes, got ${describe(padding)}`,
    );
  }
  const least = mode === 'constant' ? -(2 ** 46) : 0;
  const amounts = padding.map((n) => expectInteger('pad', 'padding', n, least, 2 ** 46));
  const maps = shape.map((size, axis): AxisMap => {
    const [before, after] = [0, 1].map((side) => amounts[2 * (rank - 1 - axis) + side] ?? 0) as [
      number,
      number,
    ];
    const total = size + before + after;
    const short = mode === 'reflect' ? Math.max(before, after) >= size : size === 0;
    if (total < 0 || (mode !== 'constant' && before + after > 0 && short)) {
      throw new RangeError(
        `pad: an axis of ${size} elements cannot be padded so (${mode}), got ${before} and ${after}`,
      );
    }
    if (before === 0 && after === 0) return whole(size);
    return { mode: mode === 'constant' ? 'pad' : mode, before, repeat: 1, size: total };
  });
  return remap('pad', x, maps, fill);
}

/** The elements of some axes in reverse order; a copy. */
export function flip(x: Tensor, axes: number | readonly number[]): Tensor {
  const { shape, rank } = expectTensor('flip', x);
  const chosen = expectAxes('flip', axes, rank);
  return remap(
    'flip',
    x,
    shape.map((size, axis) => ({ ...whole(size), mode: chosen.includes(axis) ? 'flip' : 'pad' })),
  );
}

/**
 * Elements moved on along axes; what leaves at the end comes in at the front. Without axes the
 * tensor is rolled as one row, as in PyTorch.
 */
export function roll(
  x: Tensor,
  shifts: number | readonly number[],
  axes?: number | readonly number[],
): Tensor {
  const { shape, rank } = expectTensor('roll', x);
  const amounts = (Array.isArray(shifts) ? shifts : [shifts]).map((shift) =>
    expectInteger('roll', 'a shift', shift),
  );
  if (axes === undefined) {
    if (amounts.length !== 1) {
      throw new RangeError(
        `roll: needs one shift where no axes are given, got ${describe(shifts)}`,
      );
    }
    return reshape(roll(reshape(x, [-1]), amounts, 0), shape);
  }
  const chosen = expectAxes('roll', axes, rank);
  if (chosen.length !== amounts.length) {
    throw new RangeError(
      `roll: needs as many shifts as axes, got ${describe(shifts)} and ${describe(axes)}`,
    );
  }
  return remap(
    'roll',
    x,
    shape.map((size, axis) => {
      const shift = amounts[chosen.indexOf(axis)];
      if (shift === undefined || size === 0) return whole(size);
      return { ...whole(size), mode: 'circular', before: (shift % size) + 0 };
    }),
  );
}

function expectRepeats(op: string, repeats: readonly number[]): readonly number[] {
  if (!Array.isArray(repeats) || repeats.length > 8) {
    throw new RangeError(
      `${op}: repeats must be an array of at most 8 integers, got ${describe(repeats)}`,
    );
  }
  return repeats.map((n) => expectInteger(op, 'each number of repeats', n, 0, 2 ** 46));
}

/**
 * The whole tensor repeated along its axes, as PyTorch's `tile`: the list is for trailing axes,
 * and axes are added in front where it is longer than the shape.
 */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  const times = expectRepeats('tile', repeats);
  const lead = Math.max(times.length - expectTensor('tile', x).rank, 0);
  const padded = lead > 0 ? reshape(x, [...new Array<number>(lead).fill(1), ...x.shape]) : x;
  return remap(
    'tile',
    padded,
    padded.shape.map((size, axis) => {
      const n = times[axis + times.length - padded.rank] ?? 1;
      return n === 1 ? whole(size) : { ...whole(size * n), mode: 'circular' };
    }),
  );
}

/** The whole tensor repeated along its axes, as PyTorch's `repeat`: a number for each, or more. */
export function repeat(x: Tensor, repeats: readonly number[]): Tensor {
  const { rank } = expectTensor('repeat', x);
  if (expectRepeats('repeat', repeats).length < rank) {
    throw new RangeError(
      `repeat: needs a number for each of ${rank} axes, got ${describe(repeats)}`,
    );
  }
  return tile(x, repeats);
}

/**
 * Every element repeated `repeats` times in a row along an axis; a list has a number for each
 * element of the axis. Without an axis the tensor is one row.
 */
export function repeatInterleave(
  x: Tensor,
  repeats: number | readonly number[],
  axis?: number,
): Tensor {
  expectTensor('repeatInterleave', x);
  if (axis === undefined) return repeatInterleave(flatten(x), repeats, 0);
  const at = expectAxis('repeatInterleave', axis, x.rank);
  const length = x.shape[at] as number;
  if (Array.isArray(repeats)) {
    if (repeats.length !== length) {
      throw new RangeError(
        `repeatInterleave: needs a number for each of ${length} elements, got ${describe(repeats)}`,
      );
    }
    const places = repeats.flatMap((n, i) =>
      new Array<bigint>(
        expectInteger('repeatInterleave', 'each number of repeats', n, 0, 2 ** 32 - 1),
      ).fill(BigInt(i)),
    );
    const index = tensor(BigInt64Array.from(places), { device: x.device });
    return indexSelect(x, index, at);
  }
  const times = expectInteger('repeatInterleave', 'repeats', repeats, 0, 2 ** 46);
  if (times === 0) return slice(x, at, 0, 0);
  return remap(
    'repeatInterleave',
    x,
    x.shape.map((size, i) =>
      i === at ? { mode: 'each', before: 0, repeat: times, size: size * times } : whole(size),
    ),
  );
}

/** The lower triangles of the last two axes: elements on and below a diagonal, zeros above it. */
export function tril(x: Tensor, diagonal = 0): Tensor {
  native.tril(expectTensor('tril', x).h, expectInteger('tril', 'diagonal', diagonal));
  return record('tril', ruleOf(movementOps.tril), take(0, x.device), [x], null, diagonal);
}

/** The upper triangles of the last two axes: elements on and above a diagonal, zeros below it. */
export function triu(x: Tensor, diagonal = 0): Tensor {
  native.triu(expectTensor('triu', x).h, expectInteger('triu', 'diagonal', diagonal));
  return record('triu', ruleOf(movementOps.triu), take(0, x.device), [x], null, diagonal);
}

declare module '../tensor.js' {
  interface Tensor {
    /** The given axes in reverse order. */
    flip(axes: number | readonly number[]): Tensor;
    /**
     * Elements moved on by `shifts` along `axes`, those at the end to the front; without axes,
     * flattened.
     */
    roll(shifts: number | readonly number[], axes?: number | readonly number[]): Tensor;
    /** The whole repeated `repeats[i]` times along axis i, which may be more axes than x has. */
    repeat(repeats: readonly number[]): Tensor;
    /** As {@link repeat}, where fewer repeats than axes stand for the last axes. */
    tile(repeats: readonly number[]): Tensor;
    /** Each element repeated along an axis; without one, of the flattened tensor. */
    repeatInterleave(repeats: number | readonly number[], axis?: number): Tensor;
    /** Matrices with zeros above a diagonal, 0 the main one, positive ones above it. */
    tril(diagonal?: number): Tensor;
    /** Matrices with zeros below a diagonal, 0 the main one, positive ones above it. */
    triu(diagonal?: number): Tensor;
  }
}

addMethods({
  flip(axes: number | readonly number[]) {
    return flip(this, axes);
  },
  roll(shifts: number | readonly number[], axes?: number | readonly number[]) {
    return roll(this, shifts, axes);
  },
  tile(repeats: readonly number[]) {
    return tile(this, repeats);
  },
  repeat(repeats: readonly number[]) {
    return repeat(this, repeats);
  },
  repeatInterleave(repeats: number | readonly number[], axis?: number) {
    return repeatInterleave(this, repeats, axis);
  },
  tril(diagonal?: number) {
    return tril(this, diagonal);
  },
  triu(diagonal?: number) {
    return triu(this, diagonal);
  },
});
