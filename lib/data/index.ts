/** Datasets, batches and files of data. */
export { type Dataset, TensorDataset } from './dataset.js';
export type { LabelledImages, TrainAndTest } from './datasets.js';
export * as datasets from './datasets.js';
export { readIdx } from './idx.js';
export { DataLoader, type DataLoaderOptions, type DataLoaderState } from './loader.js';
export { normalize, type PerChannel } from './transform.js';
