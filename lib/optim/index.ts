/** Optimizers, schedules of their learning rates, clipping of gradients, averages of weights. */
export { Adadelta, type AdadeltaOptions, Adagrad, type AdagradOptions } from './adagrad.js';
export { Adam, type AdamOptions, AdamW } from './adam.js';
export { EMA, type EMAOptions, type HasWeights, SWA } from './average.js';
export { clipGradNorm, clipGradValue, getTotalNorm } from './clip.js';
export type { ParameterGroup, Parameters } from './groups.js';
export { Lion, type LionOptions } from './lion.js';
export { Optimizer, type OptimizerState } from './optimizer.js';
export { type PlateauOptions, ReduceLROnPlateau } from './plateau.js';
export { RMSprop, type RMSpropOptions } from './rmsprop.js';
export { GradScaler, type GradScalerOptions } from './scaler.js';
export {
  type AnyOptimizer,
  CosineAnnealingLR,
  CosineAnnealingWarmRestarts,
  ExponentialLR,
  LambdaLR,
  LinearLR,
  MultiStepLR,
  OneCycleLR,
  type OneCycleOptions,
  Schedule,
  type ScheduleState,
  SequentialLR,
  StepLR,
} from './schedule.js';
export { SGD, type SGDOptions } from './sgd.js';
