/**
 * Training in the manner of Keras: compile, fit, evaluate, predict, for any module from tensors to one
 * tensor. Steps are captured; losses and metrics stay on the device and are read behind the steps.
 */
import type { Writable } from 'node:stream';
import {
  describe,
  expectBoolean,
  expectInteger,
  expectObject,
  expectOneOf,
  expectOptions,
  expectRange,
} from '../check.js';
import { type Device, getDefaultDevice } from '../device.js';
import { SequentialLayers } from '../layers/model.js';
import { Module } from '../nn/module.js';
import { cat } from '../ops/movement.js';
import { defaultGenerator } from '../ops/random.js';
import type { AnyOptimizer } from '../optim/schedule.js';
import type { Tensor } from '../tensor.js';
import type { Callback } from './callback.js';
import {
  type BatchSource,
  expectBatching,
  type Feed,
  type FeedOptions,
  type Inputs,
  inMemory,
  isDataset,
  isValues,
  memoryFeed,
  type Ready,
  rowsBetween,
  sourceFeed,
  tensorsOf,
  type Values,
} from './feed.js';
import { FitRun, type Host } from './fit.js';
import type { History, Logs } from './history.js';
import { type LossLike, lossRule } from './losses.js';
import { measure } from './measure.js';
import { type MetricLike, metricsOf, type OptimizerLike, optimizerMaker } from './names.js';
import { Progress, type Verbose } from './progress.js';
import { type Compiled, Steps, type Trainable } from './steps.js';
import { summarize } from './summary.js';
import { TargetCheck } from './targets.js';

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

function stepsOf(op: string, steps: unknown, name = 'steps'): number | null {
  return steps === undefined ? null : expectInteger(op, name, steps, 1);
}

function expectSignal(op: string, signal: unknown): AbortSignal | undefined {
  if (signal === undefined || signal instanceof AbortSignal) return signal;
  throw new TypeError(`${op}: signal must be an AbortSignal, got ${describe(signal)}`);
}

const validationPart = ' of the validation data';

