/** nodegrad: neural networks in Node.js at native GPU speed. */
export {
  type BackwardOptions,
  backward,
  type GradientHook,
  grad,
  type Rule,
} from './autograd.js';
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
  getDefaultDevice,
  getNumThreads,
  memory,
  setDefaultDevice,
  setNumThreads,
} from './device.js';
export { type DType, dtypes, type TypedArray } from './dtype.js';
export { type Gradients, type HasParameters, valueAndGrad } from './gradient.js';
export * from './io/index.js';
export * as models from './models/index.js';
export type { MemoryStats } from './native.js';
export * as nn from './nn/index.js';
export * from './ops/binary.js';
export * from './ops/blend.js';
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
export * from './ops/product.js';
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
export { cumprod, cumsum } from './ops/scan.js';
export {
  type CrossEntropyOptions,
  crossEntropy,
  logSoftmax,
  type Reduction,
  softmax,
} from './ops/softmax.js';
export { argsort, median, type SortOptions, sort, type TopkOptions, topk } from './ops/sort.js';
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
export { scope, steps } from './scope.js';
export { type NestedArray, type Shape, Tensor } from './tensor.js';
export * from './train/index.js';
