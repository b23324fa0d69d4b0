/** One call of `fit`: the loop over epochs and batches, its callbacks, and what a checkpoint keeps. */
import type { Device } from '../device.js';
import { SequentialLayers } from '../layers/model.js';
import { native } from '../native.js';
import { alias } from '../ops/view.js';
import type { AnyOptimizer } from '../optim/schedule.js';
import type { Tensor } from '../tensor.js';
import type { Callback, Run } from './callback.js';
import { loadCheckpoint, type Stateful, saveCheckpoint } from './checkpoint.js';
import { type Feed, firstBadRow, type Ready } from './feed.js';
import { History, type Logs, type Stopped } from './history.js';
import { LossLog, type LossLogState } from './lossLog.js';
import type { Progress } from './progress.js';
import type { Compiled, Steps, Trainable } from './steps.js';

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
  /** Builds the model, makes the optimizer, looks at the first batch. */
  prepare(batch: Ready): AnyOptimizer;
  /** Loss and metrics on other data. */
  validate(): Promise<Logs | null>;
}

/** What a checkpoint keeps of a run, beside tensors and the place in the data. */
interface Saved {
  epoch: number;
  batch: number;
  losses: LossLogState;
  metrics: (number[] | null)[];
  callbacks: unknown[];
  history: Pick<History, 'epoch' | 'history'>;
}

export class FitRun implements Run {
  readonly history = new History();
  stopped: Stopped = null;
  private found: AnyOptimizer | null = null;
  private epoch = 0;
  private batch = 0;
  private losses = new LossLog();
  private readonly callbacks: readonly Callback[];

