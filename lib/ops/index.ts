/** Choosing rows by index, and its opposite. Named as the native family; see table.ts for all ops. */
import { type Rule, record } from '../autograd.js';
import { expectShape, expectTensor } from '../check.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { addMethods, type OpRows, ruleOf } from './define.js';

declare module '../native.js' {
  interface NativeOps {
    indexSelect(x: Handle, index: Handle): void;
    indexAdd(shape: Numbers, index: Handle, src: Handle): void;
  }
}

export const indexOps: OpRows<'indexSelect' | 'indexAdd'> = {
  indexSelect: {
    family: 'index',
    summary: 'rows of the first axis, by index',
    dtypes: 'any',
    gradient: ((dout, [index], shape) => [
      indexAdd(shape, index as Tensor, dout),
      null,
    ]) satisfies Rule<Shape>,
  },
  indexAdd: {
    family: 'index',
    summary: 'rows added up where their index says, in zeros',
    dtypes: 'any',
    gradient: ((dout, [index]) => [null, indexSelect(dout, index as Tensor)]) satisfies Rule<null>,
  },
};

/**
 * Rows `index[i]` of x's first axis.
 * @param index [I], int64; an index outside the axis gives NaN (0 for integers)
 * @returns [I, ...]
 */
export function indexSelect(x: Tensor, index: Tensor): Tensor {
  expectTensor('indexSelect', x, 'x');
  expectTensor('indexSelect', index, 'index');
  native.indexSelect(x.h, index.h);
  return record(
    'indexSelect',
    ruleOf(indexOps.indexSelect),
    take(0, x.device),
    [x, index],
    () => [index],
    x.shape,
  );
}

/**
 * Zeros of `shape` to whose rows `index[i]` the rows of src are added, in order of i.
 * @param index [I], int64
 * @param src [I, ...]
 */
export function indexAdd(shape: Shape, index: Tensor, src: Tensor): Tensor {
  expectTensor('indexAdd', index, 'index');
  expectTensor('indexAdd', src, 'src');
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
    indexSelect(index: Tensor): Tensor;
  }
}

addMethods({
  indexSelect(index: Tensor) {
    return indexSelect(this, index);
  },
});
