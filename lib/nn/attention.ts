/** Attention layers: multi-head, and the two older kinds that return their weights. */
import {
  describe,
  expectBoolean,
  expectInteger,
  expectNumber,
  expectOptions,
  expectRange,
  expectTensor,
  optionalTensor,
} from '../check.js';
import { isFloating } from '../dtype.js';
import {
  type AttentionOptions,
  attentionWithWeights,
  packedAttention,
  scaledDotProductAttention,
} from '../ops/attention.js';
import { where } from '../ops/binary.js';
import type { TensorOptions } from '../ops/fill.js';
import { full, zeros } from '../ops/fill.js';
import { linear, matmul } from '../ops/gemm.js';
import { split } from '../ops/parts.js';
import { mean } from '../ops/reduce.js';
import { softmax } from '../ops/softmax.js';
import { logicalNot, tanh } from '../ops/unary.js';
import { permute, reshape, slice, squeeze, transpose, unsqueeze } from '../ops/view.js';
import type { Shape, Tensor } from '../tensor.js';
import { constant, xavierUniform } from './init.js';
import { Linear, type LinearOptions } from './linear.js';
import { Module, parameter } from './module.js';

type Place = Pick<TensorOptions, 'dtype' | 'device'>;

export interface MultiheadAttentionOptions extends Place {
  /** The chance that a weight is dropped in training; 0 where left out. */
  dropout?: number;
  /** Whether the projections have biases; true where left out. */
  bias?: boolean;
  /** Width of the keys' input where it is not embedDim. */
  kdim?: number;
  /** Width of the values' input where it is not embedDim. */
  vdim?: number;
  /** Inputs are [B, T, E] rather than [T, B, E]; false where left out. */
  batchFirst?: boolean;
}

/** What a call of an attention layer may leave out; PyTorch's meaning of masks. */
export interface AttentionMasks {
  /** [B, S], or [S]: bool (true leaves a key out) or added to the scores of every query. */
  keyPaddingMask?: Tensor | null;
  /** [T, S] or [B·H, T, S]: bool (true leaves out, unlike in the function) or added to scores. */
  attnMask?: Tensor | null;
  /** Leaves out keys after the query; no mask is needed for it. */
  isCausal?: boolean;
}

export interface MultiheadAttentionCall extends AttentionMasks {
  /** Whether to return the weights, which are then materialised; false where left out. */
  needWeights?: boolean;
  /** Whether returned weights are the mean over heads; true where left out. */
  averageAttnWeights?: boolean;
}

/** A key padding mask, checked. */
function expectPadding(op: string, value: unknown): Tensor | null {
  const mask = optionalTensor(op, value, 'keyPaddingMask');
  if (mask === null || mask.dtype === 'bool' || isFloating(mask.dtype)) return mask;
  throw new TypeError(`${op}: keyPaddingMask must be bool or floating, got ${describe(mask)}`);
}

/** A bool mask of the kept as summands of scores. */
function summands(kept: Tensor, like: Tensor): Tensor {
  const { dtype, device } = like;
  return where(kept, 0, full([], Number.NEGATIVE_INFINITY, { dtype, device }));
}

/**
 * Attention of several heads between projections of query, key and value, projected once more.
 * Parameters are named and laid out as PyTorch's: in_proj_weight [3E, E] and in_proj_bias [3E] (or
 * q_proj_weight, k_proj_weight, v_proj_weight where kdim or vdim differ), out_proj. The projections
 * start Xavier-uniform, biases at 0.
 * @example const [y] = new nn.MultiheadAttention(128, 4, { batchFirst: true }).forward(x);
 */
export class MultiheadAttention extends Module {
  readonly dropout: number;
  readonly batchFirst: boolean;
  /** [3E, E], or null where widths differ */
  in_proj_weight: Tensor | null;
  q_proj_weight: Tensor | null;
  k_proj_weight: Tensor | null;
  v_proj_weight: Tensor | null;
  /** [3E], or null */
  in_proj_bias: Tensor | null;
  out_proj: Linear;

