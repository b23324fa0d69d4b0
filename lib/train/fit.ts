/** One call of `fit`: the loop over epochs and batches, its callbacks, and what a checkpoint keeps. */
import type { DataLoaderState } from '../data/loader.js';
import type { Device } from '../device.js';
import { SequentialLayers } from '../layers/model.js';
import { alias } from '../ops/view.js';
import type { AnyOptimizer } from '../optim/schedule.js';
import type { Callback, Run } from './callback.js';
import { loadCheckpoint, type Stateful, saveCheckpoint } from './checkpoint.js';
import type { Feed, Ready } from './feed.js';
import { expectFiniteWeights, firstBadRow } from './finite.js';
import { History, type Logs, type Stopped } from './history.js';
import { LossLog, type LossLogState } from './lossLog.js';
import { numberOf } from './measure.js';
import type { Progress } from './progress.js';
import type { Compiled, Steps, Trainable } from './steps.js';
import type { TargetCheck } from './targets.js';
import { Timer } from './timing.js';
import type { Aside, Turns } from './turns.js';

/** What a run is given. */
export interface RunOptions {
  readonly epochs: number;
  readonly steps: number | null;
  readonly callbacks: readonly Callback[];
  readonly signal: AbortSignal | undefined;
  readonly allowNaN: boolean;
}

/** What a run asks of its trainer. */
export interface Host {
  readonly model: Trainable;
  readonly compiled: Compiled;
  readonly steps: Steps;
  readonly turns: Turns;
  readonly check: TargetCheck;
  /** Builds the model, makes the optimizer, looks at the first batch. */
  prepare(batch: Ready): AnyOptimizer;
  /** Loss and metrics on other data after an epoch; null without such data, or on an aborted signal. */
  validate(epoch: number): Promise<Logs | null>;
  readonly validates: boolean;
}

/** What a checkpoint keeps of a run, beside tensors and the place in the data. */
interface Saved {
  epoch: number;
  batch: number;
  /** Whether the epoch was announced to callbacks, and whether only its validation is left. */
  announced: boolean;
  complete: boolean;
  losses: LossLogState;
  metrics: (number[] | null)[];
  callbacks: unknown[];
  history: Pick<History, 'epoch' | 'history' | 'timing'>;
}

/** What an epoch has come to: sums of the metrics, and the place in the data. */
interface Place {
  metrics: (number[] | null)[];
  loader: DataLoaderState | null;
}

export class FitRun implements Run {
  readonly history = new History();
  stopped: Stopped = null;
  error: unknown = null;
  resumed = false;
  private found: AnyOptimizer | null = null;
  private epoch = 0;
  private batch = 0;
  private begun = false;
  private announced = false;
  private complete = false;
  /** 1 while a batch was taken that was not yet trained on. */
  private ahead = 0;
  private losses: LossLog;
  private timer = new Timer();
  /** Numbers of metrics that were read last, for the bar. */
  private running: Logs = {};
  /** What the epoch has come to, while something else uses its metrics and its loader. */
  private kept: Place | null = null;
  private readonly check: TargetCheck | null;
  private readonly callbacks: readonly Callback[];

  constructor(
    private readonly host: Host,
    private readonly feed: Feed,
    private readonly options: RunOptions,
    private readonly progress: Progress,
  ) {
    const { callbacks } = options;
    this.callbacks = [...callbacks.filter((c) => !c.last), ...callbacks.filter((c) => c.last)];
    this.check = feed.memory || !host.check.applies ? null : host.check;
    this.losses = this.newLosses();
  }

  get model(): Trainable {
    return this.host.model;
  }

  get epochs(): number {
    return this.options.epochs;
  }

  get batches(): number | null {
    const { length } = this.feed;
    const { steps } = this.options;
    return steps === null ? length : Math.min(steps, length ?? steps);
  }

  get names(): readonly string[] | null {
    if (this.callbacks.some((c) => c.onEpochEnd && !c.leavesLogs)) return null;
    const own = ['loss', ...this.host.compiled.metrics.map(({ name }) => name)];
    return this.host.validates ? [...own, ...own.map(validationName)] : own;
  }

  modeOf(name: string): 'min' | 'max' | null {
    const known = [{ name: 'loss', mode: 'min' } as const, ...this.host.compiled.metrics];
    const found = known.find((of) => name === of.name || name === validationName(of.name));
    return found?.mode ?? null;
  }

  get optimizer(): AnyOptimizer {
    if (this.found) return this.found;
    throw new Error('fit: the optimizer is made with the first batch, which is yet to come');
  }

  stop(): void {
    this.stopped ??= 'callback';
  }

  /** Trains, to the end or until somebody stops it. */
  async train(resume: string | undefined): Promise<History> {
    const errors: unknown[] = [];
    const attempt = async (work: () => unknown): Promise<void> => {
      try {
        await work();
      } catch (error) {
        this.error ??= error;
        errors.push(error);
      }
    };
    await attempt(() => this.epochsLeft(resume));
    this.progress.abandon();
    if (this.begun) {
      // The first error tells why the run ended; what follows from it stays unsaid.
      if (errors.length > 0 || this.batch > 0) {
        await this.tell((callback) => attempt(() => callback.onInterrupt?.(this)));
      }
      await this.tell((callback) => attempt(() => callback.onTrainEnd?.(this)));
    }
    this.losses.dispose();
    if (errors.length > 0) throw errors[0];
    this.history.stopped = this.stopped;
    return this.history;
  }

