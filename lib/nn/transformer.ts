/** The transformer's layers and their stacks. Source: Vaswani et al., 2017; pre-norm: Xiong et al., 2020. */
import {
  describe,
  expectBoolean,
  expectInteger,
  expectOneOf,
  expectOptions,
  expectRange,
  expectTensor,
} from '../check.js';
import { dropout } from '../ops/dropout.js';
import type { TensorOptions } from '../ops/fill.js';
import type { Tensor } from '../tensor.js';
import { type AttentionMasks, MultiheadAttention } from './attention.js';
import { copyOf } from './copy.js';
import { activated, Linear } from './linear.js';
import { Module } from './module.js';
import { LayerNorm } from './norm.js';

const activations = ['relu', 'gelu'] as const;

/** PyTorch's options with its defaults. */
export interface TransformerLayerOptions extends Pick<TensorOptions, 'dtype' | 'device'> {
  /** Width of the layer between; 2048 where left out. */
  dimFeedforward?: number;
  /** The chance of dropout in training, everywhere in the layer; 0.1 where left out. */
  dropout?: number;
  /** 'relu' where left out. */
  activation?: (typeof activations)[number];
  /** Added to variances; 1e-5 where left out. */
  layerNormEps?: number;
  /** Inputs are [B, T, E] rather than [T, B, E]; false where left out. */
  batchFirst?: boolean;
  /** Whether each part is normalised before, rather than after, its sum; false where left out. */
  normFirst?: boolean;
}

type Settings = Required<Omit<TransformerLayerOptions, 'dtype' | 'device'>> &
  Pick<TensorOptions, 'dtype' | 'device'>;

function settingsOf(op: string, options: TransformerLayerOptions): Settings {
  const {
    dimFeedforward = 2048,
    dropout = 0.1,
    activation = 'relu',
    layerNormEps = 1e-5,
    batchFirst = false,
    normFirst = false,
    ...place
  } = expectOptions(op, options, [
    'dimFeedforward',
    'dropout',
    'activation',
    'layerNormEps',
    'batchFirst',
    'normFirst',
    'dtype',
    'device',
  ]);
  return {
    dimFeedforward: expectInteger(op, 'dimFeedforward', dimFeedforward, 1),
    dropout: expectRange(op, 'dropout', dropout, 0, 1),
    activation: expectOneOf(op, 'activation', activation, activations),
    layerNormEps: expectRange(op, 'layerNormEps', layerNormEps, 0),
    batchFirst: expectBoolean(op, 'batchFirst', batchFirst),
    normFirst: expectBoolean(op, 'normFirst', normFirst),
    ...place,
  };
}

/** Masks of self-attention, as {@link AttentionMasks}. */
export interface EncoderMasks {
  /** [T, T] or [B·H, T, T]: bool (true leaves out) or added to the scores. */
  mask?: Tensor | null;
  /** bool [B, T]: true leaves a position out as a key. */
  keyPaddingMask?: Tensor | null;
  /** Positions see only those before them and themselves. */
  isCausal?: boolean;
}

function asCall({ mask = null, keyPaddingMask = null, isCausal = false }: EncoderMasks) {
  return { attnMask: mask, keyPaddingMask, isCausal } satisfies AttentionMasks;
}

/** What encoder and decoder layers share: x + part(x), normalised before or after, and the MLP. */
abstract class TransformerLayer extends Module {
  protected readonly settings: Settings;
  linear1: Linear;
  linear2: Linear;

  constructor(
    op: string,
    readonly embedDim: number,
    readonly numHeads: number,
    options: TransformerLayerOptions,
  ) {
    super();
    this.settings = settingsOf(op, options);
    const { dimFeedforward } = this.settings;
    this.linear1 = new Linear(embedDim, dimFeedforward, this.place());
    this.linear2 = new Linear(dimFeedforward, embedDim, this.place());
  }

  protected place(): Pick<TensorOptions, 'dtype' | 'device'> {
    const { dtype, device } = this.settings;
    return { ...(dtype && { dtype }), ...(device && { device }) };
  }