  constructor(
    readonly embedDim: number,
    readonly numHeads: number,
    options: MultiheadAttentionOptions = {},
  ) {
    super();
    const name = 'MultiheadAttention';
    expectInteger(name, 'embedDim', embedDim, 1);
    expectInteger(name, 'numHeads', numHeads, 1);
    if (embedDim % numHeads !== 0) {
      throw new RangeError(
        `${name}: numHeads must divide embedDim, got ${numHeads} and ${embedDim}`,
      );
    }
    const {
      dropout = 0,
      bias = true,
      kdim = embedDim,
      vdim = embedDim,
      batchFirst = false,
      ...place
    } = expectOptions(name, options, [
      'dropout',
      'bias',
      'kdim',
      'vdim',
      'batchFirst',
      'dtype',
      'device',
    ]);
    this.dropout = expectRange(name, 'dropout', dropout, 0, 1);
    this.batchFirst = expectBoolean(name, 'batchFirst', batchFirst);
    expectBoolean(name, 'bias', bias);
    const weight = (rows: number, columns: number): Tensor => {
      const made = parameter(zeros([rows, columns], place));
      xavierUniform(made);
      return made;
    };
    const same = kdim === embedDim && vdim === embedDim;
    this.in_proj_weight = same ? weight(3 * embedDim, embedDim) : null;
    this.q_proj_weight = same ? null : weight(embedDim, embedDim);
    this.k_proj_weight = same ? null : weight(embedDim, expectInteger(name, 'kdim', kdim, 1));
    this.v_proj_weight = same ? null : weight(embedDim, expectInteger(name, 'vdim', vdim, 1));
    this.in_proj_bias = bias ? parameter(zeros([3 * embedDim], place)) : null;
    this.out_proj = new Linear(embedDim, embedDim, { bias, ...place });
    if (this.out_proj.bias) constant(this.out_proj.bias, 0);
  }

  /**
   * @param query [T, B, E], or [B, T, E] with batchFirst; [T, E] is one sample, all being without B
   * @param key [S, B, kdim] likewise; the query where left out
   * @param value [S, B, vdim] likewise; the key where left out
   * @returns the output like query, and the weights [B, T, S] ([B, H, T, S] where not averaged) or
   * null
   */
  forward(
    query: Tensor,
    key: Tensor = query,
    value: Tensor = key,
    options: MultiheadAttentionCall = {},
  ): [Tensor, Tensor | null] {
    const name = 'MultiheadAttention';
    const { rank } = expectTensor(name, query, 'query');
    for (const [what, x] of [
      ['query', query],
      ['key', key],
      ['value', value],
    ] as const) {
      if (expectTensor(name, x, what).rank !== rank || (rank !== 3 && rank !== 2)) {
        const axes = what === 'query' ? '3 axes, or 2 for one sample' : `${rank} axes as the query`;
        throw new RangeError(`${name}: ${what} must have ${axes}, got ${describe(x)}`);
      }
    }
    if (rank === 2) return this.ofSample(query, key, value, options);
    const {
      keyPaddingMask,
      attnMask = null,
      isCausal = false,
      needWeights = false,
      averageAttnWeights = true,
    } = expectOptions(name, options, [
      'needWeights',
      'averageAttnWeights',
      'keyPaddingMask',
      'attnMask',
      'isCausal',
    ]);
    expectBoolean(name, 'needWeights', needWeights);
    let mask = this.maskOf(attnMask);
    let keyPadding = expectPadding(name, keyPaddingMask);
    if (keyPadding && keyPadding.dtype !== 'bool') {
      const added = reshape(keyPadding, paddingShape(name, keyPadding));
      mask = mask ? added.add(mask.dtype === 'bool' ? summands(mask, added) : mask) : added;
      keyPadding = null;
    }
    const settings: AttentionOptions = {
      mask,
      keyPadding,
      isCausal,
      dropout: this.training ? this.dropout : 0,
    };
    const alone = query === key && key === value && this.in_proj_weight !== null;
    let out: Tensor;
    let weights: Tensor | null = null;
    if (alone && !needWeights) {
      const packed = linear(query, this.in_proj_weight as Tensor, this.in_proj_bias);
      out = packedAttention(this.batchLeads(packed), this.numHeads, settings);
    } else {
      const [q, k, v] = this.project(query, key, value).map((x) => this.split(x)) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      if (needWeights) {
        ({ out, weights } = attentionWithWeights(q, k, v, settings));
        if (averageAttnWeights) weights = mean(weights, 1);
      } else {
        out = scaledDotProductAttention(q, k, v, settings);
      }
    }
    // [B, H, T, D] to the order of the inputs, heads joined.
    const joined = permute(out, this.batchFirst ? [0, 2, 1, 3] : [2, 0, 1, 3]);
    return [this.out_proj.forward(reshape(joined, query.shape)), weights];
  }

