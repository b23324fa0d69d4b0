/**
 * BERT: an encoder of tokens that sees both directions. Source: Devlin, Chang, Lee and Toutanova,
 * "BERT: pre-training of deep bidirectional transformers for language understanding", 2019. Options
 * have the names and defaults of Hugging Face's configuration (bert-base-uncased).
 */
import { describe, expectInteger, expectOptions, expectTensor } from '../check.js';
import { noGrad } from '../context.js';
import { Dropout } from '../nn/dropout.js';
import { Embedding } from '../nn/embedding.js';
import { constant, normal } from '../nn/init.js';
import { Linear, type LinearOptions } from '../nn/linear.js';
import { Module } from '../nn/module.js';
import { LayerNorm } from '../nn/norm.js';
import {
  type EncoderMasks,
  TransformerEncoder,
  TransformerEncoderLayer,
  type TransformerLayerOptions,
} from '../nn/transformer.js';
import { copyInto } from '../ops/copy.js';
import { zeros } from '../ops/fill.js';
import { tanh } from '../ops/unary.js';
import { select, slice } from '../ops/view.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

export interface BertOptions extends Pick<LinearOptions, 'dtype' | 'device'> {
  /** Tokens; 30522 where left out. */
  vocabSize?: number;
  /** Width of the vectors, E; 768 where left out. */
  hiddenSize?: number;
  /** 12 where left out. */
  numHiddenLayers?: number;
  /** 12 where left out. */
  numAttentionHeads?: number;
  /** Width between the two linear layers of a block; 3072 where left out. */
  intermediateSize?: number;
  /** 'gelu' where left out. */
  hiddenAct?: NonNullable<TransformerLayerOptions['activation']>;
  /** The chance of dropout in training, everywhere; 0.1 where left out. */
  dropout?: number;
  /** The longest sequence; 512 where left out. */
  maxPositionEmbeddings?: number;
  /** Kinds of segments; 2 where left out. */
  typeVocabSize?: number;
  /** Added to variances; 1e-12 where left out. */
  layerNormEps?: number;
  /** The token whose vector is not trained; 0 where left out, null for none. */
  padTokenId?: number | null;
  /** Standard deviation of weights at first; 0.02 where left out. */
  initializerRange?: number;
}

/** What a call may leave out. */
export interface BertInputs extends Pick<EncoderMasks, 'keyPaddingMask'> {
  /** int64 [B, T], the segment of each token; 0 where left out. */
  tokenTypes?: Tensor | null;
}

const bertNames = [
  'vocabSize',
  'hiddenSize',
  'numHiddenLayers',
  'numAttentionHeads',
  'intermediateSize',
  'hiddenAct',
  'dropout',
  'maxPositionEmbeddings',
  'typeVocabSize',
  'layerNormEps',
  'padTokenId',
  'initializerRange',
  'dtype',
  'device',
] as const;

function settingsOf(options: BertOptions) {
  const {
    vocabSize = 30522,
    hiddenSize = 768,
    numHiddenLayers = 12,
    numAttentionHeads = 12,
    intermediateSize = 3072,
    hiddenAct = 'gelu',
    dropout = 0.1,
    maxPositionEmbeddings = 512,
    typeVocabSize = 2,
    layerNormEps = 1e-12,
    padTokenId = 0,
    initializerRange = 0.02,
    ...place
  } = expectOptions('Bert', options, bertNames);
  return {
    vocabSize: expectInteger('Bert', 'vocabSize', vocabSize, 1),
    hiddenSize: expectInteger('Bert', 'hiddenSize', hiddenSize, 1),
    numHiddenLayers,
    numAttentionHeads,
    maxPositionEmbeddings,
    typeVocabSize,
    padTokenId,
    initializerRange,
    layer: { dimFeedforward: intermediateSize, dropout, activation: hiddenAct, layerNormEps },
    place,
  };
}

type Settings = ReturnType<typeof settingsOf>;

/** Vectors of tokens, positions and segments, added, normalised, dropped out. */
class BertEmbeddings extends Module {
  /** [vocabSize, E] */
  words: Embedding;
  /** [maxPositionEmbeddings, E] */
  positions: Embedding;
  /** [typeVocabSize, E] */
  types: Embedding;
  norm: LayerNorm;
  dropout: Dropout;

  constructor({ hiddenSize, padTokenId, layer, place, ...settings }: Settings) {
    super();
    this.words = new Embedding(settings.vocabSize, hiddenSize, {
      paddingIdx: padTokenId,
      ...place,
    });
    this.positions = new Embedding(settings.maxPositionEmbeddings, hiddenSize, place);
    this.types = new Embedding(settings.typeVocabSize, hiddenSize, place);
    this.norm = new LayerNorm(hiddenSize, { eps: layer.layerNormEps, ...place });
    this.dropout = new Dropout(layer.dropout);
  }

