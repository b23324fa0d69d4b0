/**
 * Turns of the event loop. Loops that only await what is at hand would leave it none, and with it
 * signals, timers and requests.
 */
let last = performance.now();

/** Notes that the event loop has just turned. */
export function turned(): void {
  last = performance.now();
}

/** Whether it turned more than so many milliseconds ago, as far as is known. */
export function turnDue(milliseconds: number): boolean {
  return performance.now() - last > milliseconds;
}

/** Lets it turn. */
export async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  turned();
}
