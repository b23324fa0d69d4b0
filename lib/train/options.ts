/** What compile, fit, evaluate and predict are told, and the checks of it. */
import type { Writable } from 'node:stream';
import { describe, expectInteger, expectObject, expectRange } from '../check.js';
import type { Callback } from './callback.js';
import { type BatchSource, type Inputs, isDataset, type Values } from './feed.js';
import type { LossLike } from './losses.js';
import type { MetricLike, OptimizerLike } from './names.js';
import { Progress, type Verbose } from './progress.js';

export interface CompileOptions {
  /** By Keras's name and defaults, an optimizer, or a function of the parameters that makes one. */
  optimizer: OptimizerLike;
  loss: LossLike;
  /** Names or objects; none where left out. */
  metrics?: readonly MetricLike[];
  /** The rate of an optimizer given by name; Keras's default where left out. */
  learningRate?: number;
  /** Largest norm of all gradients together; not limited where left out. */
  clipNorm?: number;
  /** The dtype that products of the forward pass are computed in; the model's where left out. */
  autocast?: 'bfloat16';
  /** Whether steps are recorded and replayed; true where left out. */
  capture?: boolean;
}

export interface PredictOptions {
  /** Samples per batch, for what is in memory and for datasets; 32 where left out. */
  batchSize?: number;
  /** Batches after which to end; all of them where left out. */
  steps?: number;
  /** Once aborted, the call ends after the step in progress and throws the signal's reason. */
  signal?: AbortSignal;
}

export interface EvaluateOptions extends PredictOptions {
  /** 0: prints nothing; 1: a bar on a terminal, else a line per epoch; 2: a line per epoch. */
  verbose?: Verbose;
  /** Where that goes; the standard output where left out. */
  output?: Writable & { isTTY?: boolean };
  /** How much each sample counts in the loss, [N]; for x and y in memory. */
  sampleWeight?: Values;
}

export interface FitOptions extends EvaluateOptions {
  /** Times through the data; 1 where left out. */
  epochs?: number;
  /** The last share of x and y, taken before shuffling, to validate with; none where left out. */
  validationSplit?: number;
  /** What to validate with after each epoch: [x, y], [x, y, weight] or a source of batches. */
  validationData?: readonly [x: Inputs, y: Values, weight?: Values] | BatchSource;
  /** Batches after which a validation ends; all of them where left out. */
  validationSteps?: number;
  /** Whether each epoch has an order of its own, for what is in memory and for datasets; true. */
  shuffle?: boolean;
  /** Seed of the order; follows from `manualSeed` where left out. */
  seed?: number | bigint;
  /** How much samples of each class count in the loss; 1 for those left out. */
  classWeight?: Readonly<Record<number, number>>;
  callbacks?: readonly Callback[];
  /**
   * Once aborted, the run ends after the step in progress, and says so in its history. An epoch whose
   * validation was cut short counts as not ended.
   */
  signal?: AbortSignal;
  /** A checkpoint that a run with the same data and options wrote, to go on from. */
  resume?: string;
  /** Whether to go on where the loss is no finite number; false: that is an error. */
  allowNaN?: boolean;
}

export function stepsOf(op: string, steps: unknown, name = 'steps'): number | null {
  return steps === undefined ? null : expectInteger(op, name, steps, 1);
}

export const validationPart = ' of the validation data';

export function expectOwnBatches(op: string, source: unknown, options: EvaluateOptions): void {
  if (options.batchSize !== undefined && !isDataset(source)) {
    throw new TypeError(
      `${op}: batchSize goes with numbers and datasets, got it beside batches that are already made`,
    );
  }
  if (options.sampleWeight !== undefined) {
    throw new TypeError(
      `${op}: sampleWeight goes with x and y in memory; let other sources give [x, y, weight]`,
    );
  }
}

export function progressOf(
  op: string,
  { verbose = 1, output = process.stdout }: EvaluateOptions,
): Progress {
  return new Progress(expectInteger(op, 'verbose', verbose, 0, 2) as Verbose, output);
}

export function expectCallbacks(callbacks: unknown): readonly Callback[] {
  if (Array.isArray(callbacks) && callbacks.every((item) => typeof item === 'object' && item)) {
    return callbacks;
  }
  throw new TypeError(`fit: callbacks must be an array of objects, got ${describe(callbacks)}`);
}

export function expectClassWeight(given: FitOptions['classWeight']): typeof given | null {
  if (given === undefined) return null;
  for (const [name, weight] of Object.entries(expectObject('fit', given))) {
    expectInteger('fit', 'each class of classWeight', Number(name), 0);
    expectRange('fit', 'each classWeight', weight, 0);
  }
  return given;
}
