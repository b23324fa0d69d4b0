/** Elements by an index of their own along one axis, masks, and where tensors are set. */
import { type Rule, record } from '../autograd.js';
import {
  describe,
  expectAxis,
  expectInteger,
  expectNumber,
  expectOptions,
  expectTensor,
  fromFront,
} from '../check.js';
import type { DType } from '../dtype.js';
import { native } from '../native.js';
import { type Shape, sameShape, Tensor, take } from '../tensor.js';
import { eq, where } from './binary.js';
import { asClasses, to } from './copy.js';
import { addMethods, notDifferentiable, type OpRows, ruleOf } from './define.js';
import { arange, scalar, zeros } from './fill.js';
import { indexSelect, inside } from './index.js';
import { pad } from './movement.js';
import { expand, reshape, unsqueeze } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    gather(x: Handle, axis: number, index: Handle): void;
    scatter(x: Handle, axis: number, index: Handle, src: Handle): void;
    scatterAdd(x: Handle, axis: number, index: Handle, src: Handle): void;
    nonzero(x: Handle): void;
  }
}

interface Along {
  axis: number;
  shape: Shape;
  /** The shape of the source, where it is larger than the index. */
  source?: Shape;
}

/** The gradient of a source: zeros where it lies beyond the index, and where that was skipped. */
function sourceGradient(dout: Tensor, index: Tensor, { axis, source }: Along): Tensor {
  const size = dout.shape[axis] as number;
  const part = where(inside(index, size), gather(dout, axis, index), 0);
  if (sameShape(source as Shape, index.shape)) return part;
  const behind = (source as Shape).map((size, i) => [0, size - (index.shape[i] as number)]);
  return pad(part, behind.reverse().flat());
}

export const gatherOps: OpRows<'gather' | 'scatter' | 'scatterAdd' | 'nonzero'> = {
  gather: {
    family: 'gather',
    summary: 'elements by an index of their own along an axis',
    dtypes: 'any',
    gradient: ((dout, [index], { axis, shape }) => [
      scatterAdd(
        zeros(shape, { dtype: dout.dtype, device: dout.device }),
        axis,
        index as Tensor,
        dout,
      ),
      null,
    ]) satisfies Rule<Along>,
  },
  scatter: {
    family: 'gather',
    summary: 'elements written where an index says along an axis',
    dtypes: 'any',
    gradient: ((dout, [index], along, needs) => [
      needs[0] ? scatter(dout, along.axis, index as Tensor, 0) : null,
      null,
      needs[2] ? sourceGradient(dout, index as Tensor, along) : null,
    ]) satisfies Rule<Along>,
  },
  scatterAdd: {
    family: 'gather',
    summary: 'elements added where an index says along an axis',
    dtypes: 'numeric',
    gradient: ((dout, [index], along, needs) => [
      dout,
      null,
      needs[2] ? sourceGradient(dout, index as Tensor, along) : null,
    ]) satisfies Rule<Along>,
  },
  nonzero: {
    family: 'gather',
    summary: 'coordinates of the elements that are not 0',
    dtypes: 'any',
    gradient: notDifferentiable('coordinates are integers'),
  },
};

/**
 * out[i,j,k] = x[i,index[i,j,k],k] (for axis 1), as PyTorch's `gather`.
 * @param index integers of x's rank, no larger than x except on the axis; an index outside the axis
 *   gives NaN (0 for integers)
 */
export function gather(x: Tensor, axis: number, index: Tensor): Tensor {
  expectTensor('gather', x, 'x');
  expectTensor('gather', index, 'index');
  native.gather(x.h, expectInteger('gather', 'axis', axis), index.h);
  const out = take(0, x.device);
  const along: Along = { axis: fromFront(axis, x.rank), shape: x.shape };
  return record('gather', ruleOf(gatherOps.gather), out, [x, index], () => [index], along);
}

