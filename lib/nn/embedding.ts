/** A table of vectors, looked up by index. */
import {
  expectBoolean,
  expectInteger,
  expectOneOf,
  expectOptions,
  expectTensor,
} from '../check.js';
import { noGrad } from '../context.js';
import { div, maximum, mul, ne } from '../ops/binary.js';
import { copyInto } from '../ops/copy.js';
import { embedding } from '../ops/embedding.js';
import type { TensorOptions } from '../ops/fill.js';
import { zeros } from '../ops/fill.js';
import { sum } from '../ops/reduce.js';
import { slice, unsqueeze } from '../ops/view.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { normal } from './init.js';
import { Module, parameter } from './module.js';

export interface EmbeddingOptions extends Pick<TensorOptions, 'dtype' | 'device'> {
  /** The row that starts as zeros and gets no gradient; negative counts from the end. */
  paddingIdx?: number | null;
  /** Whether the table is not trained; false where left out. */
  freeze?: boolean;
}

/**
 * Rows of a table: int64 indices of any shape to [...index, embeddingDim]. The table starts normal
 * with mean 0 and standard deviation 1, as PyTorch's; an index out of range gives a row of NaN.
 * @example const words = new nn.Embedding(25_002, 100, { paddingIdx: 1 });
 */
export class Embedding extends Module {
  /** [numEmbeddings, embeddingDim] */
  weight: Tensor;
  /** The row without a gradient, or null. */
  readonly paddingIdx: number | null;

  constructor(
    readonly numEmbeddings: number,
    readonly embeddingDim: number,
    options: EmbeddingOptions = {},
  ) {
    super();
    expectInteger('Embedding', 'numEmbeddings', numEmbeddings, 1);
    expectInteger('Embedding', 'embeddingDim', embeddingDim, 1);
    const { paddingIdx = null, freeze = false, ...place } = expectOptions('Embedding', options);
    expectBoolean('Embedding', 'freeze', freeze);
    this.paddingIdx = null;
    if (paddingIdx !== null) {
      expectInteger('Embedding', 'paddingIdx', paddingIdx, -numEmbeddings, numEmbeddings - 1);
      this.paddingIdx = paddingIdx < 0 ? paddingIdx + numEmbeddings : paddingIdx;
    }
    this.weight = parameter(zeros([numEmbeddings, embeddingDim], place));
    normal(this.weight);
    const padding = this.paddingIdx;
    if (padding !== null) {
      noGrad(() =>
        scope(() => {
          const row = slice(this.weight, 0, padding, padding + 1);
          copyInto(row, zeros(row.shape, place));
        }),
      );
    }
    this.weight.requireGrad(!freeze);
  }

  /**
   * A layer with a copy of the given table, on its device; not trained unless `freeze` is false.
   * @param weight [numEmbeddings, embeddingDim]
   */
  static fromPretrained(
    weight: Tensor,
    options: Pick<EmbeddingOptions, 'paddingIdx' | 'freeze'> = {},
  ): Embedding {
    expectTensor('Embedding', weight, 'the table');
    const [rows, columns] = weight.shape;
    if (weight.rank !== 2 || !rows || !columns) {
      throw new RangeError(`Embedding: the table must be [V,D], got [${weight.shape}]`);
    }
    const { paddingIdx = null, freeze = true } = expectOptions('Embedding', options);
    const { dtype, device } = weight;
    const layer = new Embedding(rows, columns, { paddingIdx, freeze, dtype, device });
    noGrad(() => copyInto(layer.weight, weight.detach()));
    return layer;
  }

  forward(index: Tensor): Tensor {
    return embedding(this.weight, index, { paddingIdx: this.paddingIdx });
  }

  protected override describe(): string {
    const padding = this.paddingIdx === null ? '' : `, paddingIdx ${this.paddingIdx}`;
    return `${this.numEmbeddings} → ${this.embeddingDim}${padding}`;
  }
}

const modes = ['mean', 'sum'] as const;

export interface EmbeddingBagOptions extends EmbeddingOptions {
  /** How the vectors of a bag become one; mean where left out. */
  mode?: (typeof modes)[number];
}

/**
 * The mean or the sum of the vectors of each bag: int64 indices [N, L] to [N, embeddingDim]. Indices
 * equal to paddingIdx count nothing; a bag with no others gives zeros.
 */
export class EmbeddingBag extends Embedding {
  readonly mode: (typeof modes)[number];

  constructor(numEmbeddings: number, embeddingDim: number, options: EmbeddingBagOptions = {}) {
    const { mode = 'mean', ...rest } = expectOptions<EmbeddingBagOptions>('EmbeddingBag', options);
    super(numEmbeddings, embeddingDim, rest);
    this.mode = expectOneOf('EmbeddingBag', 'mode', mode, modes);
  }

  override forward(index: Tensor): Tensor {
    expectTensor('EmbeddingBag', index, 'index');
    if (index.rank !== 2) {
      throw new RangeError(`EmbeddingBag: the indices must be [N,L], got [${index.shape}]`);
    }
    const rows = super.forward(index);
    if (this.paddingIdx === null) {
      const total = sum(rows, 1);
      return this.mode === 'sum' ? total : mul(total, 1 / Math.max(index.shape[1] as number, 1));
    }
    const counted = unsqueeze(ne(index, this.paddingIdx).to(rows.dtype), -1);
    const total = sum(mul(rows, counted), 1);
    return this.mode === 'sum' ? total : div(total, maximum(sum(counted, 1), 1));
  }
}
