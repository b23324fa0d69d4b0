/**
 * Compositions of views: parts of a tensor, axes in other places, shapes of other tensors. Parts that
 * are taken together have one gradient rule, which joins their gradients in one tensor.
 */
import { needsGradient } from '../autograd.js';
import {
  describe,
  expectAxes,
  expectAxis,
  expectInteger,
  expectOneOf,
  expectTensor,
} from '../check.js';
import { context } from '../context.js';
import { recordJointly } from '../gradients/joint.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { addMethods } from './define.js';
import { zeros } from './fill.js';
import { cat } from './movement.js';
import {
  diagEmbed,
  diagonal,
  expand,
  permute,
  reshape,
  select,
  slice,
  transpose,
  unsqueeze,
} from './view.js';

/** Parts of x one after another along an axis; of size 1 without the axis where it `goes`. */
function partsOf(
  name: string,
  x: Tensor,
  axis: number,
  sizes: readonly number[],
  goes = false,
): Tensor[] {
  let end = 0;
  const starts = sizes.map((size) => {
    end += size;
    return end - size;
  });
  if (sizes.length < 2 || !context().grad || !needsGradient(x)) {
    return starts.map((start, i) =>
      goes ? select(x, axis, start) : slice(x, axis, start, start + (sizes[i] as number)),
    );
  }
  const parts = starts.map((start, i) => {
    if (goes) native.select(x.h, axis, start);
    else native.slice(x.h, axis, start, start + (sizes[i] as number), 1);
    return take(0, x.device);
  });
  // A part that was not used has no gradient.
  const { shape, dtype, device } = x;
  const empty = (size: number): Tensor =>
    zeros(
      shape.map((n, i) => (i === axis ? size : n)),
      { dtype, device },
    );
  recordJointly(
    name,
    (douts) => [
      cat(
        douts.map((dout, i) => {
          if (dout === null) return empty(sizes[i] as number);
          return goes ? unsqueeze(dout, axis) : dout;
        }),
        axis,
      ),
    ],
    parts,
    [x],
    () => [],
  );
  return parts;
}

/**
 * Parts along an axis, as PyTorch's `split`: of `sizes` elements each, the last one perhaps
 * smaller, or of the sizes of a list, which must add up to the axis. Views, without a copy.
 */
export function split(x: Tensor, sizes: number | readonly number[], axis = 0): Tensor[] {
  const at = expectAxis('split', axis, expectTensor('split', x).rank);
  const length = x.shape[at] ?? expectInteger('split', 'axis', axis, 0, -1);
  let list: readonly number[];
  if (Array.isArray(sizes)) {
    list = sizes.map((size) => expectInteger('split', 'each size', size, 0));
    if (list.reduce((a, b) => a + b, 0) !== length) {
      throw new RangeError(`split: sizes must add up to ${length}, got ${describe(sizes)}`);
    }
  } else {
    const size = expectInteger('split', 'the size', sizes, 1);
    const count = Math.max(1, Math.ceil(length / size));
    list = Array.from({ length: count }, (_, i) => Math.min(size, length - i * size));
  }
  return partsOf('split', x, at, list);
}

/** At most `chunks` parts of one size along an axis, the last one perhaps smaller. Views. */
export function chunk(x: Tensor, chunks: number, axis = 0): Tensor[] {
  const at = expectAxis('chunk', axis, expectTensor('chunk', x).rank);
  const count = expectInteger('chunk', 'the number of chunks', chunks, 1);
  const length = x.shape[at] ?? 0;
  if (length > 0) return split(x, Math.ceil(length / count), at);
  return split(x, new Array<number>(Math.min(count, 2 ** 16)).fill(0), at);
}

/** Every index of an axis, which goes away. Views. */
export function unbind(x: Tensor, axis = 0): Tensor[] {
  const at = expectAxis('unbind', axis, expectTensor('unbind', x).rank);
  if (x.rank === 0) throw new RangeError('unbind: needs a tensor of rank 1 or more, got a scalar');
  return partsOf('unbind', x, at, new Array<number>(x.shape[at] as number).fill(1), true);
}