  constructor(
    private readonly host: Host,
    private readonly feed: Feed,
    private readonly options: RunOptions,
    private readonly progress: Progress,
  ) {
    const { callbacks } = options;
    this.callbacks = [...callbacks.filter((c) => !c.last), ...callbacks.filter((c) => c.last)];
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

  get optimizer(): AnyOptimizer {
    if (this.found) return this.found;
    throw new Error('fit: the optimizer is made with the first batch, which is yet to come');
  }

  stop(): void {
    this.stopped ??= 'callback';
  }

  /** Trains, to the end or until somebody stops it. */
  async train(resume: string | undefined): Promise<History> {
    let begun = false;
    try {
      if (this.feed.memory) this.found = this.host.prepare(this.feed.memory);
      if (resume !== undefined) await this.restore(resume);
      else for (const metric of this.host.compiled.metrics) metric.reset();
      if (this.found) begun = await this.begin();
      for (; this.epoch < this.epochs && !this.ending; ++this.epoch) {
        begun = await this.batchesOfEpoch(begun);
        if (this.ending && !this.complete) break;
        await this.endEpoch();
      }
    } finally {
      this.progress.abandon();
      this.losses.dispose();
      if (begun) for (const callback of this.callbacks) await callback.onTrainEnd?.(this);
    }
    this.history.stopped = this.stopped;
    return this.history;
  }

  private complete = false;

  private get ending(): boolean {
    if (this.options.signal?.aborted) this.stopped ??= 'signal';
    return this.stopped !== null;
  }

  private async begin(): Promise<true> {
    for (const callback of this.callbacks) await callback.onTrainBegin?.(this);
    return true;
  }

  /** Trains on the batches of an epoch that are left. */
  private async batchesOfEpoch(wasBegun: boolean): Promise<boolean> {
    const { host, feed, callbacks, progress } = this;
    let begun = wasBegun;
    host.model.train();
    this.complete = false;
    progress.begin(`Epoch ${this.epoch + 1}/${this.epochs}`, this.batches, this.batch);
    if (begun) for (const callback of callbacks) await callback.onEpochBegin?.(this.epoch, this);
    let device: Device | null = null;
    const watching = callbacks.some(({ onBatchEnd }) => onBatchEnd);
    const iterator = feed.epoch(feed.resumable ? 0 : this.batch);
    try {
      while (!this.ending) {
        if (this.options.steps !== null && this.batch >= this.options.steps) {
          this.complete = true;
          break;
        }
        const waiting = progress.measuresWaiting ? new Waiting(device) : null;
        const next = await iterator.next();
        const waited = waiting?.end() ?? 0;
        if (next.done) {
          this.complete = true;
          break;
        }
        const ready = feed.ready(next.value);
        this.found ??= host.prepare(ready);
        if (!begun) {
          begun = await this.begin();
          for (const callback of callbacks) await callback.onEpochBegin?.(this.epoch, this);
        }
        for (const callback of callbacks) await callback.onBatchBegin?.(this.batch, this);
        const loss = await host.steps.train(ready, this.found);
        device = loss.device;
        const seen = watching ? alias(loss) : loss;
        await this.losses.add(loss, ready.inputs[0]?.shape[0] ?? 1);
        this.expectFinite();
        const at = this.batch++;
        progress.step(waited, () => ({ loss: this.losses.mean }));
        for (const callback of callbacks) await callback.onBatchEnd?.(at, seen, this);
      }
    } finally {
      await iterator.return?.();
    }
    await this.losses.settle();
    this.expectFinite();
    if (this.complete && this.batch === 0) {
      throw new Error(
        `fit: the source gave no batches in epoch ${this.epoch + 1}; a function is asked anew for each epoch, an iterator that has ended is not`,
      );
    }
    return begun;
  }

  private expectFinite(): void {
    const { bad } = this.losses;
    if (!bad || this.options.allowNaN) return;
    const where = this.feed.memory ? firstBadRow(this.feed.memory) : null;
    throw new Error(
      `fit: the loss must be finite, got ${bad.value} first in batch ${bad.batch} of epoch ${this.epoch + 1}` +
        (where ? `; ${where}` : '; look at that batch, or run the step in detectAnomaly'),
    );
  }

  private async endEpoch(): Promise<void> {
    const { compiled } = this.host;
    const logs: Logs = { loss: this.losses.mean };
    for (const metric of compiled.metrics) logs[metric.name] = await metric.read();
    const validation = await this.host.validate();
    for (const [name, value] of Object.entries(validation ?? {})) {
      logs[`val${name.charAt(0).toUpperCase()}${name.slice(1)}`] = value;
    }
    this.progress.end(logs);
    this.progress.tellWaiting();
    const { epoch } = this;
    this.history.add(epoch, logs);
    // What callbacks save goes on with the next epoch.
    const loader = this.feed.resumable;
    if (loader && loader.stateDict().batch > 0) {
      const state = loader.stateDict();
      loader.loadStateDict({ ...state, epoch: state.epoch + 1, batch: 0 });
    }
    this.epoch = epoch + 1;
    this.batch = 0;
    this.losses = new LossLog();
    for (const metric of compiled.metrics) metric.reset();
    try {
      for (const callback of this.callbacks) await callback.onEpochEnd?.(epoch, logs, this);
    } finally {
      this.epoch = epoch;
    }
  }

  private parts() {
    const more: Record<string, Stateful> = {};
    for (const [i, { tensors }] of this.options.callbacks.entries()) {
      if (tensors) more[`callback${i}`] = tensors;
    }
    const { resumable } = this.feed;
    return {
      ...{ model: this.model, optimizer: this.optimizer, more },
      ...(resumable && { loader: resumable }),
    };
  }

  async save(file: string): Promise<void> {
    await this.losses.settle();
    const extra: Saved = {
      epoch: this.epoch,
      batch: this.batch,
      losses: this.losses.stateDict(),
      metrics: this.host.compiled.metrics.map((metric) => metric.stateDict()),
      callbacks: this.options.callbacks.map((callback) => callback.stateDict?.() ?? null),
      history: { epoch: this.history.epoch, history: this.history.history },
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
    this.epoch = saved.epoch;
    this.batch = saved.batch;
    this.losses.loadStateDict(saved.losses);
    for (const [i, metric] of metrics.entries()) metric.loadStateDict(saved.metrics[i] ?? null);
    for (const [i, callback] of callbacks.entries()) {
      callback.loadStateDict?.(saved.callbacks[i] as never);
    }
    this.history.epoch.push(...saved.history.epoch);
    Object.assign(this.history.history, saved.history.history);
  }
}

/** How long a batch kept a device waiting that had nothing else to do. */
class Waiting {
  private readonly asked = performance.now();
  private idle: number | null = null;

  constructor(device: Device | null) {
    if (!device) this.idle = this.asked;
    else {
      const note = (): void => {
        this.idle = performance.now();
      };
      native.settle(device.code, 0).then(note, note);
    }
  }

  /** To be called when the batch is there. @returns milliseconds */
  end(): number {
    return this.idle === null ? 0 : performance.now() - this.idle;
  }
}

/** Goes once through a feed without training; what `each` gives is a loss, which is added up. */
export async function measure(
  { model, compiled, steps }: Pick<Host, 'model' | 'compiled' | 'steps'>,
  feed: Feed,
  {
    progress,
    signal,
    limit,
  }: { progress: Progress | null; signal?: AbortSignal; limit: number | null },
  look: (batch: Ready) => void,
): Promise<Logs> {
  model.eval();
  const losses = new LossLog();
  for (const metric of compiled.metrics) metric.reset();
  progress?.begin('', limit ?? feed.length);
  const iterator = feed.epoch(0);
  let batches = 0;
  try {
    while (!signal?.aborted && batches !== limit) {
      const next = await iterator.next();
      if (next.done) break;
      const ready = feed.ready(next.value);
      if (batches === 0) look(ready);
      const loss: Tensor = await steps.evaluate(ready);
      await losses.add(loss, ready.inputs[0]?.shape[0] ?? 1);
      ++batches;
      progress?.step(0, () => ({ loss: losses.mean }));
    }
    await losses.settle();
  } finally {
    await iterator.return?.();
    losses.dispose();
    progress?.abandon();
  }
  if (batches === 0) throw new Error('evaluate: the source gave no batches');
  const logs: Logs = { loss: losses.mean };
  for (const metric of compiled.metrics) {
    logs[metric.name] = await metric.read();
    metric.reset();
  }
  progress?.end(logs);
  return logs;
}
