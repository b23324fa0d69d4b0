/** Views: other shapes of the same memory. Only reshape copies, where strides leave no other way. */
import { type Rule, record } from '../autograd.js';
import {
  describe,
  expectAxes,
  expectAxis,
  expectInteger,
  expectShape,
  expectTensor,
  fromFront,
} from '../check.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { addGetters, addMethods, type OpRow, type OpRows, ruleOf } from './define.js';
import { zeros } from './fill.js';
import { flip } from './movement.js';

declare module '../native.js' {
  interface NativeOps {
    reshape(x: Handle, shape: Numbers): void;
    permute(x: Handle, axes: Numbers): void;
    expand(x: Handle, shape: Numbers): void;
    slice(x: Handle, axis: number, start: number, stop: number, step: number): void;
    select(x: Handle, axis: number, index: number): void;
    alias(x: Handle): void;
    diagonal(x: Handle, offset: number, first: number, second: number): void;
    diagEmbed(x: Handle, offset: number): void;
  }
}

type ViewName =
  | 'reshape'
  | 'permute'
  | 'expand'
  | 'slice'
  | 'select'
  | 'alias'
  | 'diagonal'
  | 'diagEmbed';

function view<A>(summary: string, gradient: Rule<A>): OpRow {
  return { family: 'view', summary, dtypes: 'any', gradient };
}

interface Part {
  shape: Shape;
  axis: number;
  start: number;
  stop: number;
  step: number;
}

/** @internal */
export interface Diagonal {
  shape: Shape;
  offset: number;
  first: number;
  second: number;
}

/** A gradient of a part, in zeros of the whole's shape. */
function padded(dout: Tensor, { shape, axis, start, stop, step }: Part): Tensor {
  const whole = zeros(shape, { dtype: dout.dtype, device: dout.device });
  native.slice(whole.h, axis, start, stop, step);
  native.copyInto(take(0, dout.device).h, dout.h);
  return whole;
}

export const viewOps: OpRows<ViewName> = {
  reshape: view<Shape>('the same elements in another shape', (dout, _, shape) => [
    reshape(dout, shape),
  ]),
  permute: view<readonly number[]>('axes in another order', (dout, _, axes) => {
    const inverse = new Array<number>(axes.length);
    axes.forEach((axis, i) => {
      inverse[fromFront(axis, axes.length)] = i;
    });
    return [permute(dout, inverse)];
  }),
  // Autograd sums a gradient over what was stretched.
  expand: view<null>('sizes of 1 stretched, axes added in front', (dout) => [dout]),
  slice: view<Part>('part of an axis, in steps', (dout, _, part) => [padded(dout, part)]),
  select: view<Part>('one index of an axis', (dout, _, part) => {
    const shape = part.shape.map((size, axis) => (axis === part.axis ? 1 : size));
    return [padded(reshape(dout, shape), part)];
  }),
  alias: view<null>('the tensor itself', (dout) => [dout]),
  diagonal: view<Diagonal>('a diagonal of two axes', (dout, _, { shape, ...of }) => {
    const whole = zeros(shape, { dtype: dout.dtype, device: dout.device });
    native.diagonal(whole.h, of.offset, of.first, of.second);
    native.copyInto(take(0, dout.device).h, dout.h);
    return [whole];
  }),
  diagEmbed: view<number>('a last axis on a diagonal, zeros elsewhere', (dout, _, offset) => [
    diagonal(dout, offset, -2, -1),
  ]),
};

/** The same elements in another shape; one size may be -1, found from the others. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  native.reshape(expectTensor('reshape', x).h, expectShape('reshape', shape));
  return record('reshape', ruleOf(viewOps.reshape), take(0, x.device), [x], null, x.shape);
}

/** Axes in another order: axis i of the result is axis `axes[i]` of x. */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  native.permute(expectTensor('permute', x).h, expectShape('permute', axes));
  return record('permute', ruleOf(viewOps.permute), take(0, x.device), [x], null, axes);
}

/** Two axes exchanged; the last two where left out. */
export function transpose(x: Tensor, first = -2, second = -1): Tensor {
  expectTensor('transpose', x);
  const a = expectAxis('transpose', first, x.rank, 'an axis');
  const b = expectAxis('transpose', second, x.rank, 'an axis');
  const axes = x.shape.map((_, axis) => axis);
  axes[a] = b;
  axes[b] = a;
  return permute(x, axes);
}

/** Sizes of 1 stretched, and axes added in front, without a copy; -1 keeps a size. */
export function expand(x: Tensor, shape: Shape): Tensor {
  native.expand(expectTensor('expand', x).h, expectShape('expand', shape));
  return record('expand', ruleOf(viewOps.expand), take(0, x.device), [x], null, null);
}

