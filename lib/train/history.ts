/** What a training run gives back. */
import type { EpochTiming } from './timing.js';

/** Numbers of one epoch by name: `loss`, the metrics, and the same of the validation as `valLoss` … */
export type Logs = Record<string, number>;

/** Why a run ended before its last epoch: a callback asked for it, or the signal was aborted. */
export type Stopped = 'callback' | 'signal' | null;

/** Numbers of a run, epoch by epoch. */
export class History {
  /** The epochs that were finished, counted from 0. */
  readonly epoch: number[] = [];
  /** By name, a number for each of them; NaN where an epoch had none of that name. */
  readonly history: Record<string, number[]> = {};
  /** How long each of them took, and waited for data. */
  readonly timing: EpochTiming[] = [];
  /** Why the run ended early; null where it did not. */
  stopped: Stopped = null;

  /** @internal */
  add(epoch: number, logs: Logs, timing: EpochTiming): void {
    this.epoch.push(epoch);
    this.timing.push(timing);
    for (const list of Object.values(this.history)) list.push(Number.NaN);
    this.note(logs);
  }

  /** @internal Takes over the numbers of the last epoch, also those that callbacks have added. */
  note(logs: Logs): void {
    const { length } = this.epoch;
    for (const [name, value] of Object.entries(logs)) {
      this.history[name] ??= new Array<number>(length).fill(Number.NaN);
      this.history[name][length - 1] = value;
    }
  }
}
