/** Layers, losses and initialisers. */
export * from './activation.js';
export { Dropout, Dropout1d, Dropout2d } from './dropout.js';
export {
  Embedding,
  EmbeddingBag,
  type EmbeddingBagOptions,
  type EmbeddingOptions,
} from './embedding.js';
export * as init from './init.js';
export { Linear, type LinearOptions } from './linear.js';
export { CrossEntropyLoss, MSELoss, mseLoss } from './loss.js';
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
export { type Layer, Sequential } from './sequential.js';