  forward(tokens: Tensor, tokenTypes: Tensor | null): Tensor {
    const [, length] = tokens.shape as [number, number];
    const positions = slice(this.positions.weight, 0, 0, length);
    const types = tokenTypes ? this.types.forward(tokenTypes) : select(this.types.weight, 0, 0);
    return this.dropout.forward(
      this.norm.forward(this.words.forward(tokens).add(positions.add(types))),
    );
  }
}

/**
 * Tokens to a vector each and one for the whole sequence. Weights start normal with a standard
 * deviation of initializerRange, biases 0. Unlike Hugging Face's, the encoder is nn.TransformerEncoder,
 * which also drops out between the two linear layers of a block.
 * @example const [hidden, pooled] = new models.Bert({ numHiddenLayers: 4 }).forward(tokens);
 */
export class Bert extends Module {
  embeddings: BertEmbeddings;
  encoder: TransformerEncoder;
  /** Applied to the first token's vector, before tanh. */
  pooler: Linear;
  readonly maxLength: number;

  constructor(options: BertOptions = {}) {
    super();
    const settings = settingsOf(options);
    const { hiddenSize, numAttentionHeads, layer, place } = settings;
    this.embeddings = new BertEmbeddings(settings);
    this.encoder = new TransformerEncoder(
      () =>
        new TransformerEncoderLayer(hiddenSize, numAttentionHeads, {
          ...layer,
          batchFirst: true,
          ...place,
        }),
      settings.numHiddenLayers,
    );
    this.pooler = new Linear(hiddenSize, hiddenSize, place);
    this.maxLength = settings.maxPositionEmbeddings;
    initialise(this, settings);
  }

  /**
   * @param tokens int64 [B, T], T up to maxPositionEmbeddings
   * @returns the vectors [B, T, E], and tanh of the pooler's output for the first one, [B, E]
   */
  forward(tokens: Tensor, inputs: BertInputs = {}): [Tensor, Tensor] {
    const { tokenTypes = null, keyPaddingMask = null } = expectOptions('Bert', inputs, [
      'tokenTypes',
      'keyPaddingMask',
    ]);
    const [, length = 0] = expectTensor('Bert', tokens, 'tokens').shape;
    if (tokens.rank !== 2 || length < 1 || length > this.maxLength) {
      throw new RangeError(
        `Bert: tokens must be [B,T] with T from 1 to ${this.maxLength}, got ${describe(tokens)}`,
      );
    }
    if (tokenTypes !== null) expectTensor('Bert', tokenTypes, 'tokenTypes');
    const hidden = this.encoder.forward(this.embeddings.forward(tokens, tokenTypes), {
      keyPaddingMask,
    });
    return [hidden, tanh(this.pooler.forward(select(hidden, 1, 0)))];
  }
}

/** Weights normal and biases 0, but for norms, which keep 1 and 0, and the row of padding. */
function initialise(
  bert: Bert,
  { initializerRange: deviation, padTokenId, place }: Settings,
): void {
  for (const [name, value] of bert.namedParameters()) {
    if (name.includes('norm')) continue;
    if (value.rank === 1) constant(value, 0);
    else normal(value, 0, deviation);
  }
  if (padTokenId === null) return;
  const { weight } = bert.embeddings.words;
  noGrad(() =>
    scope(
      () =>
        void copyInto(
          slice(weight, 0, padTokenId, padTokenId + 1),
          zeros([1, weight.shape[1] as number], place),
        ),
    ),
  );
}

export interface BertClassifierOptions extends BertOptions {
  /** Classes; 2 where left out. */
  numLabels?: number;
}

/**
 * {@link Bert} with dropout and a linear layer on the pooled output: logits [B, numLabels].
 * @example const model = new models.BertClassifier({ numLabels: 3 });
 */
export class BertClassifier extends Module {
  bert: Bert;
  dropout: Dropout;
  classifier: Linear;

  constructor(options: BertClassifierOptions = {}) {
    super();
    const { numLabels = 2, ...rest } = expectOptions('BertClassifier', options, [
      'numLabels',
      ...bertNames,
    ]);
    expectInteger('BertClassifier', 'numLabels', numLabels, 1);
    const settings = settingsOf(rest);
    this.bert = new Bert(rest);
    this.dropout = new Dropout(settings.layer.dropout);
    this.classifier = new Linear(settings.hiddenSize, numLabels, settings.place);
    normal(this.classifier.weight, 0, settings.initializerRange);
    constant(this.classifier.bias as Tensor, 0);
  }

  /** @param tokens and inputs as {@link Bert} takes them */
  forward(tokens: Tensor, inputs: BertInputs = {}): Tensor {
    const [, pooled] = this.bert.forward(tokens, inputs);
    return this.classifier.forward(this.dropout.forward(pooled));
  }
}
