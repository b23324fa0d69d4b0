/** Datasets, batches and files of data. */
export { type Collated, collate, type PartTypes } from './collate.js';
export {
  type ColumnOptions,
  type Columns,
  type ColumnType,
  CsvDataset,
  type CsvOptions,
  type CsvRow,
  CsvTable,
  readCsv,
} from './csv.js';
export { type BatchPlace, type Dataset, TensorDataset } from './dataset.js';
export type { DatasetOptions, GloveOptions, LabelledImages, TrainAndTest } from './datasets.js';
export * as datasets from './datasets.js';
export type { DownloadOptions, DownloadProgress } from './download.js';
export {
  type Category,
  type EncoderState,
  LabelEncoder,
  type MinMaxOptions,
  MinMaxScaler,
  OneHotEncoder,
  type OneHotOptions,
  StandardScaler,
} from './encode.js';
export { ImageFolder, type ImageFolderOptions } from './folder.js';
export { readIdx } from './idx.js';
export type { AugmentOptions } from './image.js';
export { IterableDataset, type SampleSource } from './iterable.js';
export {
  type BatchStream,
  DataLoader,
  type DataLoaderOptions,
  type DataLoaderState,
} from './loader.js';
export { type SaveImagesOptions, saveImages } from './picture.js';
export {
  type BatchSampler,
  BucketSampler,
  type BucketSamplerOptions,
  RandomSampler,
  type RandomSamplerOptions,
  type Sampler,
  type SamplerState,
  type SeedOption,
  SequentialSampler,
  SubsetRandomSampler,
  WeightedRandomSampler,
  type WeightedSamplerOptions,
} from './sampler.js';
export {
  type CollateOptions,
  ConcatDataset,
  ListDataset,
  MapDataset,
  SampleDataset,
  Subset,
  sliceDataset,
} from './samples.js';
export {
  type PadSequencesOptions,
  padSequences,
  SequenceDataset,
  type SequenceDatasetOptions,
} from './sequence.js';
export { randomSplit, stratifiedSplit } from './split.js';
export {
  type CleanOptions,
  cleanText,
  tokenize,
  Vocabulary,
  type VocabularyOptions,
} from './text.js';
export { type LabelledText, TextFolder, type TextFolderOptions } from './text-folder.js';
export { normalize, type PerChannel } from './transform.js';
export * as transforms from './transforms.js';
export { loadVectors, type VectorsOptions, type WordVectors } from './vectors.js';
export { serveDataset, WorkerDataset, type WorkerDatasetOptions } from './workers.js';
