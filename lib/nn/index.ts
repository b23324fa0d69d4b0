/** Layers, losses and initialisers. */
export * from './activation.js';
export {
  AdditiveAttention,
  type AttentionMasks,
  DotProductAttention,
  MultiheadAttention,
  type MultiheadAttentionCall,
  type MultiheadAttentionOptions,
} from './attention.js';
export {
  Conv1d,
  type Conv1dLayerOptions,
  Conv2d,
  type Conv2dLayerOptions,
  ConvTranspose1d,
  type ConvTranspose1dLayerOptions,
  ConvTranspose2d,
  type ConvTranspose2dLayerOptions,
} from './conv.js';
export { AlphaDropout, Dropout, Dropout1d, Dropout2d } from './dropout.js';
export {
  Embedding,
  EmbeddingBag,
  type EmbeddingBagCall,
  type EmbeddingBagOptions,
  type EmbeddingOptions,
} from './embedding.js';
export type { BackwardHook, ForwardHook, ForwardPreHook } from './hooks.js';
export * as init from './init.js';
export { Linear, type LinearOptions } from './linear.js';
export * from './loss/index.js';
export { buffer, Module, parameter, type StateDict } from './module.js';
export {
  BatchNorm1d,
  BatchNorm2d,
  type BatchNormLayerOptions,
  GroupNorm,
  InstanceNorm2d,
  LayerNorm,
  type NormOptions,
  RMSNorm,
} from './norm.js';
export {
  AdaptiveAvgPool1d,
  AdaptiveAvgPool2d,
  AdaptiveMaxPool1d,
  AdaptiveMaxPool2d,
  AvgPool1d,
  AvgPool2d,
  MaxPool1d,
  MaxPool2d,
} from './pool.js';
export {
  LearnedPositions,
  type PositionOptions,
  RotaryPositions,
  SinusoidalPositions,
  sinusoidalPositions,
} from './position.js';
export {
  GRU,
  GRUCell,
  LSTM,
  LSTMCell,
  type LSTMState,
  type RecurrentCellOptions,
  type RecurrentLayerOptions,
  RNN,
  RNNCell,
  type RNNCellOptions,
  type RNNOptions,
} from './rnn.js';
export {
  PackedSequence,
  type PadOptions,
  type PadPackedOptions,
  packPaddedSequence,
  padPackedSequence,
  padSequence,
  type SequenceOptions,
} from './sequence.js';
export { type Layer, Sequential } from './sequential.js';
export { Unflatten, Upsample } from './shape.js';
export {
  type DecoderMasks,
  type EncoderMasks,
  type StackOptions,
  TransformerDecoder,
  TransformerDecoderLayer,
  TransformerEncoder,
  TransformerEncoderLayer,
  type TransformerLayerOptions,
} from './transformer.js';
