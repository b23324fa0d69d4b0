/** What callbacks that watch a number share. */
import { expectOneOf, expectRange } from '../../check.js';
import type { Logs } from '../history.js';

export interface MonitorOptions {
  /** The number that is watched: `valLoss` where left out. */
  monitor?: string;
  /** Whether small is good or large; large for names of accuracies and the like, else small. */
  mode?: 'min' | 'max';
  /** The least change that counts; 0 where left out. */
  minDelta?: number;
}

const largeIsGood = /accuracy|precision|recall|^f1|valF1|auc|^r2|valR2/i;

/** Whether large values of a number are good, by its name. */
export function modeOf(name: string): 'min' | 'max' {
  return largeIsGood.test(name) ? 'max' : 'min';
}

/** Watches whether a number gets better. */
export class Monitor {
  readonly name: string;
  private readonly sign: 1 | -1;
  private readonly minDelta: number;
  /** The best so far; null before the first. */
  best: number | null = null;

  constructor(
    private readonly op: string,
    options: MonitorOptions,
  ) {
    const { monitor = 'valLoss', mode, minDelta = 0 } = options;
    this.name = monitor;
    if (mode !== undefined) expectOneOf(op, 'mode', mode, ['min', 'max']);
    this.sign = (mode ?? modeOf(monitor)) === 'max' ? 1 : -1;
    this.minDelta = expectRange(op, 'minDelta', minDelta, 0);
  }

  /** The number in the logs of an epoch. */
  in(logs: Logs): number {
    this.expectIn(Object.keys(logs));
    return logs[this.name] as number;
  }

  /** Whether there will be such a number, where that is known. */
  expectIn(names: readonly string[] | null): void {
    if (!names || names.includes(this.name)) return;
    throw new RangeError(
      `${this.op}: monitor must be one of ${names.join(', ')}, got ${this.name}`,
    );
  }

  /** Whether a number is better than the best, which it then becomes. */
  improves(value: number): boolean {
    const better =
      !Number.isNaN(value) &&
      (this.best === null || this.sign * (value - this.best) > this.minDelta);
    if (better) this.best = value;
    return better;
  }
}
