/** Ctrl-C: work ends after the step in progress, a second one ends the process at once. */
import { existsSync } from 'node:fs';

/** A signal that Ctrl-C sets. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  return stop.signal;
}

/** Ends the process where the signal is set, and says how to go on from a checkpoint. */
export function leaveIfStopped(signal: AbortSignal, file: string | undefined): void {
  if (!signal.aborted) return;
  console.log(
    file && existsSync(file) ? `interrupted; go on with --resume ${file}` : 'interrupted',
  );
  process.exit(130);
}

/** What `work` gives, an `evaluate` or `predict` with this signal; where that ends it, leaves. */
export async function orLeave<T>(
  signal: AbortSignal,
  file: string | undefined,
  work: Promise<T>,
): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error === signal.reason) leaveIfStopped(signal, file);
    throw error;
  }
}
