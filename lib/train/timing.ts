/** How long an epoch took, and how much of that its steps waited for data. */
import type { Device } from '../device.js';
import { native } from '../native.js';

/** Times of the training part of an epoch: validation and callbacks at its end are left out. */
export interface EpochTiming {
  seconds: number;
  /** Seconds in which the device had nothing to do, because the next batch was not there. */
  waited: number;
  samplesPerSecond: number;
}

/** Takes the times of one epoch, or of what is left of it. */
export class Timer {
  private readonly begun = performance.now();
  private samples = 0;
  private waited = 0;

  /** Waits for a batch, and counts how long a device waited that had nothing else to do. */
  async wait<T>(device: Device | null, batch: Promise<T>): Promise<T> {
    const asked = performance.now();
    let idle: number | null = device ? null : asked;
    if (device) {
      const note = (): void => {
        idle = performance.now();
      };
      native.settle(device.code, 0).then(note, note);
    }
    const found = await batch;
    if (idle !== null) this.waited += performance.now() - idle;
    return found;
  }

  count(samples: number): void {
    this.samples += samples;
  }

  get timing(): EpochTiming {
    const seconds = (performance.now() - this.begun) / 1000;
    const samplesPerSecond = seconds > 0 ? this.samples / seconds : 0;
    return { seconds, waited: this.waited / 1000, samplesPerSecond };
  }
}
