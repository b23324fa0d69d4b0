/** Waiting that a signal ends. */
import { setTimeout as after } from 'node:timers/promises';

/** Waits so many milliseconds; throws the signal's reason once that is set. */
export async function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  try {
    await after(milliseconds, undefined, signal ? { signal } : {});
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
