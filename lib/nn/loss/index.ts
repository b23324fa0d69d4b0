/** Losses as functions and as modules. */
export * from './classification.js';
export * from './embedding.js';
export type { LossOptions } from './reduction.js';
export * from './regression.js';