  /** Calls the callbacks one after another; the model may be evaluated meanwhile. */
  private async tell(call: (callback: Callback) => unknown): Promise<void> {
    const { turns } = this.host;
    for (const callback of this.callbacks) await turns.lend(() => call(callback), this.aside);
  }

  /** Runs what a callback does with the same model. */
  private readonly aside: Aside = async (work) => {
    await this.losses.settle();
    return this.apart(work);
  };

  /** Runs what uses the same metrics, perhaps the same loader, and leaves both as they were. */
  private async apart<T>(work: () => Promise<T>): Promise<T> {
    const { metrics } = this.host.compiled;
    const { resumable } = this.feed;
    const kept = this.place();
    this.kept = kept;
    try {
      return await (resumable ? resumable.apart(work) : work());
    } finally {
      for (const [i, metric] of metrics.entries()) {
        const state = kept.metrics[i];
        // Recorded steps need the sums that they made.
        if (state) metric.loadStateDict(state);
        else metric.reset();
      }
      this.kept = null;
    }
  }

  private place(): Place {
    return {
      metrics: this.host.compiled.metrics.map((metric) => metric.stateDict()),
      loader: this.feed.resumable?.stateDict() ?? null,
    };
  }

  private async epochsLeft(resume: string | undefined): Promise<void> {
    const { host, feed } = this;
    if (feed.memory) this.found = host.prepare(feed.memory);
    if (resume !== undefined) await this.restore(resume);
    else for (const metric of host.compiled.metrics) metric.reset();
    if (this.found) await this.begin();
    while (this.epoch < this.epochs && !this.ending) {
      if (!this.complete) await this.batchesOfEpoch();
      if (!this.complete || !(await this.endEpoch())) break;
    }
  }

  private get ending(): boolean {
    if (this.options.signal?.aborted) this.stopped ??= 'signal';
    return this.stopped !== null;
  }

  private async begin(): Promise<void> {
    this.begun = true;
    await this.tell((callback) => callback.onTrainBegin?.(this));
  }

  /** Tells callbacks of an epoch, unless the run that is resumed did. */
  private async announce(): Promise<void> {
    if (this.announced) return;
    this.announced = true;
    await this.tell((callback) => callback.onEpochBegin?.(this.epoch, this));
  }

  /** Trains on the batches of an epoch that are left. */
  private async batchesOfEpoch(): Promise<void> {
    const { host, feed, callbacks, progress } = this;
    host.model.train();
    progress.begin(`Epoch ${this.epoch + 1}/${this.epochs}`, this.batches, this.batch);
    this.timer = new Timer();
    if (this.begun) await this.announce();
    let device: Device | null = null;
    const watching = callbacks.some(({ onBatchEnd }) => onBatchEnd);
    const iterator = feed.epoch(feed.resumable ? 0 : this.batch);
    try {
      while (!this.ending) {
        if (this.options.steps !== null && this.batch >= this.options.steps) {
          this.complete = true;
          break;
        }
        const next = await this.timer.wait(device, iterator.next());
        if (next.done) {
          this.complete = true;
          break;
        }
        this.ahead = 1;
        const ready = feed.ready(next.value);
        this.found ??= host.prepare(ready);
        if (!this.begun) {
          await this.begin();
          await this.announce();
        }
        await this.tell((callback) => callback.onBatchBegin?.(this.batch, this));
        const measured = await host.steps.train(ready, this.found, this.check);
        const { loss } = measured;
        device = loss.device;
        const seen = watching ? alias(loss) : loss;
        const samples = ready.inputs[0]?.shape[0] ?? 1;
        this.timer.count(samples);
        await this.losses.add(measured, samples, ready.target);
        const at = this.batch++;
        this.ahead = 0;
        await this.expectFinite();
        progress.step(() => ({ ...this.losses.known, ...this.running }));
        await this.tell((callback) => callback.onBatchEnd?.(at, seen, this));
      }
    } finally {
      await iterator.return?.();
    }
    await this.losses.settle();
    await this.expectFinite();
    if (this.complete && this.batch === 0) {
      throw new Error(
        `fit: the source gave no batches in epoch ${this.epoch + 1}; a function is asked anew for each epoch, an iterator that has ended is not`,
      );
    }
  }

  private newLosses(): LossLog {
    this.running = {};
    const { metrics } = this.host.compiled;
    const look = async (): Promise<void> => {
      for (const metric of metrics) {
        // What a metric cannot count it says at the end of the epoch.
        const value = await metric.read().catch(() => null);
        if (value !== null) this.running[metric.name] = value;
      }
    };
    return this.progress.showsSteps ? new LossLog(this.check, look) : new LossLog(this.check);
  }

