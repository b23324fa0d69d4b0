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
export * as init from './init.js';
export { Linear, type LinearOptions } from './linear.js';
export { CrossEntropyLoss, MSELoss, mseLoss } from './loss.js';
export { buffer, Module, parameter, type StateDict } from './module.js';
export {
  LearnedPositions,
  type PositionOptions,
  RotaryPositions,
  SinusoidalPositions,
  sinusoidalPositions,
} from './position.js';
export { type Layer, Sequential } from './sequential.js';
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
export { LayerNorm, type LayerNormOptions } from './transformer-parts.js';
