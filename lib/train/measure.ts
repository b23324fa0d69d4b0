/** Loss and metrics of data that are not trained on. */
import type { Metric } from '../metrics/index.js';
import type { Feed, Ready } from './feed.js';
import type { Host } from './fit.js';
import type { Logs } from './history.js';
import { LossLog } from './lossLog.js';
import type { Progress } from './progress.js';

export interface MeasureOptions {
  /** What errors begin with, and what they say of the data. */
  op: string;
  part?: string;
  /** What they say of the time. */
  when?: string;
  progress: Progress | null;
  signal: AbortSignal | undefined;
  /** Batches after which to end; null where all count. */
  limit: number | null;
  /** Called with the first batch of what is not in memory, and with what must hold a wrong target. */
  look: (batch: Ready) => void;
}

/**
 * Goes once through a feed without training. What is in memory was looked at before.
 * @returns null where the signal ended it early: what a part of the data gives is no result
 */
export async function measure(
  { model, compiled, steps, check }: Pick<Host, 'model' | 'compiled' | 'steps' | 'check'>,
  feed: Feed,
  { op, part = '', when = '', progress, signal, limit, look }: MeasureOptions,
): Promise<Logs | null> {
  model.eval();
  const looked = feed.memory || !check.applies ? null : check;
  const losses = new LossLog(looked);
  for (const metric of compiled.metrics) metric.reset();
  progress?.begin('', limit ?? feed.length);
  const iterator = feed.epoch(0);
  let batches = 0;
  try {
    while (batches !== limit) {
      if (signal?.aborted) return null;
      const next = await iterator.next();
      if (next.done) break;
      const ready = feed.ready(next.value);
      if (batches === 0 && !feed.memory) look(ready);
      const samples = ready.inputs[0]?.shape[0] ?? 1;
      await losses.add(await steps.evaluate(ready, looked), samples, ready.target);
      ++batches;
      progress?.step(() => losses.known);
    }
    await losses.settle();
    const { bad, wrong } = losses;
    if (wrong) throw new RangeError(`${op}: ${wrong.told} of batch ${wrong.batch}${part}`);
    // By now it is known how many classes there are.
    if (bad && feed.memory) look(feed.memory);
    if (batches === 0) throw new Error(`${op}: the source${part} gave no batches`);
    const logs: Logs = { loss: losses.mean };
    for (const metric of compiled.metrics) {
      logs[metric.name] = await numberOf(metric, op, `${part}${when}`);
    }
    progress?.end(logs, null);
    return logs;
  } finally {
    await iterator.return?.();
    losses.dispose();
    progress?.abandon();
    for (const metric of compiled.metrics) metric.reset();
  }
}

/** What a metric has counted; an error about that says of which data. */
export async function numberOf(metric: Metric<number>, op: string, of: string): Promise<number> {
  const { name } = metric;
  try {
    return await metric.read();
  } catch (error) {
    if (!(error instanceof RangeError && error.message.startsWith(`${name}: `))) throw error;
    const rule = error.message.slice(name.length + 2);
    throw new RangeError(`${op}: ${name}${of}: ${rule}`, { cause: error });
  }
}
