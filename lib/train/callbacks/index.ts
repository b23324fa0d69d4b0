/** Callbacks that come with `fit`. */
export { ModelCheckpoint, type ModelCheckpointOptions } from './checkpoints.js';
export { CSVLogger, LossCurves, TensorBoard } from './files.js';
export type { MonitorOptions } from './monitor.js';
export { LearningRateScheduler, type RateOfEpoch, ReduceOnPlateau } from './rates.js';
export { EarlyStopping, type EarlyStoppingOptions } from './stopping.js';
