/** nodegrad: neural networks in Node.js at native GPU speed. */
export { type AnomalyOptions, detectAnomaly, setAnomalyDetection } from './anomaly.js';
export { type AutocastOptions, autocast, autocastDType } from './autocast.js';
export type { GradientHook, Rule } from './autograd.js';
export { type BackwardOptions, backward, type GradOptions, grad } from './backward.js';
export { type CapturedStep, capture } from './capture.js';
export { enableGrad, noGrad } from './context.js';
export * from './data/index.js';
export {
  type Device,
  type DeviceLike,
  type DeviceType,
  device,
  deviceAvailable,
  deviceCount,
  devices,
  getDefaultDevice,
  getNumThreads,
  memory,
  setDefaultDevice,
  setNumThreads,
} from './device.js';
export { type DType, dtypes, type TypedArray } from './dtype.js';
export { type Gradients, type HasParameters, type HookHandle, valueAndGrad } from './gradient.js';
export { checkpoint } from './gradients/checkpoint.js';
export {
  customFunction,
  type FunctionContext,
  type FunctionDefinition,
} from './gradients/function.js';
export {
  type FunctionalOptions,
  hessian,
  jacobian,
  jvp,
  type TensorFunction,
  vjp,
} from './gradients/functional.js';
export * from './io/index.js';
export * as layers from './layers/index.js';
export type { SequentialOptions } from './layers/model.js';
export * as metrics from './metrics/index.js';
export * as models from './models/index.js';
export type { MemoryStats } from './native.js';
export * as nn from './nn/index.js';
export { type AttentionOptions, scaledDotProductAttention } from './ops/attention.js';
export * from './ops/binary.js';
export * from './ops/blend.js';
export { type Conv1dOptions, type Conv2dOptions, conv1d, conv2d } from './ops/conv.js';
export {
  type ConvTranspose1dOptions,
  type ConvTranspose2dOptions,
  convTranspose1d,
  convTranspose2d,
} from './ops/convTranspose.js';
export { cast, clone, contiguous, copyInto, to } from './ops/copy.js';
export { dropout } from './ops/dropout.js';
export { embedding } from './ops/embedding.js';
export {
  arange,
  eye,
  full,
  fullLike,
  linspace,
  logspace,
  ones,
  onesLike,
  type TensorOptions,
  tensor,
  zeros,
  zerosLike,
} from './ops/fill.js';
export {
  gather,
  maskedFill,
  maskedSelect,
  nonzero,
  oneHot,
  scatter,
  scatterAdd,
  takeAlongDim,
} from './ops/gather.js';
export {
  getMatmulBackend,
  getMatmulPrecision,
  type LinearActivation,
  type LinearCall,
  linear,
  type MatmulBackend,
  type MatmulPrecision,
  matmul,
  setMatmulBackend,
  setMatmulPrecision,
} from './ops/gemm.js';
export { indexAdd, indexSelect } from './ops/index.js';
export {
  cat,
  flip,
  type PadMode,
  pad,
  repeat,
  repeatInterleave,
  roll,
  stack,
  tile,
  tril,
  triu,
} from './ops/movement.js';
export {
  type AffineOptions,
  type BatchNormOptions,
  batchNorm,
  groupNorm,
  instanceNorm,
  layerNorm,
  rmsNorm,
} from './ops/norm.js';
export {
  broadcastTo,
  chunk,
  diag,
  expandAs,
  meshgrid,
  movedim,
  split,
  swapaxes,
  unbind,
} from './ops/parts.js';
export {
  type AdaptivePoolOptions,
  type AvgPool1dOptions,
  type AvgPool2dOptions,
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  avgPool1d,
  avgPool2d,
  type MaxPool1dOptions,
  type MaxPool2dOptions,
  maxPool1d,
  maxPool2d,
  type OutputSize,
} from './ops/pool.js';
export * from './ops/product.js';
export {
  bernoulli,
  defaultGenerator,
  Generator,
  manualSeed,
  normal,
  type RandomOptions,
  rand,
  randint,
  randLike,
  randn,
  randnLike,
  uniform,
} from './ops/random.js';
export { type Axes, argmax, argmin, max, mean, min, prod, sum } from './ops/reduce.js';
export {
  type RecurrentMode,
  type RecurrentOptions,
  type RecurrentResult,
  recurrent,
} from './ops/rnn.js';
export { multinomial, randperm, truncatedNormal } from './ops/sample.js';
export { cummax, cummin, cumprod, cumsum } from './ops/scan.js';
export {
  type CrossEntropyOptions,
  crossEntropy,
  logSoftmax,
  type Reduction,
  softmax,
} from './ops/softmax.js';
export { argsort, median, type SortOptions, sort, type TopkOptions, topk } from './ops/sort.js';
export type { Layout1d, Layout2d, Pair } from './ops/spatial.js';
export {
  all,
  any,
  countNonzero,
  logsumexp,
  norm,
  std,
  type VarianceOptions,
  variance,
  varMean,
} from './ops/statistics.js';
export { opTable } from './ops/table.js';
export * from './ops/unary.js';
export { type UpsampleMode, type UpsampleOptions, upsample } from './ops/upsample.js';
export {
  alias,
  at,
  detach,
  diagEmbed,
  diagonal,
  expand,
  flatten,
  type IndexEntry,
  permute,
  reshape,
  select,
  slice,
  squeeze,
  transpose,
  unsqueeze,
} from './ops/view.js';
export * as optim from './optim/index.js';
export { annotate, type OpSummary, Profile, type ProfileOptions, profile } from './profile.js';
export { scope, steps } from './scope.js';
export { receiveTensor, type SharedTensor, shareTensor } from './share.js';
export { type NestedArray, type Shape, Tensor } from './tensor.js';
export * from './train/index.js';
