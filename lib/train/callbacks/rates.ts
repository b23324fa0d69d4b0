/** Changes learning rates as training goes, by the schedules of lib/optim. */
import { describe, expectFunction, expectOneOf, expectOptions } from '../../check.js';
import { type PlateauOptions, plateauNames, ReduceLROnPlateau } from '../../optim/plateau.js';
import { type AnyOptimizer, Schedule, type ScheduleState } from '../../optim/schedule.js';
import type { Tensor } from '../../tensor.js';
import type { Callback, Run } from '../callback.js';
import type { Logs } from '../history.js';
import { Monitor, type MonitorOptions } from './monitor.js';

/** The rate of an epoch, from its number and the rate so far. */
export type RateOfEpoch = (epoch: number, lr: number) => number;

/**
 * Sets the learning rate: by a function of the epoch, or by a schedule, which is made for the run's
 * optimizer and steps after each batch, or before each epoch but the first, so that an epoch ends with
 * the rate that it had.
 * @example
 * new LearningRateScheduler((epoch, lr) => (epoch < 10 ? lr : lr * 0.9));
 * new LearningRateScheduler({ make: (o) => new optim.CosineAnnealingLR(o, { tMax: 500 }), per: 'batch' });
 */
export class LearningRateScheduler implements Callback {
  readonly leavesLogs = true;
  private readonly rate: RateOfEpoch | null = null;
  private readonly make: ((optimizer: AnyOptimizer) => Schedule) | null = null;
  private readonly per: 'epoch' | 'batch' = 'epoch';
  private schedule: Schedule | null = null;
  private state: ScheduleState | null = null;

  constructor(
    given: RateOfEpoch | { make: (optimizer: AnyOptimizer) => Schedule; per?: 'epoch' | 'batch' },
  ) {
    if (typeof given === 'function') {
      this.rate = given;
      return;
    }
    const { make, per = 'epoch' } = expectOptions('LearningRateScheduler', given, ['make', 'per']);
    this.make = expectFunction('LearningRateScheduler', 'make', make);
    this.per = expectOneOf('LearningRateScheduler', 'per', per, ['epoch', 'batch']);
  }

  onTrainBegin(run: Run): void {
    if (!this.make) return;
    this.schedule = this.make(run.optimizer);
    if (!(this.schedule instanceof Schedule)) {
      throw new TypeError(
        `LearningRateScheduler: make must give a schedule, got ${describe(this.schedule)}`,
      );
    }
    if (this.state) this.schedule.loadStateDict(this.state);
    this.state = null;
  }

  onEpochBegin(epoch: number, run: Run): void {
    if (this.rate) run.optimizer.lr = this.rate(epoch, run.optimizer.lr);
    else if (this.per === 'epoch' && epoch > 0) this.schedule?.step();
  }

  onBatchEnd(_batch: number, _loss: Tensor, _run: Run): void {
    if (this.per === 'batch') this.schedule?.step();
  }

  stateDict(): ScheduleState | null {
    return this.schedule?.stateDict() ?? null;
  }

  loadStateDict(state: ScheduleState | null): void {
    this.state = state;
  }
}

/**
 * Lowers the learning rate where a number no longer gets better, by `optim.ReduceLROnPlateau`; its
 * options, and the number that is watched.
 * @example new ReduceOnPlateau({ monitor: 'valLoss', factor: 0.2, patience: 5 })
 */
export class ReduceOnPlateau implements Callback {
  readonly leavesLogs = true;
  private readonly monitor: Monitor;
  private readonly options: PlateauOptions;
  private schedule: ReduceLROnPlateau | null = null;
  private state: ScheduleState | null = null;

  constructor(options: Omit<PlateauOptions, 'mode'> & Omit<MonitorOptions, 'minDelta'> = {}) {
    const { monitor, mode, ...rest } = expectOptions('ReduceOnPlateau', options, [
      ...plateauNames,
      'monitor',
    ]);
    this.monitor = new Monitor('ReduceOnPlateau', { monitor, mode });
    this.options = rest;
  }

  onTrainBegin(run: Run): void {
    this.monitor.begin(run);
    const { mode } = this.monitor;
    this.schedule = new ReduceLROnPlateau(run.optimizer, { ...this.options, mode });
    if (this.state) this.schedule.loadStateDict(this.state);
    this.state = null;
  }

  onEpochEnd(_: number, logs: Logs): void {
    this.schedule?.step(this.monitor.in(logs));
  }

  stateDict(): ScheduleState | null {
    return this.schedule?.stateDict() ?? null;
  }

  loadStateDict(state: ScheduleState | null): void {
    this.state = state;
  }
}
