/** What a training run needs around its loop, and training in the manner of Keras. */
export type { Callback, Run } from './callback.js';
export * from './callbacks/index.js';
export {
  type CheckpointParts,
  loadCheckpoint,
  type Resumable,
  type Stateful,
  saveCheckpoint,
} from './checkpoint.js';
export { EventWriter, type PngImage } from './events.js';
export type { Batch, BatchSource, Inputs, Values } from './feed.js';
export { History, type Logs, type Stopped } from './history.js';
export type { LossFunction, LossLike, LossName, NamedLoss } from './losses.js';
export type { MetricLike, MetricName, OptimizerLike, OptimizerName } from './names.js';
export type { CompileOptions, EvaluateOptions, FitOptions, PredictOptions } from './options.js';
export {
  type LinePlotOptions,
  linePlot,
  type MatrixPlotOptions,
  matrixPlot,
  type Series,
} from './plot.js';
export type { Verbose } from './progress.js';
export { ProgressBar, type ProgressBarOptions } from './progressBar.js';
export { SequentialModel, sequential } from './sequential.js';
export type { Trainable } from './steps.js';
export type { EpochTiming } from './timing.js';
export { Trainer, trainer } from './trainer.js';
