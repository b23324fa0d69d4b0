/** Optimizers. */
export { Adam, type AdamOptions, AdamW } from './adam.js';
export {
  Optimizer,
  type OptimizerState,
  type ParameterGroup,
  type Parameters,
} from './optimizer.js';
export { GradScaler, type GradScalerOptions } from './scaler.js';
export { SGD, type SGDOptions } from './sgd.js';
