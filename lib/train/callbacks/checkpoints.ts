/** Writes checkpoints as training goes. */
import { describe, expectInteger, expectOptions } from '../../check.js';
import { writing } from '../../io/writing.js';
import type { Tensor } from '../../tensor.js';
import type { Callback, Run } from '../callback.js';
import type { Logs } from '../history.js';
import { Monitor, type MonitorOptions } from './monitor.js';

export interface ModelCheckpointOptions extends MonitorOptions {
  /** The file that holds the run as it was after its best epoch. */
  best?: string;
  /**
   * The file that holds the run as it is: after each epoch, and where it is stopped or ended by an
   * error; but never with a loss or weights that are not finite.
   */
  last?: string;
  /** Batches after which `last` is written, too; only after epochs where left out. */
  everyBatches?: number;
}

/**
 * Saves the run, atomically, so that `fit(…, { resume: file })` goes on to the same bits: weights,
 * optimizer, random state, place in the data, numbers so far, state of the other callbacks.
 * @example new ModelCheckpoint({ best: 'best.safetensors', last: 'last.safetensors' })
 */
export class ModelCheckpoint implements Callback {
  readonly last = true;
  readonly leavesLogs = true;
  private readonly monitor: Monitor;
  private readonly files: { best: string | null; last: string | null };
  private readonly everyBatches: number;
  private resumed = false;

  constructor(options: ModelCheckpointOptions) {
    const given = expectOptions('ModelCheckpoint', options, [
      'best',
      'last',
      'everyBatches',
      'monitor',
      'mode',
      'minDelta',
    ]);
    const { best = null, last = null, everyBatches } = given;
    for (const file of [best, last]) {
      if (file !== null && (typeof file !== 'string' || file === '')) {
        throw new TypeError(`ModelCheckpoint: a file must be a path, got ${describe(file)}`);
      }
    }
    if (best === null && last === null) {
      throw new TypeError('ModelCheckpoint: needs a file for best or last');
    }
    this.files = { best, last };
    this.monitor = new Monitor('ModelCheckpoint', given);
    this.everyBatches =
      everyBatches === undefined
        ? Number.POSITIVE_INFINITY
        : expectInteger('ModelCheckpoint', 'everyBatches', everyBatches, 1);
  }

  async onTrainBegin(run: Run): Promise<void> {
    if (this.files.best) this.monitor.begin(run);
    if (!this.resumed) this.monitor.best = null;
    this.resumed = false;
    for (const file of Object.values(this.files)) {
      // A folder that cannot be made is told before the first epoch.
      if (file) await writing('ModelCheckpoint', file, async () => {});
    }
  }

  async onBatchEnd(batch: number, _: Tensor, run: Run): Promise<void> {
    const { last } = this.files;
    if (last && (batch + 1) % this.everyBatches === 0) await run.save(last);
  }

  async onEpochEnd(_: number, logs: Logs, run: Run): Promise<void> {
    const { best, last } = this.files;
    if (best && this.monitor.improves(this.monitor.in(logs))) await run.save(best);
    if (last) await run.save(last);
  }

  async onInterrupt(run: Run): Promise<void> {
    if (this.files.last) await run.save(this.files.last);
  }

  stateDict() {
    return { best: this.monitor.best };
  }

  loadStateDict({ best }: { best: number | null }): void {
    this.monitor.best = best;
    this.resumed = true;
  }
}