/**
 * A diagonal of two axes, `offset` above the main one (below where negative), as a last axis in the
 * place of the two. A view.
 */
export function diagonal(x: Tensor, offset = 0, first = 0, second = 1): Tensor {
  expectTensor('diagonal', x);
  const of = {
    offset: expectInteger('diagonal', 'offset', offset),
    first: expectInteger('diagonal', 'axis', first),
    second: expectInteger('diagonal', 'axis', second),
  };
  native.diagonal(x.h, of.offset, of.first, of.second);
  const out = take(0, x.device);
  return record('diagonal', ruleOf(viewOps.diagonal), out, [x], null, { shape: x.shape, ...of });
}

/** Zeros with x's last axis on a diagonal of two axes at the end, as PyTorch's `diag_embed`. */
export function diagEmbed(x: Tensor, offset = 0): Tensor {
  native.diagEmbed(expectTensor('diagEmbed', x).h, expectInteger('diagEmbed', 'offset', offset));
  return record('diagEmbed', ruleOf(viewOps.diagEmbed), take(0, x.device), [x], null, offset);
}

/**
 * Elements start, start + step … before stop along an axis; negative bounds count from the end.
 * A negative step goes backwards from `start` (to the first element where `stop` is left out), which
 * copies; other slices are views.
 */
export function slice(x: Tensor, axis: number, start: number, stop?: number, step = 1): Tensor {
  expectTensor('slice', x);
  if (typeof step === 'number' && step < 0) {
    return backwards(x, axis, start, stop, expectInteger('slice', 'step', step));
  }
  const from = expectInteger('slice', 'start', start);
  const to = expectInteger('slice', 'stop', stop ?? Number.MAX_SAFE_INTEGER);
  native.slice(
    x.h,
    expectInteger('slice', 'axis', axis),
    from,
    to,
    expectInteger('slice', 'step', step, 1),
  );
  const at = fromFront(axis, x.rank);
  const part: Part = { shape: x.shape, axis: at, start: from, stop: to, step };
  return record('slice', ruleOf(viewOps.slice), take(0, x.device), [x], null, part);
}

/** A slice with a negative step, by Python's rules: the same elements forwards, then flipped. */
function backwards(
  x: Tensor,
  axis: number,
  start: number,
  stop: number | undefined,
  step: number,
): Tensor {
  const { rank } = x;
  const at = expectAxis('slice', axis, rank);
  const size = x.shape[at] ?? 0;
  const bound = (index: number): number => Math.max(index < 0 ? index + size : index, -1);
  const first = Math.min(bound(expectInteger('slice', 'start', start)), size - 1);
  const last = stop === undefined ? -1 : bound(expectInteger('slice', 'stop', stop));
  const count = Math.max(0, Math.ceil((first - last) / -step));
  if (count === 0) return slice(x, at, 0, 0);
  return flip(slice(x, at, first + (count - 1) * step, first + 1, -step), at);
}

/** One index of an axis; the axis goes away. Negative indices count from the end. */
export function select(x: Tensor, axis: number, index: number): Tensor {
  expectTensor('select', x);
  native.select(
    x.h,
    expectInteger('select', 'axis', axis),
    expectInteger('select', 'index', index),
  );
  const at = fromFront(axis, x.rank);
  const start = index < 0 ? index + (x.shape[at] as number) : index;
  const part: Part = { shape: x.shape, axis: at, start, stop: start + 1, step: 1 };
  return record('select', ruleOf(viewOps.select), take(0, x.device), [x], null, part);
}

/** Without those of the axes that have the size 1; without all such where none are given. */
export function squeeze(x: Tensor, axes?: number | readonly number[]): Tensor {
  const { rank, shape } = expectTensor('squeeze', x);
  const asked = axes === undefined ? shape.map((_, i) => i) : expectAxes('squeeze', axes, rank);
  const rest = shape.filter((size, i) => size !== 1 || !asked.includes(i));
  return rest.length === rank ? alias(x) : reshape(x, rest);
}

/** With an axis of size 1 inserted at `axis`. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  expectTensor('unsqueeze', x);
  const shape = [...x.shape];
  shape.splice(expectAxis('unsqueeze', axis, x.rank + 1), 0, 1);
  return reshape(x, shape);
}

/** Axes from `start` to `end`, both included, as one. */
export function flatten(x: Tensor, start = 0, end = -1): Tensor {
  const { rank, shape } = expectTensor('flatten', x);
  const first = expectAxis('flatten', start, rank, 'start');
  const last = expectAxis('flatten', end, rank, 'end');
  if (first > last) {
    throw new RangeError(`flatten: start must not come after end, got ${start} and ${end}`);
  }
  const size = shape.slice(first, last + 1).reduce((a, b) => a * b, 1);
  return reshape(x, [...shape.slice(0, first), size, ...shape.slice(last + 1)]);
}

