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
export * from './io/index.js';
export * as models from './models/index.js';
export type { MemoryStats } from './native.js';
export * as nn from './nn/index.js';
export * from './ops/binary.js';
export { cast, clone, contiguous, copyInto, to } from './ops/copy.js';
export {
  arange,
  full,
  ones,
  onesLike,
  type TensorOptions,
  tensor,
  zeros,
  zerosLike,
} from './ops/fill.js';
export {
  getMatmulBackend,
  getMatmulPrecision,
  linear,
  type MatmulBackend,
  type MatmulPrecision,
  matmul,
  setMatmulBackend,
  setMatmulPrecision,
} from './ops/gemm.js';
export { indexAdd, indexSelect } from './ops/index.js';
export {
  bernoulli,
  defaultGenerator,
  Generator,
  manualSeed,
  normal,
  type RandomOptions,
  rand,
  randn,
  uniform,
} from './ops/random.js';
export { type Axes, argmax, argmin, max, mean, min, prod, sum } from './ops/reduce.js';
export {
  type CrossEntropyOptions,
  crossEntropy,
  logSoftmax,
  type Reduction,
  softmax,
} from './ops/softmax.js';
export { opTable } from './ops/table.js';
export * from './ops/unary.js';
export {
  alias,
  at,
  detach,
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
