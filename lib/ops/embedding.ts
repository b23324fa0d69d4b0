/** Rows of a table by index, of any shape; the gradient costs what the indices cost. */
import { type Rule, record } from '../autograd.js';
import { expectInteger, expectOptions, expectTensor } from '../check.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { type OpRows, ruleOf } from './define.js';

declare module '../native.js' {
  interface NativeOps {
    embedding(weight: Handle, index: Handle): void;
  }
  interface NativeKernels {
    embeddingBackward(shape: Numbers, index: Handle, dy: Handle, padding: number): void;
    embeddingBackwardInto(
      out: Handle,
      index: Handle,
      dy: Handle,
      padding: number,
      accumulate: boolean,
    ): void;
  }
}

/** @internal */
export interface EmbeddingAttributes {
  readonly shape: Shape;
  readonly padding: number;
}

// Straight into the table's gradient buffer: no second table is made and passed over.
const embeddingRule: Rule<EmbeddingAttributes> = (dout, [index], { shape, padding }) => [
  {
    compute: () => {
      native.embeddingBackward(shape, (index as Tensor).h, dout.h, padding);
      return take(0, dout.device);
    },
    into: (out, accumulate) => {
      native.embeddingBackwardInto(out.h, (index as Tensor).h, dout.h, padding, accumulate);
      return true;
    },
  },
  null,
];

export const embeddingOps: OpRows<'embedding'> = {
  embedding: {
    family: 'embedding',
    summary: 'rows of a table by indices of any shape',
    dtypes: 'floating',
    gradient: embeddingRule,
  },
};

/**
 * Rows `index[...]` of a table. Its gradient is summed in the order of the indices, straight into the
 * table's gradient where that is kept; rows without an index cost nothing but their zeros.
 * @param weight [V, D]
 * @param index int64 of any shape; an index outside [0, V) gives a row of NaN and no gradient
 * @param options.paddingIdx the row whose gradient is 0; negative counts from the end
 * @returns [...index, D]
 */
export function embedding(
  weight: Tensor,
  index: Tensor,
  options: { paddingIdx?: number | null } = {},
): Tensor {
  expectTensor('embedding', weight, 'weight');
  expectTensor('embedding', index, 'index');
  const { paddingIdx = null } = expectOptions('embedding', options, ['paddingIdx']);
  const rows = weight.shape[0] ?? 0;
  let padding = -1;
  if (paddingIdx !== null) {
    padding = expectInteger('embedding', 'paddingIdx', paddingIdx, -rows, rows - 1);
    if (padding < 0) padding += rows;
  }
  native.embedding(weight.h, index.h);
  return record(
    'embedding',
    ruleOf(embeddingOps.embedding),
    take(0, weight.device),
    [weight, index],
    () => [index],
    { shape: weight.shape, padding },
  );
}