  private async expectFinite(): Promise<void> {
    const { bad, wrong } = this.losses;
    const { memory } = this.feed;
    const of = ` of epoch ${this.epoch + 1}`;
    if (wrong) throw new RangeError(`fit: ${wrong.told} of batch ${wrong.batch}${of}`);
    if (!bad || this.options.allowNaN) return;
    const target = memory?.target;
    const where = memory
      ? (firstBadRow(memory) ??
        (target && this.host.check.applies && (await this.host.check.firstWrong(target))))
      : null;
    throw new Error(
      `fit: the loss must be finite, got ${bad.value} first in batch ${bad.batch}${of}` +
        (where ? `; ${where}` : '; look at that batch, or run the step in detectAnomaly'),
    );
  }

  /** Validates and tells callbacks; false where the signal ended the run before that. */
  private async endEpoch(): Promise<boolean> {
    const { host, epoch } = this;
    const { metrics } = host.compiled;
    const { timing } = this.timer;
    const logs: Logs = { loss: this.losses.mean };
    for (const metric of metrics) logs[metric.name] = await this.number(metric);
    if (host.validates) {
      const validation = await this.apart(() => host.validate(epoch));
      if (!validation) {
        this.stopped ??= 'signal';
        return false;
      }
      for (const [name, value] of Object.entries(validation)) logs[validationName(name)] = value;
    }
    this.progress.end(logs, timing);
    this.history.add(epoch, logs, timing);
    // What callbacks save goes on with the next epoch.
    const loader = this.feed.resumable;
    if (loader && loader.stateDict().batch > 0) {
      const state = loader.stateDict();
      loader.loadStateDict({ ...state, epoch: state.epoch + 1, batch: 0 });
    }
    this.epoch = epoch + 1;
    this.batch = 0;
    Object.assign(this, { announced: false, complete: false });
    this.losses = this.newLosses();
    for (const metric of metrics) metric.reset();
    await this.tell(async (callback) => {
      await callback.onEpochEnd?.(epoch, logs, this);
      this.history.note(logs);
    });
    return true;
  }

  /** A metric of the epoch; of a run that may go on with NaN, NaN where it cannot be told. */
  private async number(metric: Compiled['metrics'][number]): Promise<number> {
    try {
      return await numberOf(metric, 'fit', ` of epoch ${this.epoch + 1}`);
    } catch (error) {
      if (this.options.allowNaN && Number.isNaN(this.losses.mean)) return Number.NaN;
      throw error;
    }
  }

  private parts() {
    const more: Record<string, Stateful> = {};
    for (const [i, { tensors }] of this.options.callbacks.entries()) {
      if (tensors) more[`callback${i}`] = tensors;
    }
    const { resumable } = this.feed;
    const loader = resumable && {
      stateDict: () => {
        const state = this.kept?.loader ?? resumable.stateDict();
        return { ...state, batch: state.batch - this.ahead };
      },
      loadStateDict: (state: DataLoaderState) => resumable.loadStateDict(state),
    };
    return {
      ...{ model: this.model, optimizer: this.optimizer, more },
      ...(loader && { loader }),
    };
  }

  async save(file: string): Promise<void> {
    await this.losses.settle();
    await this.expectFinite();
    if (!this.options.allowNaN) await expectFiniteWeights(this.model, file);
    const { metrics } = this.kept ?? this.place();
    const { epoch, history, timing } = this.history;
    const extra: Saved = {
      ...{ epoch: this.epoch, batch: this.batch },
      ...{ announced: this.announced, complete: this.complete },
      losses: this.losses.stateDict(),
      metrics,
      callbacks: this.options.callbacks.map((callback) => callback.stateDict?.() ?? null),
      history: { epoch, history, timing },
    };
    await saveCheckpoint(file, { ...this.parts(), extra });
  }

  private async restore(file: string): Promise<void> {
    if (!this.found) {
      const { model } = this;
      if (model instanceof SequentialLayers && !model.built) {
        throw new Error('fit: to resume from a source of batches, give the model its inputShape');
      }
      this.found = this.host.prepare({ inputs: [], target: null, weight: null });
    }
    const saved = await loadCheckpoint<Saved | undefined>(file, this.parts());
    const { metrics } = this.host.compiled;
    const { callbacks } = this.options;
    if (
      saved?.losses === undefined ||
      saved.metrics.length !== metrics.length ||
      saved.callbacks.length !== callbacks.length
    ) {
      throw new Error(`fit: ${file} is no checkpoint of a run with these metrics and callbacks`);
    }
    const { epoch, batch, announced, complete } = saved;
    Object.assign(this, { epoch, batch, announced, complete, resumed: true });
    this.losses.loadStateDict(saved.losses);
    for (const [i, metric] of metrics.entries()) metric.loadStateDict(saved.metrics[i] ?? null);
    for (const [i, callback] of callbacks.entries()) {
      callback.loadStateDict?.(saved.callbacks[i] as never);
    }
    this.history.epoch.push(...saved.history.epoch);
    this.history.timing.push(...saved.history.timing);
    Object.assign(this.history.history, saved.history.history);
  }
}

function validationName(name: string): string {
  return `val${name.charAt(0).toUpperCase()}${name.slice(1)}`;
}
