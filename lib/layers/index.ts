/** Layers for `sequential`: sizes are inferred, defaults and initial values are Keras's. */

export { type Conv2dOptions, type ConvolutionOptions, conv1d, conv2d } from './convolution.js';
export {
  activation,
  type BatchNormOptions,
  batchNorm,
  type DenseOptions,
  dense,
  dropout,
  flatten,
  lambda,
  layerNorm,
  rescaling,
  reshapeTo as reshape,
} from './core.js';
export {
  avgPool2d,
  globalAvgPool2d,
  globalMaxPool2d,
  type ImageOptions,
  maxPool2d,
  type PoolOptions,
} from './image.js';
export type {
  Activation,
  FreeShape,
  ImageLayout,
  Initializer,
  LayerOptions,
  LazyLayer,
  Requirement,
} from './layer.js';
export {
  type EmbeddingLayerOptions,
  embedding,
  globalAvgPool1d,
  globalMaxPool1d,
  gru,
  lstm,
  maxPool1d,
  type RecurrentOptions,
  simpleRnn,
} from './sequence.js';
