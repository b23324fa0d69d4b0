/** Metrics that are added up on the device: `update` with each batch, `compute`, `reset`. */
export {
  Accuracy,
  BinaryAccuracy,
  CategoricalAccuracy,
  SparseCategoricalAccuracy,
  TopKAccuracy,
} from './accuracy.js';
export {
  type AverageOptions,
  ConfusionMatrix,
  type ConfusionOptions,
  F1,
  Precision,
  Recall,
} from './classification.js';
export { FrechetDistance } from './frechet.js';
export { Metric } from './metric.js';
export {
  MeanAbsoluteError,
  MeanSquaredError,
  R2Score,
  RootMeanSquaredError,
} from './regression.js';
export { AUC, type RocCurve, rocAuc, rocCurve } from './roc.js';