/** Axes moved to other places, the others in their order; as PyTorch's `movedim`. A view. */
export function movedim(
  x: Tensor,
  source: number | readonly number[],
  destination: number | readonly number[],
): Tensor {
  const { rank } = expectTensor('movedim', x);
  const from = expectAxes('movedim', source, rank);
  const to = expectAxes('movedim', destination, rank);
  if (from.length !== to.length) {
    throw new RangeError(
      `movedim: needs as many destinations as sources, got ${from.length} and ${to.length}`,
    );
  }
  const others = x.shape.map((_, axis) => axis).filter((axis) => !from.includes(axis));
  const order = x.shape.map((_, axis) => {
    const moved = to.indexOf(axis);
    return moved >= 0 ? (from[moved] as number) : (others.shift() as number);
  });
  return permute(x, order);
}

/** Two axes exchanged: transpose by NumPy's name. */
export function swapaxes(x: Tensor, first: number, second: number): Tensor {
  return transpose(x, first, second);
}

/** Sizes of 1 stretched and axes added in front: expand by NumPy's name. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return expand(x, shape);
}

/** Expanded to the shape of another tensor. */
export function expandAs(x: Tensor, like: Tensor): Tensor {
  return expand(x, expectTensor('expandAs', like, 'like').shape);
}

/**
 * A matrix with a vector on one of its diagonals, or a diagonal of a matrix (a view), as PyTorch's
 * `diag`.
 */
export function diag(x: Tensor, offset = 0): Tensor {
  const { rank } = expectTensor('diag', x);
  if (rank === 1) return diagEmbed(x, offset);
  if (rank === 2) return diagonal(x, offset);
  throw new RangeError(`diag: needs a vector or a matrix, got ${describe(x)}`);
}

/**
 * Coordinates of a grid, from those along its axes: all of the shape [n0,n1,…]. Views.
 * @param indexing `ij`; `xy` exchanges the first two axes
 */
export function meshgrid(tensors: readonly Tensor[], indexing: 'ij' | 'xy' = 'ij'): Tensor[] {
  expectOneOf('meshgrid', 'indexing', indexing, ['ij', 'xy']);
  if (!Array.isArray(tensors) || tensors.length > 8) {
    throw new TypeError(`meshgrid: needs an array of at most 8 tensors, got ${describe(tensors)}`);
  }
  for (const x of tensors) {
    if (expectTensor('meshgrid', x, 'each item').rank > 1) {
      throw new RangeError(`meshgrid: needs vectors, got ${describe(x)}`);
    }
  }
  const shape = tensors.map((x: Tensor) => x.size);
  return tensors.map((x: Tensor, axis) => {
    const alone = shape.map((size, i) => (i === axis ? size : 1));
    const grid = expand(reshape(x, alone), shape);
    return indexing === 'xy' && shape.length > 1 ? transpose(grid, 0, 1) : grid;
  });
}

declare module '../tensor.js' {
  interface Tensor {
    /**
     * Views of `sizes` each (or of those sizes) along an axis, the first where left out; the last
     * may be smaller.
     */
    split(sizes: number | readonly number[], axis?: number): Tensor[];
    /**
     * At most `chunks` views of equal size along an axis, the first where left out; the last may be
     * smaller.
     */
    chunk(chunks: number, axis?: number): Tensor[];
    /** Views of the indices of an axis, the first where left out, without that axis. */
    unbind(axis?: number): Tensor[];
    /** A view with the axes `source` at the places `destination`, the others in order. */
    movedim(source: number | readonly number[], destination: number | readonly number[]): Tensor;
    /** A view with two axes exchanged. */
    swapaxes(first: number, second: number): Tensor;
    /** A view of a larger shape: axes of size 1 repeated, new ones in front. */
    broadcastTo(shape: Shape): Tensor;
    /** A view of the shape of another tensor, as {@link broadcastTo} has it. */
    expandAs(like: Tensor): Tensor;
    /**
     * Of a matrix its diagonal, of a vector the matrix with it on its diagonal; `offset` above the
     * main one.
     */
    diag(offset?: number): Tensor;
  }
}

addMethods({
  split(sizes: number | readonly number[], axis?: number) {
    return split(this, sizes, axis);
  },
  chunk(chunks: number, axis?: number) {
    return chunk(this, chunks, axis);
  },
  unbind(axis?: number) {
    return unbind(this, axis);
  },
  movedim(source: number | readonly number[], destination: number | readonly number[]) {
    return movedim(this, source, destination);
  },
  swapaxes(first: number, second: number) {
    return swapaxes(this, first, second);
  },
  broadcastTo(shape: Shape) {
    return broadcastTo(this, shape);
  },
  expandAs(like: Tensor) {
    return expandAs(this, like);
  },
  diag(offset?: number) {
    return diag(this, offset);
  },
});
