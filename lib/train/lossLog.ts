/**
 * The losses of an epoch. Steps leave theirs on the device; they are read some at a time, behind the
 * steps, so that no step waits for one. Adds up in float64, in the order of the steps.
 */
import { outsideScopes } from '../context.js';
import { wide } from '../metrics/metric.js';
import { stack } from '../ops/movement.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

const most = 64;
const longest = 500; // ms between two readings

/** What a checkpoint keeps of it. */
export interface LossLogState {
  sum: number;
  samples: number;
  batches: number;
}

export class LossLog {
  private waiting: { loss: Tensor; samples: number }[] = [];
  private reading: Promise<void> = Promise.resolve();
  private last = performance.now();
  private sum = 0;
  private samples = 0;
  private batches = 0;
  /** The first batch whose loss was not a finite number. */
  bad: { batch: number; value: number } | null = null;

  /** Takes a loss over; what it returns is to be awaited, so that readings do not pile up. */
  async add(loss: Tensor, samples: number): Promise<void> {
    this.waiting.push({ loss: loss.keep(), samples });
    if (this.waiting.length < most && performance.now() - this.last < longest) return;
    const before = this.reading;
    this.reading = before.then(() => this.readNow());
    this.reading.catch(() => {});
    await before;
  }

  private async readNow(): Promise<void> {
    const taken = this.waiting;
    this.waiting = [];
    this.last = performance.now();
    if (taken.length === 0) return;
    const together = outsideScopes(() => scope(() => wide(stack(taken.map(({ loss }) => loss)))));
    for (const { loss } of taken) loss.dispose();
    try {
      const values = (await together.read()) as Float32Array;
      for (const [i, { samples }] of taken.entries()) {
        const value = values[i] as number;
        if (!Number.isFinite(value)) this.bad ??= { batch: this.batches, value };
        this.sum += value * samples;
        this.samples += samples;
        ++this.batches;
      }
    } finally {
      together.dispose();
    }
  }

  /** Reads what is left. */
  async settle(): Promise<void> {
    await this.reading;
    await this.readNow();
  }

  /** The mean over the samples whose losses were read. */
  get mean(): number {
    return this.sum / this.samples;
  }

  /** Gives back what was not read. */
  dispose(): void {
    for (const { loss } of this.waiting) loss.dispose();
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
