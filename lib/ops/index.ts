/** Choosing rows by index, and its opposite. Named as the native family; see table.ts for all ops. */
import { type Rule, record } from '../autograd.js';
import { expectAxis, expectShape, expectTensor } from '../check.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { ge, logicalAnd, lt, where } from './binary.js';
import { addMethods, type OpRows, ruleOf } from './define.js';
import { expand, permute, reshape } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    indexSelect(x: Handle, index: Handle): void;
    indexAdd(shape: Numbers, index: Handle, src: Handle): void;
  }
}

/** @internal Which indices are in [0,size): others are skipped, and what was there has no gradient. */
export function inside(index: Tensor, size: number): Tensor {
  return logicalAnd(ge(index, 0), lt(index, size));
}

interface Chosen {
  shape: Shape;
  axis: number;
}

export const indexOps: OpRows<'indexSelect' | 'indexAdd'> = {
  indexSelect: {
    family: 'index',
    summary: 'indices of one axis, by a list',
    dtypes: 'any',
    gradient: ((dout, [index], { shape, axis }) => [
      indexAdd(shape, index as Tensor, dout, axis),
      null,
    ]) satisfies Rule<Chosen>,
  },
  indexAdd: {
    family: 'index',
    summary: 'rows added up where their index says, in zeros',
    dtypes: 'any',
    gradient: ((dout, [index]) => {
      const places = index as Tensor;
      const along = [places.size, ...new Array<number>(dout.rank - 1).fill(1)];
      const taken = reshape(inside(places, dout.shape[0] as number), along);
      return [null, where(taken, indexSelect(dout, places), 0)];
    }) satisfies Rule<null>,
  },
};

/**
 * Indices `index[i]` of an axis of x, the first where it is left out.
 * @param index [I], int64; an index outside the axis gives NaN (0 for integers)
 * @returns x's shape with I in the place of the axis
 */
export function indexSelect(x: Tensor, index: Tensor, axis = 0): Tensor {
  expectTensor('indexSelect', x, 'x');
  expectTensor('indexSelect', index, 'index');
  const at = expectAxis('indexSelect', axis, x.rank);
  if (at === 0 || index.rank !== 1) {
    native.indexSelect(x.h, index.h);
  } else {
    const shape = x.shape.map((size, i) => (i === at ? index.size : size));
    const along = reshape(index, [index.size, ...new Array<number>(x.rank - at - 1).fill(1)]);
    native.gather(x.h, at, expand(along, shape).h);
  }
  return record(
    'indexSelect',
    ruleOf(indexOps.indexSelect),
    take(0, x.device),
    [x, index],
    () => [index],
    { shape: x.shape, axis: at },
  );
}

/**
 * Zeros of `shape` to whose indices `index[i]` along an axis those of src are added, in order of i.
 * @param index [I], int64
 * @param src of that shape, with I in the place of the axis, which is the first where left out
 */
export function indexAdd(shape: Shape, index: Tensor, src: Tensor, axis = 0): Tensor {
  expectTensor('indexAdd', index, 'index');
  expectTensor('indexAdd', src, 'src');
  const at = expectAxis('indexAdd', axis, expectShape('indexAdd', shape).length);
  if (at > 0) {
    // The axis comes first, and goes back.
    const order = shape.map((_, i) => (i === 0 ? at : i <= at ? i - 1 : i));
    const back = shape.map((_, i) => (i === at ? 0 : i < at ? i + 1 : i));
    const moved = src.rank === shape.length ? permute(src, order) : src;
    const sizes = order.map((i) => shape[i] as number);
    return permute(indexAdd(sizes, index, moved), back);
  }
  native.indexAdd(expectShape('indexAdd', shape), index.h, src.h);
  return record(
    'indexAdd',
    ruleOf(indexOps.indexAdd),
    take(0, src.device),
    [index, src],
    () => [index],
    null,
  );
}

declare module '../tensor.js' {
  interface Tensor {
    /** Indices `index[i]` (int64 [I]) of an axis, the first where left out. */
    indexSelect(index: Tensor, axis?: number): Tensor;
  }
}

addMethods({
  indexSelect(index: Tensor, axis?: number) {
    return indexSelect(this, index, axis);
  },
});
