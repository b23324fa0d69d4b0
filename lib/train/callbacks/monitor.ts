/** What callbacks that watch a number share. */
import { expectOneOf, expectRange } from '../../check.js';
import type { Run } from '../callback.js';
import type { Logs } from '../history.js';

export interface MonitorOptions {
  /** The number that is watched: `valLoss` where left out. */
  monitor?: string;
  /**
   * Whether the least value is the best or the largest: as the loss and the metrics of the run have it
   * where left out. Needed for all other numbers.
   */
  mode?: 'min' | 'max';
  /** The least change that counts; 0 where left out. */
  minDelta?: number;
}

/** Watches whether a number gets better. */
export class Monitor {
  readonly name: string;
  /** Once a run has begun, what it is watched for. */
  mode: 'min' | 'max' = 'min';
  private readonly given: 'min' | 'max' | undefined;
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
    this.given = mode;
    this.minDelta = expectRange(op, 'minDelta', minDelta, 0);
  }

  /** Learns what is best of the number; throws where nobody says it, or there will be no such number. */
  begin(run: Run): void {
    this.expectIn(run.names);
    const mode = this.given ?? run.modeOf(this.name);
    if (mode === null) {
      throw new TypeError(
        `${this.op}: mode must be given to monitor what does not tell its own best, got ${this.name}`,
      );
    }
    this.mode = mode;
  }

  /** The number in the logs of an epoch. */
  in(logs: Logs): number {
    this.expectIn(Object.keys(logs));
    return logs[this.name] as number;
  }

  /** Whether there will be such a number, where that is known. */
  private expectIn(names: readonly string[] | null): void {
    if (!names || names.includes(this.name)) return;
    throw new RangeError(
      `${this.op}: monitor must be one of ${names.join(', ')}, got ${this.name}`,
    );
  }

  /** Whether a number is better than the best, which it then becomes. */
  improves(value: number): boolean {
    const sign = this.mode === 'max' ? 1 : -1;
    const better =
      !Number.isNaN(value) && (this.best === null || sign * (value - this.best) > this.minDelta);
    if (better) this.best = value;
    return better;
  }
}