  protected attention(): MultiheadAttention {
    const { dropout, batchFirst } = this.settings;
    return new MultiheadAttention(this.embedDim, this.numHeads, {
      dropout,
      batchFirst,
      ...this.place(),
    });
  }

  protected norm(): LayerNorm {
    return new LayerNorm(this.embedDim, { eps: this.settings.layerNormEps, ...this.place() });
  }

  protected residual(x: Tensor, norm: LayerNorm, part: (x: Tensor) => Tensor): Tensor {
    const { normFirst } = this.settings;
    const y = part(normFirst ? norm.forward(x) : x);
    const sum = x.add(dropout(y, this.settings.dropout, this.training));
    return normFirst ? sum : norm.forward(sum);
  }

  protected feedForward(x: Tensor): Tensor {
    const hidden = activated(this.linear1, this.settings.activation, x);
    return this.linear2.forward(dropout(hidden, this.settings.dropout, this.training));
  }

  protected override describe(): string {
    const { dimFeedforward, activation, normFirst } = this.settings;
    const order = normFirst ? ', norm first' : '';
    return `${this.embedDim}, ${this.numHeads} heads, ${dimFeedforward} between, ${activation}${order}`;
  }
}

/**
 * Self-attention and a two-layer MLP, each added to its input. Parameters are named as PyTorch's.
 * @example new nn.TransformerEncoderLayer(128, 4, { batchFirst: true, normFirst: true })
 */
export class TransformerEncoderLayer extends TransformerLayer {
  self_attn: MultiheadAttention;
  norm1: LayerNorm;
  norm2: LayerNorm;

  constructor(embedDim: number, numHeads: number, options: TransformerLayerOptions = {}) {
    super('TransformerEncoderLayer', embedDim, numHeads, options);
    this.self_attn = this.attention();
    this.norm1 = this.norm();
    this.norm2 = this.norm();
  }

  /** @param x [T, B, E], or [B, T, E] with batchFirst */
  forward(x: Tensor, masks: EncoderMasks = {}): Tensor {
    expectTensor('TransformerEncoderLayer', x, 'x');
    const call = asCall(
      expectOptions('TransformerEncoderLayer', masks, ['mask', 'keyPaddingMask', 'isCausal']),
    );
    const attended = this.residual(x, this.norm1, (y) => this.self_attn.forward(y, y, y, call)[0]);
    return this.residual(attended, this.norm2, (y) => this.feedForward(y));
  }
}

/** Masks of a decoder: of its own positions, and of the memory's. */
export interface DecoderMasks extends EncoderMasks {
  /** [T, S] or [B·H, T, S]: bool (true leaves out) or added to the scores. */
  memoryMask?: Tensor | null;
  /** bool [B, S]: true leaves a position of the memory out. */
  memoryKeyPaddingMask?: Tensor | null;
}

/** Self-attention, attention to a memory and an MLP, each added to its input; names as PyTorch's. */
export class TransformerDecoderLayer extends TransformerLayer {
  self_attn: MultiheadAttention;
  multihead_attn: MultiheadAttention;
  norm1: LayerNorm;
  norm2: LayerNorm;
  norm3: LayerNorm;

  constructor(embedDim: number, numHeads: number, options: TransformerLayerOptions = {}) {
    super('TransformerDecoderLayer', embedDim, numHeads, options);
    this.self_attn = this.attention();
    this.multihead_attn = this.attention();
    this.norm1 = this.norm();
    this.norm2 = this.norm();
    this.norm3 = this.norm();
  }

