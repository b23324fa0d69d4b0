/** A table of vectors, looked up by index. */
import {
  describe,
  expectBoolean,
  expectInteger,
  expectOneOf,
  expectOptions,
  expectTensor,
  optionalTensor,
} from '../check.js';
import { noGrad } from '../context.js';
import type { Device } from '../device.js';
import { div, gt, maximum, mul, ne, sub, where } from '../ops/binary.js';
import { copyInto } from '../ops/copy.js';
import { embedding } from '../ops/embedding.js';
import { full, ones, type TensorOptions, tensor, zeros } from '../ops/fill.js';
import { gather, scatterAdd } from '../ops/gather.js';
import { indexAdd, indexSelect } from '../ops/index.js';
import { cat } from '../ops/movement.js';
import { max, mean, sum } from '../ops/reduce.js';
import { cumsum, runningPlace } from '../ops/scan.js';
import { any } from '../ops/statistics.js';
import { slice, unsqueeze } from '../ops/view.js';
import { scope } from '../scope.js';
import { sameShape, Tensor } from '../tensor.js';
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
    const {
      paddingIdx = null,
      freeze = false,
      ...place
    } = expectOptions('Embedding', options, ['paddingIdx', 'freeze', 'dtype', 'device']);
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
    const { paddingIdx = null, freeze = true } = expectOptions('Embedding', options, [
      'paddingIdx',
      'freeze',
    ]);
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

const modes = ['mean', 'sum', 'max'] as const;

export interface EmbeddingBagOptions extends EmbeddingOptions {
  /** How the vectors of a bag become one; mean where left out. */
  mode?: (typeof modes)[number];
  /** Whether offsets end with the number of indices; false where left out. */
  includeLastOffset?: boolean;
}

export interface EmbeddingBagCall {
  /** int64 [B], or numbers: where each bag starts in indices [N], rising from 0. */
  offsets?: Tensor | readonly number[] | null;
  /** A factor per index, in the shape of the indices; for mode `sum`. */
  perSampleWeights?: Tensor | null;
}

/**
 * The mean, sum or largest elements of the vectors of each bag: int64 indices [B, L], or [N] with the
 * offsets of B bags, to [B, embeddingDim]. Indices equal to paddingIdx count nothing; a bag with no
 * others gives zeros. `max` over bags of a row costs log₂ N passes over their vectors.
 */
export class EmbeddingBag extends Embedding {
  readonly mode: (typeof modes)[number];
  readonly includeLastOffset: boolean;

  constructor(numEmbeddings: number, embeddingDim: number, options: EmbeddingBagOptions = {}) {
    const name = 'EmbeddingBag';
    const {
      mode = 'mean',
      includeLastOffset = false,
      ...rest
    } = expectOptions(name, options, [
      'mode',
      'includeLastOffset',
      'paddingIdx',
      'freeze',
      'dtype',
      'device',
    ]);
    super(numEmbeddings, embeddingDim, rest);
    this.mode = expectOneOf(name, 'mode', mode, modes);
    this.includeLastOffset = expectBoolean(name, 'includeLastOffset', includeLastOffset);
  }

  override forward(index: Tensor, options: EmbeddingBagCall = {}): Tensor {
    const name = 'EmbeddingBag';
    expectTensor(name, index, 'index');
    const { offsets = null, perSampleWeights } = expectOptions(name, options, [
      'offsets',
      'perSampleWeights',
    ]);
    if (index.rank !== 2 && (index.rank !== 1 || offsets === null)) {
      throw new RangeError(
        `${name}: the indices must be [B,L], or [N] with offsets, got [${index.shape}]`,
      );
    }
    if (index.rank === 2 && offsets !== null) {
      throw new RangeError(`${name}: offsets are for indices [N], got [${index.shape}]`);
    }
    const weights = optionalTensor(name, perSampleWeights, 'perSampleWeights');
    if (weights && (this.mode !== 'sum' || !sameShape(weights.shape, index.shape))) {
      throw new RangeError(
        `${name}: perSampleWeights must be [${index.shape}] with mode sum, ` +
          `got [${weights.shape}] with mode ${this.mode}`,
      );
    }
    let rows = super.forward(index);
    if (weights) rows = mul(rows, unsqueeze(weights, -1));
    const counted = this.paddingIdx === null ? null : unsqueeze(ne(index, this.paddingIdx), -1);
    if (index.rank === 2) return this.overRows(rows, counted);
    return this.overBags(rows, counted, offsets as Tensor | readonly number[]);
  }

  /** Bags [B, L, D] of one length; where `counted`, [B, L, 1], is false a vector counts nothing. */
  private overRows(rows: Tensor, counted: Tensor | null): Tensor {
    const [bags, length, width] = rows.shape as [number, number, number];
    const { dtype, device } = rows;
    if (length === 0) return zeros([bags, width], { dtype, device });
    if (this.mode === 'max') {
      const largest = max(counted ? where(counted, rows, Number.NEGATIVE_INFINITY) : rows, 1);
      return counted ? where(any(counted, 1), largest, 0) : largest;
    }
    if (counted === null) return this.mode === 'sum' ? sum(rows, 1) : mean(rows, 1);
    const total = sum(where(counted, rows, 0), 1);
    return this.mode === 'sum' ? total : div(total, maximum(sum(counted, 1).to(dtype), 1));
  }

  /** Bags [N, D] one after another. */
  private overBags(
    all: Tensor,
    counted: Tensor | null,
    offsets: Tensor | readonly number[],
  ): Tensor {
    const { dtype, device } = all;
    const [count, width] = all.shape as [number, number];
    const starts = this.startsOf(offsets, device);
    const bags = starts.size;
    // Each start adds 1 to what follows it: a running count of the bags begun.
    const marks = scatterAdd(
      zeros([count + 1], { dtype: 'int64', device }),
      0,
      starts,
      ones([bags], { dtype: 'int64', device }),
    );
    const bag = sub(slice(cumsum(marks, 0), 0, 0, count), 1);
    if (bags === 0 || count === 0) return indexAdd([bags, width], bag, all);
    const own = counted ?? ones([count, 1], { dtype: 'bool', device });
    const sizes = indexAdd([bags, 1], bag, own.to(dtype));
    if (this.mode === 'max') {
      const rows = where(own, all, Number.NEGATIVE_INFINITY);
      const place = runningPlace(rows, 0, true, bag);
      // A bag ends before the next one starts; what an empty one finds is not its own.
      const next = cat([slice(starts, 0, 1), full([1], count, { dtype: 'int64', device })]);
      const ends = maximum(sub(next, 1), 0);
      return where(gt(sizes, 0), gather(all, 0, indexSelect(place, ends)), 0);
    }
    const total = indexAdd([bags, width], bag, where(own, all, 0));
    return this.mode === 'sum' ? total : div(total, maximum(sizes, 1));
  }

  private startsOf(offsets: Tensor | readonly number[], on: Device): Tensor {
    const name = 'EmbeddingBag';
    const made =
      offsets instanceof Tensor
        ? offsets
        : tensor(
            offsets.map((at) => expectInteger(name, 'an offset', at, 0)),
            [offsets.length],
            { dtype: 'int64', device: on },
          );
    if (made.dtype !== 'int64' || made.rank !== 1) {
      throw new TypeError(`${name}: offsets must be int64 [B], got ${describe(made)}`);
    }
    return this.includeLastOffset ? slice(made, 0, 0, -1) : made;
  }
}
