/**
 * The losses of an epoch. Steps leave theirs on the device; they are read some at a time, behind the
 * steps, so that no step waits for one. Adds up in float64, in the order of the steps. Bounds of the
 * targets are read with them; targets are kept until then, so that a wrong one can be named.
 */
import { outsideScopes } from '../context.js';
import { wide } from '../metrics/metric.js';
import { to } from '../ops/copy.js';
import { cat, stack } from '../ops/movement.js';
import { alias } from '../ops/view.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { Logs } from './history.js';
import type { Measured } from './steps.js';
import type { TargetCheck } from './targets.js';

const most = 64;
const longest = 500; // ms between two readings

/** What a checkpoint keeps of it. */
export interface LossLogState {
  sum: number;
  samples: number;
  batches: number;
}

interface Waiting extends Measured {
  target: Tensor | null;
  samples: number;
}

export class LossLog {
  private waiting: Waiting[] = [];
  private reading: Promise<void> = Promise.resolve();
  private last = performance.now();
  private sum = 0;
  private samples = 0;
  private batches = 0;
  /** The first batch whose loss was not a finite number. */
  bad: { batch: number; value: number } | null = null;
  /** The first batch with a target that the loss does not allow, and what to say of it. */
  wrong: { batch: number; told: string } | null = null;

  /**
   * @param check for targets that were not looked at before
   * @param afterReading called behind each reading
   */
  constructor(
    private readonly check: TargetCheck | null = null,
    private readonly afterReading: () => Promise<void> = async () => {},
  ) {}

  /** Takes a loss over; what it returns is to be awaited, so that readings do not pile up. */
  async add({ loss, bounds }: Measured, samples: number, target: Tensor | null): Promise<void> {
    this.waiting.push({
      loss: loss.keep(),
      bounds: bounds?.keep() ?? null,
      target: this.check && target ? alias(target).keep() : null,
      samples,
    });
    if (this.waiting.length < most && performance.now() - this.last < longest) return;
    const before = this.reading;
    this.reading = before.then(() => this.readNow()).then(this.afterReading);
    this.reading.catch(() => {});
    await before;
  }

  private async readNow(): Promise<void> {
    const taken = this.waiting;
    this.waiting = [];
    this.last = performance.now();
    if (taken.length === 0) return;
    const together = outsideScopes(() =>
      scope(() => {
        const rows = taken.map(({ bounds }) => bounds).filter((row) => row !== null);
        const losses = stack(taken.map(({ loss }) => loss));
        return rows.length === 0 ? wide(losses) : cat([to(losses, 'float64'), ...rows]);
      }),
    );
    try {
      const values = (await together.read()) as Float64Array;
      let at = taken.length;
      for (const [i, item] of taken.entries()) {
        const value = values[i] as number;
        const [low = 0, high = 0, fraction = 0] = item.bounds ? values.subarray(at, at + 3) : [];
        if (item.bounds) at += 3;
        if (!Number.isFinite(value)) this.bad ??= { batch: this.batches, value };
        const doubtful = item.bounds ? !this.check?.allows([low, high, fraction]) : false;
        if (item.target && !this.wrong && (doubtful || !Number.isFinite(value))) {
          const told = await this.check?.firstWrong(item.target);
          if (told) this.wrong = { batch: this.batches, told };
        }
        this.sum += value * item.samples;
        this.samples += item.samples;
        ++this.batches;
      }
    } finally {
      together.dispose();
      for (const item of taken) give(item);
    }
  }

  /** Reads what is left. */
  async settle(): Promise<void> {
    await this.reading;
    await this.readNow();
  }

  /** The mean as logs hold it; nothing before the first reading. */
  get known(): Logs {
    return this.samples === 0 ? {} : { loss: this.mean };
  }

  /** The mean over the samples whose losses were read. */
  get mean(): number {
    return this.sum / this.samples;
  }

  /** Gives back what was not read. */
  dispose(): void {
    for (const item of this.waiting) give(item);
    this.waiting = [];
  }

  stateDict(): LossLogState {
    const { sum, samples, batches } = this;
    return { sum, samples, batches };
  }

  loadStateDict({ sum, samples, batches }: LossLogState): void {
    Object.assign(this, { sum, samples, batches });
  }
}

function give({ loss, bounds, target }: Waiting): void {
  loss.dispose();
  bounds?.dispose();
  target?.dispose();
}