  /**
   * @param x [T, B, E], or [B, T, E] with batchFirst
   * @param memory [S, B, E] likewise: what an encoder returned
   */
  forward(x: Tensor, memory: Tensor, masks: DecoderMasks = {}): Tensor {
    expectTensor('TransformerDecoderLayer', x, 'x');
    expectTensor('TransformerDecoderLayer', memory, 'memory');
    const call = asCall(
      expectOptions('TransformerDecoderLayer', masks, [
        'memoryMask',
        'memoryKeyPaddingMask',
        'mask',
        'keyPaddingMask',
        'isCausal',
      ]),
    );
    const toMemory: AttentionMasks = {
      attnMask: masks.memoryMask ?? null,
      keyPaddingMask: masks.memoryKeyPaddingMask ?? null,
    };
    const own = this.residual(x, this.norm1, (y) => this.self_attn.forward(y, y, y, call)[0]);
    const read = this.residual(
      own,
      this.norm2,
      (y) => this.multihead_attn.forward(y, memory, memory, toMemory)[0],
    );
    return this.residual(read, this.norm3, (y) => this.feedForward(y));
  }
}

/** Layers made by a function, or one layer and copies of it, as PyTorch has it. */
function stack<L extends Module>(
  op: string,
  kind: new (...args: never[]) => L,
  layer: L | ((i: number) => L),
  numLayers: number,
): L[] {
  expectInteger(op, 'numLayers', numLayers, 1);
  const layers: L[] = [];
  for (let i = 0; i < numLayers; ++i) {
    const made = typeof layer === 'function' ? layer(i) : i === 0 ? layer : copyOf(layer);
    if (!(made instanceof kind)) {
      throw new TypeError(`${op}: a layer must be a ${kind.name}, got ${describe(made)}`);
    }
    layers.push(made);
  }
  return layers;
}

function expectNorm(op: string, options: StackOptions): LayerNorm | null {
  const { norm = null } = expectOptions(op, options, ['norm']);
  if (norm === null || norm instanceof LayerNorm) return norm;
  throw new TypeError(`${op}: norm must be a LayerNorm, got ${describe(norm)}`);
}

export interface StackOptions {
  /** Applied to the last layer's output, as pre-norm layers need; none where left out. */
  norm?: LayerNorm | null;
}

/**
 * Encoder layers one after another.
 * @example
 * const layer = new nn.TransformerEncoderLayer(128, 4, { batchFirst: true });
 * const encoder = new nn.TransformerEncoder(layer, 6); // the layer and five copies
 */
export class TransformerEncoder extends Module {
  readonly layers: TransformerEncoderLayer[];
  norm: LayerNorm | null;

  /** @param layer the first layer (the others start as copies of it), or a function that makes each */
  constructor(
    layer: TransformerEncoderLayer | ((i: number) => TransformerEncoderLayer),
    numLayers: number,
    options: StackOptions = {},
  ) {
    super();
    this.layers = stack('TransformerEncoder', TransformerEncoderLayer, layer, numLayers);
    this.norm = expectNorm('TransformerEncoder', options);
  }

  /** @param x as the layers take it; every layer gets the same masks */
  forward(x: Tensor, masks: EncoderMasks = {}): Tensor {
    let y = x;
    for (const layer of this.layers) y = layer.forward(y, masks);
    return this.norm ? this.norm.forward(y) : y;
  }
}

/** Decoder layers one after another, all reading the same memory. */
export class TransformerDecoder extends Module {
  readonly layers: TransformerDecoderLayer[];
  norm: LayerNorm | null;

  /** @param layer the first layer (the others start as copies of it), or a function that makes each */
  constructor(
    layer: TransformerDecoderLayer | ((i: number) => TransformerDecoderLayer),
    numLayers: number,
    options: StackOptions = {},
  ) {
    super();
    this.layers = stack('TransformerDecoder', TransformerDecoderLayer, layer, numLayers);
    this.norm = expectNorm('TransformerDecoder', options);
  }

  /** @param x and memory as the layers take them; every layer gets the same masks */
  forward(x: Tensor, memory: Tensor, masks: DecoderMasks = {}): Tensor {
    let y = x;
    for (const layer of this.layers) y = layer.forward(y, memory, masks);
    return this.norm ? this.norm.forward(y) : y;
  }
}