/** Another tensor over the same memory, recorded. */
export function alias(x: Tensor): Tensor {
  native.alias(expectTensor('alias', x).h);
  return record('alias', ruleOf(viewOps.alias), take(0, x.device), [x], null, null);
}

/** Another tensor over the same memory, through which no gradient flows. */
export function detach(x: Tensor): Tensor {
  native.alias(expectTensor('detach', x).h);
  return record('detach', null, take(0, x.device), [x], null, null);
}

/** One entry of `x.at(…)`: an index, a `[start, stop, step]` range, or `null` for a whole axis. */
export type IndexEntry = number | null | readonly (number | undefined)[];

/**
 * A part of a tensor by one entry per leading axis: `x.at(0)`, `x.at(null, [0, 10])`,
 * `x.at([2, undefined, 2], -1)`, `x.at([undefined, undefined, -1])`.
 */
export function at(x: Tensor, ...entries: IndexEntry[]): Tensor {
  expectTensor('at', x);
  if (entries.length > x.rank) {
    throw new RangeError(`at: at most ${x.rank} entries, got ${entries.length}`);
  }
  let part = x;
  let axis = 0;
  for (const entry of entries) {
    if (typeof entry === 'number') {
      part = select(part, axis, entry);
    } else {
      if (entry !== null) {
        if (!Array.isArray(entry)) {
          throw new TypeError(
            `at: an entry must be an index, [start, stop, step] or null, got ${describe(entry)}`,
          );
        }
        const [start, stop, step = 1] = entry;
        const from = start ?? (typeof step === 'number' && step < 0 ? Number.MAX_SAFE_INTEGER : 0);
        part = slice(part, axis, from, stop, step);
      }
      ++axis;
    }
  }
  return part === x ? alias(x) : part;
}

declare module '../tensor.js' {
  interface Tensor {
    /**
     * The elements in row-major order in another shape; one size may be -1. A view where memory
     * allows.
     */
    reshape(shape: Shape): Tensor;
    reshape(...sizes: number[]): Tensor;
    /** A view with the axes in another order. */
    permute(axes: readonly number[]): Tensor;
    /** A view with two axes exchanged, the last two where left out. */
    transpose(first?: number, second?: number): Tensor;
    /** The transpose of the last two axes. */
    readonly T: Tensor;
    /** A view of a larger shape: axes of size 1 repeated, -1 keeps a size. */
    expand(shape: Shape): Tensor;
    /**
     * A view of the indices start, start + step … below stop of an axis; negative ones count from
     * the end.
     */
    slice(axis: number, start: number, stop?: number, step?: number): Tensor;
    /** A view of one index of an axis, without that axis. */
    select(axis: number, index: number): Tensor;
    /** A view without the given axes of size 1, or without all of them where left out. */
    squeeze(axes?: number | readonly number[]): Tensor;
    /** A view with a new axis of size 1. */
    unsqueeze(axis: number): Tensor;
    /** The axes from `start` (0 where left out) to `end` (the last one) as one. */
    flatten(start?: number, end?: number): Tensor;
    /** The same memory as a constant: no gradient flows through it. */
    detach(): Tensor;
    /** A view of the diagonals in two axes, as the last axis; `offset` above the main one. */
    diagonal(offset?: number, first?: number, second?: number): Tensor;
    /**
     * A view by one entry per axis: a number selects, a range slices, `null` keeps it whole. See
     * {@link at}.
     */
    at(...entries: IndexEntry[]): Tensor;
  }
}

addMethods({
  reshape(...args: (number | Shape)[]) {
    return reshape(this, (Array.isArray(args[0]) ? args[0] : args) as Shape);
  },
  permute(axes: readonly number[]) {
    return permute(this, axes);
  },
  transpose(first?: number, second?: number) {
    return transpose(this, first, second);
  },
  expand(shape: Shape) {
    return expand(this, shape);
  },
  slice(axis: number, start: number, stop?: number, step?: number) {
    return slice(this, axis, start, stop, step);
  },
  select(axis: number, index: number) {
    return select(this, axis, index);
  },
  squeeze(axes?: number | readonly number[]) {
    return squeeze(this, axes);
  },
  unsqueeze(axis: number) {
    return unsqueeze(this, axis);
  },
  flatten(start?: number, end?: number) {
    return flatten(this, start, end);
  },
  detach() {
    return detach(this);
  },
  diagonal(offset?: number, first?: number, second?: number) {
    return diagonal(this, offset, first, second);
  },
  at(...entries: IndexEntry[]) {
    return at(this, ...entries);
  },
});

addGetters({
  T() {
    return transpose(this);
  },
});