function expectOwnBatches(op: string, source: unknown, options: EvaluateOptions): void {
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

function progressOf(
  op: string,
  { verbose = 1, output = process.stdout }: EvaluateOptions,
): Progress {
  return new Progress(expectInteger(op, 'verbose', verbose, 0, 2) as Verbose, output);
}

function expectCallbacks(callbacks: unknown): readonly Callback[] {
  if (Array.isArray(callbacks) && callbacks.every((item) => typeof item === 'object' && item)) {
    return callbacks;
  }
  throw new TypeError(`fit: callbacks must be an array of objects, got ${describe(callbacks)}`);
}

function expectClassWeight(given: FitOptions['classWeight']): typeof given | null {
  if (given === undefined) return null;
  for (const [name, weight] of Object.entries(expectObject('fit', given))) {
    expectInteger('fit', 'each class of classWeight', Number(name), 0);
    expectRange('fit', 'each classWeight', weight, 0);
  }
  return given;
}

/** See {@link trainer}. */
export class Trainer<M extends Trainable = Trainable> {
  private compiled: Compiled | null = null;
  private made: AnyOptimizer | null = null;
  private steps: Steps;
  private running = false;
  private fits = 0n;

  constructor(readonly model: M) {
    if (!(model instanceof Module)) {
      throw new TypeError(`trainer: expected a module, got ${describe(model)}`);
    }
    this.steps = new Steps(model, null);
  }

  /** The optimizer; null until the model is built and trained for the first time. */
  get optimizer(): AnyOptimizer | null {
    return this.made;
  }

  /** Says how to train. May be called again; the optimizer then starts anew. */
  compile(options: CompileOptions): this {
    const given = expectOptions('compile', options, [
      'optimizer',
      'loss',
      'metrics',
      'learningRate',
      'clipNorm',
      'autocast',
      'capture',
    ]);
    const { metrics = [], clipNorm = null, autocast = null, capture = true } = given;
    if (clipNorm !== null) expectRange('compile', 'clipNorm', clipNorm, 0);
    if (autocast !== null) expectOneOf('compile', 'autocast', autocast, ['bfloat16']);
    const compiled: Compiled = {
      rule: lossRule(given.loss),
      metrics: metricsOf(metrics),
      makeOptimizer: optimizerMaker(given.optimizer, given.learningRate),
      ...{ clipNorm, autocast, capture: expectBoolean('compile', 'capture', capture) },
    };
    this.expectIdle('compile');
    this.steps.dispose();
    this.steps = new Steps(this.model, compiled);
    this.made = null;
    this.compiled = compiled;
    return this;
  }

  /**
   * Trains on numbers, or on a source of batches.
   * @returns the numbers of each epoch; also where the run was stopped early
   */
  fit(x: Inputs, y: Values, options?: FitOptions): Promise<History>;
  fit(source: BatchSource, options?: FitOptions): Promise<History>;
  async fit(...args: [unknown, unknown?, unknown?]): Promise<History> {
    const [x, y, given] = isValues(args[0]) ? args : [args[0], undefined, args[1]];
    const options = expectOptions('fit', given as FitOptions | undefined, [
      'epochs',
      'validationSplit',
      'validationData',
      'shuffle',
      'seed',
      'classWeight',
      'callbacks',
      'validationSteps',
      'signal',
      'resume',
      'allowNaN',
      'verbose',
      'output',
      'sampleWeight',
      'batchSize',
      'steps',
    ]);
    const compiled = this.expectCompiled('fit');
    const { resume } = options;
    const signal = expectSignal('fit', options.signal);
    const validationSteps = stepsOf('fit', options.validationSteps, 'validationSteps');
    const runOptions = {
      epochs: expectInteger('fit', 'epochs', options.epochs ?? 1, 0),
      steps: stepsOf('fit', options.steps),
      callbacks: expectCallbacks(options.callbacks ?? []),
      signal,
      allowNaN: expectBoolean('fit', 'allowNaN', options.allowNaN ?? false),
    };
    const classWeight = expectClassWeight(options.classWeight);
    const progress = progressOf('fit', options);
    return this.alone('fit', async () => {
      const [feed, validation] = this.feeds(x, y, options);
      const { model, steps } = this;
      try {
        if (classWeight) steps.setClassWeight(classWeight);
        const host: Host = {
          ...{
            model,
            compiled,
            steps,
            check: this.check(compiled),
            validates: validation !== null,
          },
          prepare: (batch) => {
            const optimizer = this.prepare(batch);
            if (validation?.memory) this.look('fit', validation.memory, validationPart);
            return optimizer;
          },
          validate: async () => {
            const limit = validationSteps;
            const look = (batch: Ready): void => this.look('fit', batch, validationPart);
            const more = { op: 'fit', part: validationPart, progress: null, signal, limit, look };
            return validation && measure(host, validation, more);
          },
        };
        return await new FitRun(host, feed, runOptions, progress).train(resume);
      } finally {
        if (classWeight) steps.setClassWeight(null);
        feed.dispose();
        validation?.dispose();
        ++this.fits;
      }
    });
  }

  /** Loss and metrics, in evaluation mode and without gradients. */
  evaluate(x: Inputs, y: Values, options?: EvaluateOptions): Promise<Logs>;
  evaluate(source: BatchSource, options?: EvaluateOptions): Promise<Logs>;
  async evaluate(...args: [unknown, unknown?, unknown?]): Promise<Logs> {
    const [x, y, given] = isValues(args[0]) ? args : [args[0], undefined, args[1]];
    const options = expectOptions('evaluate', given as EvaluateOptions | undefined, [
      'signal',
      'verbose',
      'output',
      'sampleWeight',
      'batchSize',
      'steps',
    ]);
    const compiled = this.expectCompiled('evaluate');
    const limit = stepsOf('evaluate', options.steps);
    const signal = expectSignal('evaluate', options.signal);
    const progress = progressOf('evaluate', options);
    return this.alone('evaluate', async () => {
      const feed = this.feed('evaluate', x, y, options, false);
      const { model, steps } = this;
      try {
        const host = { model, compiled, steps, check: this.check(compiled) };
        const look = (batch: Ready): void => this.look('evaluate', batch);
        const logs = await measure(host, feed, { op: 'evaluate', progress, signal, limit, look });
        if (logs) return logs;
        throw signal?.reason;
      } finally {
        feed.dispose();
      }
    });
  }

  /** What the model gives for each sample, in evaluation mode and without gradients: [N, …]. */
  async predict(x: Inputs | BatchSource, options: PredictOptions = {}): Promise<Tensor> {
    const limit = stepsOf(
      'predict',
      expectOptions('predict', options, ['batchSize', 'steps', 'signal']).steps,
    );
    const signal = expectSignal('predict', options.signal);
    return this.alone('predict', async () => {
      const feed = this.feed('predict', x, undefined, options, false, true);
      const found: Tensor[] = [];
      const iterator = feed.epoch(0);
      this.model.eval();
      try {
        while (found.length !== limit) {
          signal?.throwIfAborted();
          const next = await iterator.next();
          if (next.done) break;
          const batch = feed.ready(next.value);
          if (found.length === 0) this.look('predict', batch);
          found.push((await this.steps.predict(batch)).keep());
        }
        await iterator.return?.();
        if (found.length === 0) throw new Error('predict: the source gave no batches');
        return found.length === 1 ? (found.pop() as Tensor) : cat(found);
      } finally {
        await iterator.return?.();
        for (const part of found) part.dispose();
        feed.dispose();
      }
    });
  }

  /** Layers, shapes of their results and counts of parameters, as a table. */
  summary(): string {
    return summarize(this.model);
  }

  private expectCompiled(op: string): Compiled {
    if (this.compiled) return this.compiled;
    throw new Error(`${op}: call compile({ optimizer, loss }) first`);
  }

  private expectIdle(op: string): void {
    if (this.running) throw new Error(`${op}: this model is at work; await what runs before`);
  }

  /** Nothing else of this trainer runs meanwhile; the modes of the modules are as before. */
  private async alone<T>(op: string, work: () => Promise<T>): Promise<T> {
    this.expectIdle(op);
    this.running = true;
    const modes = [...this.model.namedModules()].map(([, m]) => [m, m.training] as const);
    try {
      return await work();
    } finally {
      this.running = false;
      const [, mode] = modes[0] as (typeof modes)[0];
      this.model.train(mode);
      for (const [module, own] of modes) if (module.training !== own) module.train(own);
    }
  }

  private get device(): Device {
    if (this.model instanceof SequentialLayers) return this.model.device;
    for (const parameter of this.model.parameters()) return parameter.device;
    return getDefaultDevice();
  }

  private feedOptions(op: string, options: FitOptions, shuffle: boolean): FeedOptions {
    const { model, device } = this;
    return {
      ...{ device, seed: options.seed ?? defaultGenerator.initialSeed + this.fits },
      ...expectBatching(op, options.batchSize, shuffle && (options.shuffle ?? true)),
      indices: model instanceof SequentialLayers && model.vocabulary !== null,
    };
  }

  private feed(
    op: string,
    x: unknown,
    y: unknown,
    options: FitOptions,
    shuffle: boolean,
    inputsOnly = false,
  ): Feed {
    const feedOptions = { ...this.feedOptions(op, options, shuffle), inputsOnly };
    if (!isValues(x)) {
      expectOwnBatches(op, x, options);
      return sourceFeed(op, x, feedOptions);
    }
    if (!inputsOnly && y === undefined) throw new TypeError(`${op}: needs targets y beside x`);
    return memoryFeed(inMemory(op, x, y, options.sampleWeight, feedOptions), feedOptions);
  }

  /** What to train on, and what to validate with. */
  private feeds(x: unknown, y: unknown, options: FitOptions): [Feed, Feed | null] {
    const { validationSplit = 0, validationData } = options;
    expectRange('fit', 'validationSplit', validationSplit, 0, 1, true);
    if (validationData !== undefined && validationSplit > 0) {
      throw new TypeError('fit: give either validationSplit or validationData');
    }
    if (validationSplit === 0) {
      const feed = this.feed('fit', x, y, options, true);
      if (validationData === undefined) return [feed, null];
      const given = Array.isArray(validationData) ? validationData : [validationData];
      const [vx, vy, sampleWeight] = given;
      const own = isValues(vx) || isDataset(vx) ? { batchSize: options.batchSize } : {};
      try {
        return [feed, this.feed('fit', vx, vy, { ...own, sampleWeight } as FitOptions, false)];
      } catch (error) {
        feed.dispose();
        throw error;
      }
    }
    if (!isValues(x)) {
      throw new TypeError('fit: validationSplit needs x and y in memory; give validationData');
    }
    const feedOptions = this.feedOptions('fit', options, true);
    if (y === undefined) throw new TypeError('fit: needs targets y beside x');
    const all = inMemory('fit', x, y, options.sampleWeight, feedOptions);
    const rows = (all.inputs[0] as Tensor).shape[0] as number;
    const first = Math.floor(rows * (1 - validationSplit));
    try {
      if (first === 0 || first === rows) {
        throw new RangeError(
          `fit: validationSplit must leave samples on both sides, got ${validationSplit} of ${rows}`,
        );
      }
      return [
        memoryFeed(rowsBetween(all, 0, first), feedOptions),
        memoryFeed(rowsBetween(all, first, rows), { ...feedOptions, shuffle: false }),
      ];
    } finally {
      for (const part of tensorsOf(all)) part.dispose();
    }
  }

  /** Checks inputs and targets, and builds a model whose shapes are yet unknown. */
  private look(op: string, { inputs: [x], target }: Ready, where = ''): void {
    const { model, compiled } = this;
    if (model instanceof SequentialLayers && x) {
      model.checkInput(x);
      model.build(x.shape.slice(1), x.dtype);
    }
    if (target && compiled) this.check(compiled).expect(op, target, where);
  }

  private check({ rule }: Compiled): TargetCheck {
    const { model, steps } = this;
    const built = (): number | null =>
      model instanceof SequentialLayers && model.built
        ? (model.builtLayers.at(-1)?.outputShape.at(-1) ?? null)
        : null;
    return new TargetCheck(rule, () => built() ?? steps.classes);
  }

  private prepare(batch: Ready): AnyOptimizer {
    this.look('fit', batch);
    if (this.made) return this.made;
    const parameters = [...this.model.parameters()];
    if (parameters.length === 0) throw new Error('fit: the model has no parameters to train');
    this.made = (this.compiled as Compiled).makeOptimizer(parameters);
    return this.made;
  }
}

/**
 * What trains a module: any that takes tensors and gives one. (A model made by `sequential` has these
 * methods itself.)
 * @example
 * const digits = trainer(new Net()).compile({ optimizer: 'adam', loss: 'mse' });
 * await digits.fit(x, y, { epochs: 3 });
 */
export function trainer<M extends Trainable>(model: M): Trainer<M> {
  return new Trainer(model);
}