  /** {@link forward} of one sample, as a batch of it. */
  private ofSample(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: MultiheadAttentionCall,
  ): [Tensor, Tensor | null] {
    const axis = this.batchFirst ? 0 : 1;
    const q = unsqueeze(query, axis);
    const k = key === query ? q : unsqueeze(key, axis);
    const v = value === key ? k : unsqueeze(value, axis);
    const padding = expectPadding('MultiheadAttention', options.keyPaddingMask);
    const keyPaddingMask = padding?.rank === 1 ? unsqueeze(padding, 0) : padding;
    const [out, weights] = this.forward(q, k, v, { ...options, keyPaddingMask });
    return [squeeze(out, axis), weights && squeeze(weights, 0)];
  }

  private batchLeads(x: Tensor): Tensor {
    return this.batchFirst ? x : transpose(x, 0, 1);
  }

  /** [B, T, E] to [B, H, T, D], as a view. */
  private split(x: Tensor): Tensor {
    const [batch, length] = this.batchLeads(x).shape as [number, number];
    const shape = [batch, length, this.numHeads, this.embedDim / this.numHeads];
    return permute(reshape(this.batchLeads(x), shape), [0, 2, 1, 3]);
  }

  private project(query: Tensor, key: Tensor, value: Tensor): [Tensor, Tensor, Tensor] {
    const width = this.embedDim;
    const biasOf = (from: number, to: number): Tensor | null =>
      this.in_proj_bias && slice(this.in_proj_bias, 0, from * width, to * width);
    const weight = this.in_proj_weight;
    if (!weight) {
      return [
        linear(query, this.q_proj_weight as Tensor, biasOf(0, 1)),
        linear(key, this.k_proj_weight as Tensor, biasOf(1, 2)),
        linear(value, this.v_proj_weight as Tensor, biasOf(2, 3)),
      ];
    }
    const projected = (x: Tensor, from: number, to: number): Tensor =>
      linear(x, slice(weight, 0, from * width, to * width), biasOf(from, to));
    if (query === key && key === value) {
      const packed = linear(query, weight, this.in_proj_bias);
      return split(packed, width, 2) as [Tensor, Tensor, Tensor];
    }
    if (key === value) {
      const [k, v] = split(projected(key, 1, 3), width, 2) as [Tensor, Tensor];
      return [projected(query, 0, 1), k, v];
    }
    return [projected(query, 0, 1), projected(key, 1, 2), projected(value, 2, 3)];
  }

  /** PyTorch's mask as the function takes it. */
  private maskOf(mask: Tensor | null): Tensor | null {
    if (mask === null) return null;
    expectTensor('MultiheadAttention', mask, 'attnMask');
    const kept = mask.dtype === 'bool' ? logicalNot(mask) : mask;
    if (mask.rank !== 3) return kept;
    const [rows, queries, keys] = mask.shape as [number, number, number];
    if (rows % this.numHeads !== 0) {
      throw new RangeError(
        `MultiheadAttention: attnMask must be [T,S] or [B·H,T,S], got ${describe(mask)}`,
      );
    }
    return reshape(kept, [rows / this.numHeads, this.numHeads, queries, keys]);
  }

  protected override describe(): string {
    return `${this.embedDim}, ${this.numHeads} heads${this.dropout ? `, dropout ${this.dropout}` : ''}`;
  }
}

/** The shape in which summands [B, S] broadcast over heads and queries. */
function paddingShape(op: string, mask: Tensor): Shape {
  const [batch, keys] = mask.shape;
  if (mask.rank === 2) return [batch as number, 1, 1, keys as number];
  throw new RangeError(`${op}: keyPaddingMask must be [B,S], got [${mask.shape}]`);
}

/** Weights over the keys from scores [B, T, S], 0 where a bool padding mask is true. */
function weightsOf(scores: Tensor, padding: Tensor | null): Tensor {
  if (!padding) return softmax(scores);
  if (padding.dtype !== 'bool') return softmax(scores.add(unsqueeze(padding, 1)));
  const seen = unsqueeze(logicalNot(padding), 1).to(scores.dtype);
  // Far below any score, within float16; the product takes out what is left of it.
  return softmax(scores.add(seen.sub(1).mul(3e4))).mul(seen);
}

