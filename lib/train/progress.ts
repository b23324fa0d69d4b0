/**
 * What a run prints: on a terminal a bar per epoch that ends as its line, elsewhere the line alone.
 * Numbers on the bar are those read so far; nothing waits for them.
 */
import type { Writable } from 'node:stream';
import { Presets, SingleBar } from 'cli-progress';
import type { Logs } from './history.js';
import type { EpochTiming } from './timing.js';

/** A number with four digits that tell. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(3);
  return value.toFixed(size >= 100 ? 2 : 4);
}

function duration(ms: number): string {
  const s = ms / 1000;
  if (s < 1) return `${Math.round(ms)}ms`;
  if (s < 60) return `${Math.round(s)}s`;
  return `${Math.floor(s / 60)}m${String(Math.round(s % 60)).padStart(2, '0')}s`;
}

function numbers(logs: Logs): string {
  return Object.entries(logs)
    .map(([name, value]) => ` - ${name}: ${short(value)}`)
    .join('');
}

function speed({ seconds, waited, samplesPerSecond }: EpochTiming): string {
  const part = Math.round((100 * waited) / Math.max(1e-3, seconds));
  const rate = `${samplesPerSecond.toFixed(samplesPerSecond < 10 ? 1 : 0)} samples/s`;
  return ` ${rate}, waited ${duration(1000 * waited)} for data (${part}%)`;
}

export type Verbose = 0 | 1 | 2;

const widest = 24;

/** The lines of one run, or of one evaluation. */
export class Progress {
  private bar: SingleBar | null = null;
  private begun = 0;
  private done = 0;
  private total: number | null = null;
  private shown = 0;
  private readonly terminal: boolean;

  constructor(
    private readonly verbose: Verbose,
    private readonly output: Writable & { isTTY?: boolean },
  ) {
    this.terminal = verbose === 1 && output.isTTY === true;
  }

  /** @param title as in `Epoch 1/5`; none for an evaluation */
  begin(title: string, total: number | null, done = 0): void {
    this.begun = performance.now();
    Object.assign(this, { total, done, shown: 0 });
    if (this.verbose === 0) return;
    if (title !== '' && this.verbose === 1) this.output.write(`${title}\n`);
    if (title !== '' && this.verbose === 2) this.output.write(`${title} `);
    if (!this.terminal) return;
    this.bar = new SingleBar(
      {
        ...{ stream: this.output as NodeJS.WriteStream, barsize: widest, hideCursor: true },
        ...{ linewrap: false, etaBuffer: 50, forceRedraw: true, stopOnComplete: false },
        format: total === null ? ' {value} {rest}' : ' {value}/{total} {bar} {rest}',
      },
      Presets.shades_grey,
    );
    this.bar.start(total ?? 0, done, { rest: '' });
  }

  /** @param logs what is known of the epoch so far; asked for only where it is shown */
  step(logs: () => Logs): void {
    ++this.done;
    if (!this.bar || performance.now() - this.shown < 100) return;
    this.shown = performance.now();
    const left =
      this.total === null ? '' : `${duration(this.perStep * (this.total - this.done))} left`;
    this.bar.update(this.done, { rest: `${left}${numbers(logs())}` });
  }

  private get elapsed(): number {
    return performance.now() - this.begun;
  }

  private get perStep(): number {
    return this.elapsed / Math.max(1, this.done);
  }

  /** Whether numbers are shown while steps go on. */
  get showsSteps(): boolean {
    return this.terminal;
  }

  /** Ends the epoch with all its numbers. */
  end(logs: Logs, timing: EpochTiming | null): void {
    if (this.verbose === 0) return;
    const rest = `${duration(this.elapsed)} ${duration(this.perStep)}/step${timing ? speed(timing) : ''}${numbers(logs)}`;
    if (this.bar) {
      this.bar.update(this.done, { rest });
      this.bar.stop();
      this.bar = null;
    } else {
      this.output.write(`${this.done}/${this.total ?? this.done} - ${rest}\n`);
    }
  }

  /** Leaves the line where it is, as after an error. */
  abandon(): void {
    this.bar?.stop();
    this.bar = null;
  }
}