/**
 * x by an index that may broadcast against it off the axis, as PyTorch's `take_along_dim`: with
 * what argsort or argmax (kept as an axis) returned, for instance. Without an axis x and index are
 * one row each.
 */
export function takeAlongDim(x: Tensor, index: Tensor, axis?: number): Tensor {
  const op = 'takeAlongDim';
  expectTensor(op, x, 'x');
  expectTensor(op, index, 'index');
  if (axis === undefined) return gather(reshape(x, [x.size]), 0, reshape(index, [index.size]));
  const at = expectAxis(op, axis, x.rank);
  if (x.rank !== index.rank) {
    throw new RangeError(`${op}: ranks must match, got [${x.shape}] and [${index.shape}]`);
  }
  const common = x.shape.map((size, i) => (size === 1 ? (index.shape[i] as number) : size));
  const along = (t: Tensor): Tensor =>
    expand(
      t,
      common.map((size, i) => (i === at ? (t.shape[i] as number) : size)),
    );
  return gather(along(x), at, along(index));
}

/**
 * A copy of x in which out[i,index[i,j,k],k] = src[i,j,k] (for axis 1), as PyTorch's `scatter`. Of
 * two values for one place the later along the axis stays; the gradient of src is right only
 * without such repeats. Indices outside the axis are skipped.
 * @param src a tensor that covers the index, or a number
 */
export function scatter(x: Tensor, axis: number, index: Tensor, src: Tensor | number): Tensor {
  expectTensor('scatter', x, 'x');
  expectTensor('scatter', index, 'index');
  let source = src;
  if (!(source instanceof Tensor)) {
    const value = expectNumber('scatter', 'src', source);
    source = expand(scalar('scatter', value, x.dtype, x.device), index.shape);
  }
  native.scatter(x.h, expectInteger('scatter', 'axis', axis), index.h, source.h);
  const along: Along = { axis: fromFront(axis, x.rank), shape: x.shape, source: source.shape };
  const rule = ruleOf(gatherOps.scatter);
  return record('scatter', rule, take(0, x.device), [x, index, source], () => [index], along);
}

/**
 * A copy of x to which out[i,index[i,j,k],k] += src[i,j,k] (for axis 1), in order along the axis,
 * so that sums are the same at each run; as PyTorch's `scatter_add`. Indices outside are skipped.
 */
export function scatterAdd(x: Tensor, axis: number, index: Tensor, src: Tensor): Tensor {
  expectTensor('scatterAdd', x, 'x');
  expectTensor('scatterAdd', index, 'index');
  expectTensor('scatterAdd', src, 'src');
  native.scatterAdd(x.h, expectInteger('scatterAdd', 'axis', axis), index.h, src.h);
  const along: Along = { axis: fromFront(axis, x.rank), shape: x.shape, source: src.shape };
  const rule = ruleOf(gatherOps.scatterAdd);
  return record('scatterAdd', rule, take(0, x.device), [x, index, src], () => [index], along);
}

/**
 * Coordinates of the elements that are not 0, int64 [K,rank] in row-major order. Waits for the
 * device, and cannot be captured, since K depends on values.
 */
export function nonzero(x: Tensor): Tensor {
  native.nonzero(expectTensor('nonzero', x).h);
  return record('nonzero', null, take(0, x.device), [x], null, null);
}

function expectMask(op: string, mask: Tensor): Tensor {
  if (expectTensor(op, mask, 'mask').dtype !== 'bool') {
    throw new TypeError(`${op}: the mask must be bool, got ${describe(mask)}`);
  }
  return mask;
}

