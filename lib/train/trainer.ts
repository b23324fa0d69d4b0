/**
 * Training in the manner of Keras: compile, fit, evaluate, predict, for any module from tensors to one
 * tensor. Steps are captured; losses and metrics stay on the device and are read behind the steps.
 */
import {
  describe,
  expectBoolean,
  expectInteger,
  expectOneOf,
  expectOptions,
  expectRange,
  expectSignal,
} from '../check.js';
import { context } from '../context.js';
import { type Device, getDefaultDevice } from '../device.js';
import { SequentialLayers } from '../layers/model.js';
import { Module } from '../nn/module.js';
import { cat } from '../ops/movement.js';
import { defaultGenerator } from '../ops/random.js';
import type { AnyOptimizer } from '../optim/schedule.js';
import type { Tensor } from '../tensor.js';
import {
  type BatchSource,
  expectBatching,
  type Feed,
  type FeedOptions,
  type Inputs,
  inMemory,
  isBatches,
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
import { lossRule } from './losses.js';
import { measure } from './measure.js';
import { metricsOf, optimizerMaker } from './names.js';
import {
  type CompileOptions,
  type EvaluateOptions,
  expectCallbacks,
  expectClassWeight,
  expectOwnBatches,
  type FitOptions,
  type PredictOptions,
  progressOf,
  stepsOf,
  validationPart,
} from './options.js';
import { type Compiled, Steps, type Trainable } from './steps.js';
import { summarize } from './summary.js';
import { TargetCheck } from './targets.js';
import { Turns } from './turns.js';

/** See {@link trainer}. */
export class Trainer<M extends Trainable = Trainable> {
  private compiled: Compiled | null = null;
  private made: AnyOptimizer | null = null;
  private steps: Steps;
  private readonly turns: Turns;
  private fits = 0n;

  constructor(readonly model: M) {
    if (!(model instanceof Module)) {
      throw new TypeError(`trainer: expected a module, got ${describe(model)}`);
    }
    this.steps = new Steps(model, null);
    this.turns = new Turns(model);
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
    this.turns.expectIdle('compile');
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
    return this.turns.alone('fit', async () => {
      const [feed, validation] = this.feeds(x, y, options);
      const { model, steps, turns } = this;
      try {
        if (classWeight) steps.setClassWeight(classWeight);
        const host: Host = {
          ...{
            model,
            compiled,
            steps,
            turns,
            check: this.check(compiled),
            validates: validation !== null,
          },
          prepare: (batch) => {
            const optimizer = this.prepare(batch);
            if (validation?.memory) this.look('fit', validation.memory, validationPart);
            return optimizer;
          },
          validate: async (epoch) => {
            const limit = validationSteps;
            const when = ` in epoch ${epoch + 1}`;
            const look = (batch: Ready): void => this.look('fit', batch, validationPart);
            const more = {
              op: 'fit',
              part: validationPart,
              when,
              progress: null,
              signal,
              limit,
              look,
            };
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
    return this.turns.beside('evaluate', async () => {
      const feed = this.feed('evaluate', x, y, options, false);
      const { model, steps } = this;
      try {
        const host = { model, compiled, steps, check: this.check(compiled) };
        const look = (batch: Ready): void => this.look('evaluate', batch);
        if (feed.memory) look(feed.memory);
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
    return this.turns.beside('predict', async () => {
      const feed = this.feed('predict', x, undefined, options, false, true);
      const found: Tensor[] = [];
      const iterator = feed.epoch(0);
      this.model.eval();
      try {
        if (feed.memory) this.look('predict', feed.memory);
        while (found.length !== limit) {
          signal?.throwIfAborted();
          const next = await iterator.next();
          if (next.done) break;
          const batch = feed.ready(next.value);
          if (found.length === 0 && !feed.memory) this.look('predict', batch);
          found.push((await this.steps.predict(batch)).keep());
        }
        await iterator.return?.();
        if (found.length === 0) throw new Error('predict: the source gave no batches');
        if (found.length > 1) return cat(found);
        const only = found.pop() as Tensor;
        const { scope } = context();
        if (scope) only.moveTo(scope);
        return only;
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
      const parts = Array.isArray(validationData) && !isBatches(validationData);
      const given = parts ? validationData : [validationData];
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
    const made = (this.compiled as Compiled).makeOptimizer(parameters);
    if (!made.trained().some((parameter) => parameters.includes(parameter))) {
      throw new Error(
        'fit: the optimizer must have parameters of this model, got one that has only others',
      );
    }
    this.made = made;
    return made;
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