/** Runs `attend` with a query [B, E] as one position of [B, 1, E]. */
function withPositions(
  op: string,
  query: Tensor,
  attend: (query: Tensor) => [Tensor, Tensor],
): [Tensor, Tensor] {
  const { rank } = expectTensor(op, query, 'query');
  if (rank === 3) return attend(query);
  if (rank !== 2) {
    throw new RangeError(`${op}: query must be [B,E] or [B,T,E], got ${describe(query)}`);
  }
  const [context, weights] = attend(unsqueeze(query, 1));
  return [squeeze(context, 1), squeeze(weights, 1)];
}

function expectKeys(op: string, name: string, value: unknown): Tensor {
  const tensor = expectTensor(op, value, name);
  if (tensor.rank === 3) return tensor;
  throw new RangeError(`${op}: ${name} must be [B,S,E], got ${describe(tensor)}`);
}

/**
 * Additive attention: weights softmax(vᵀ·tanh(W·query + U·key)) over the keys.
 * Source: Bahdanau, Cho, Bengio, 2015.
 */
export class AdditiveAttention extends Module {
  query: Linear;
  key: Linear;
  score: Linear;

  /** Widths of queries and keys, and of the layer between. */
  constructor(queryDim: number, keyDim: number, hiddenDim: number, options: LinearOptions = {}) {
    super();
    const { bias = true, ...place } = expectOptions('AdditiveAttention', options, [
      'bias',
      'dtype',
      'device',
    ]);
    this.query = new Linear(queryDim, hiddenDim, { bias, ...place });
    this.key = new Linear(keyDim, hiddenDim, { bias: false, ...place });
    this.score = new Linear(hiddenDim, 1, { bias: false, ...place });
  }

  /**
   * @param query [B, queryDim] or [B, T, queryDim]
   * @param keys [B, S, keyDim]
   * @param values [B, S, V]; the keys where left out
   * @returns the context [B, V] or [B, T, V], and the weights [B, S] or [B, T, S]
   */
  forward(
    query: Tensor,
    keys: Tensor,
    values: Tensor = keys,
    options: Pick<AttentionMasks, 'keyPaddingMask'> = {},
  ): [Tensor, Tensor] {
    const name = 'AdditiveAttention';
    expectKeys(name, 'keys', keys);
    expectKeys(name, 'values', values);
    const padding = expectPadding(
      name,
      expectOptions(name, options, ['keyPaddingMask']).keyPaddingMask,
    );
    return withPositions(name, query, (q) => {
      const mixed = unsqueeze(this.query.forward(q), 2).add(unsqueeze(this.key.forward(keys), 1));
      const weights = weightsOf(squeeze(this.score.forward(tanh(mixed)), 3), padding);
      return [matmul(weights, values), weights];
    });
  }
}

/** Dot-product attention: weights softmax(query·key / √E) over the keys. */
export class DotProductAttention extends Module {
  /** @param scale what scores are multiplied by; 1 / √E where left out */
  constructor(readonly scale?: number) {
    super();
    if (scale !== undefined) expectNumber('DotProductAttention', 'scale', scale);
  }

  /**
   * @param query [B, E] or [B, T, E]
   * @param keys [B, S, E]
   * @param values [B, S, V]; the keys where left out
   * @returns the context [B, V] or [B, T, V], and the weights [B, S] or [B, T, S]
   */
  forward(
    query: Tensor,
    keys: Tensor,
    values: Tensor = keys,
    options: Pick<AttentionMasks, 'keyPaddingMask'> = {},
  ): [Tensor, Tensor] {
    const name = 'DotProductAttention';
    expectKeys(name, 'keys', keys);
    expectKeys(name, 'values', values);
    const padding = expectPadding(
      name,
      expectOptions(name, options, ['keyPaddingMask']).keyPaddingMask,
    );
    return withPositions(name, query, (q) => {
      const scale = this.scale ?? 1 / Math.sqrt(q.shape[2] as number);
      const weights = weightsOf(matmul(q, transpose(keys)).mul(scale), padding);
      return [matmul(weights, values), weights];
    });
  }
}