/** x with `value` (a number, or a tensor of one element) where the mask, which broadcasts, holds. */
export function maskedFill(x: Tensor, mask: Tensor, value: Tensor | number): Tensor {
  expectTensor('maskedFill', x, 'x');
  expectMask('maskedFill', mask);
  if (value instanceof Tensor && value.rank > 0) {
    throw new RangeError(`maskedFill: the value must be a scalar, got ${describe(value)}`);
  }
  const fits =
    mask.rank <= x.rank &&
    mask.shape.every((size, i) => size === 1 || size === x.shape[i + x.rank - mask.rank]);
  if (!fits) {
    throw new RangeError(
      `maskedFill: the mask must broadcast to x, got [${mask.shape}] and [${x.shape}]`,
    );
  }
  if (value instanceof Tensor) return where(mask, to(value, x.dtype), x);
  const number = expectNumber('maskedFill', 'the value', value);
  return where(mask, scalar('maskedFill', number, x.dtype, x.device), x);
}

/**
 * The elements of x where the mask holds, as one row; both broadcast. Waits for the device, and
 * cannot be captured, since the size of the result depends on values.
 */
export function maskedSelect(x: Tensor, mask: Tensor): Tensor {
  expectTensor('maskedSelect', x, 'x');
  expectMask('maskedSelect', mask);
  const rank = Math.max(x.rank, mask.rank);
  const shape = Array.from({ length: rank }, (_, i) => {
    const [a = 1, b = 1] = [x, mask].map((t) => t.shape[i - rank + t.rank]);
    return a === 1 ? b : a;
  });
  const places = reshape(nonzero(reshape(expand(mask, shape), [-1])), [-1]);
  return indexSelect(reshape(expand(x, shape), [-1]), places);
}

/**
 * 1 at each index and 0 elsewhere, along a new last axis, as PyTorch's `one_hot`.
 * @param index integers of any shape; an index outside [0,classes) gives zeros throughout
 * @param options dtype of the result, int64 where left out
 */
export function oneHot(index: Tensor, classes: number, options: { dtype?: DType } = {}): Tensor {
  const { dtype = 'int64' } = expectOptions('oneHot', options, ['dtype']);
  expectInteger('oneHot', 'classes', classes, 1);
  const places = asClasses('oneHot', index, 'index');
  return to(eq(unsqueeze(places, -1), arange(0, classes, 1, { device: index.device })), dtype);
}

declare module '../tensor.js' {
  interface Tensor {
    /**
     * out[i][j]… = x[…index[i][j]…] along `axis`: elements by an int64 index of the result's shape.
     */
    gather(axis: number, index: Tensor): Tensor;
    /** {@link gather} with an index that broadcasts; without an axis, from the flattened tensor. */
    takeAlongDim(index: Tensor, axis?: number): Tensor;
    /** A copy of x with src (a tensor or a number) written where `index` says along `axis`. */
    scatter(axis: number, index: Tensor, src: Tensor | number): Tensor;
    /** A copy of x with src added where `index` says along `axis`, in the order of the index. */
    scatterAdd(axis: number, index: Tensor, src: Tensor): Tensor;
    /** int64 [n, rank]: the coordinates of the elements that are not 0. Waits for the device. */
    nonzero(): Tensor;
    /** x with `value` (a number or a scalar tensor) where `mask` (bool, broadcast) holds. */
    maskedFill(mask: Tensor, value: Tensor | number): Tensor;
    /** [n]: the elements where `mask` (bool, broadcast) holds. Waits for the device. */
    maskedSelect(mask: Tensor): Tensor;
  }
}

addMethods({
  gather(axis: number, index: Tensor) {
    return gather(this, axis, index);
  },
  takeAlongDim(index: Tensor, axis?: number) {
    return takeAlongDim(this, index, axis);
  },
  scatter(axis: number, index: Tensor, src: Tensor | number) {
    return scatter(this, axis, index, src);
  },
  scatterAdd(axis: number, index: Tensor, src: Tensor) {
    return scatterAdd(this, axis, index, src);
  },
  nonzero() {
    return nonzero(this);
  },
  maskedFill(mask: Tensor, value: Tensor | number) {
    return maskedFill(this, mask, value);
  },
  maskedSelect(mask: Tensor) {
    return maskedSelect(this, mask);
  },
});
