/**
 * One rival's side of the conversation with bench/models/runner.ts, a line of JSON each way:
 * after warming up it says what it is, then it answers every number of steps it is told to run
 * with the seconds they took by the clock and by the CPU time of the whole process.
 */
import { createInterface } from 'node:readline';

/** What a rival says of itself. */
export interface About {
  /** Name and version, and what it computes with. */
  version: string;
  details: string;
  /** The loss of the last of the first steps, which must agree among rivals. */
  loss: number;
}

export interface Answer {
  seconds: number;
  cpuSeconds: number;
}

export interface ServeOptions {
  /** How many steps come first, the last of whose losses is compared; 10 where left out. */
  checked?: number;
  /** How many steps follow before what is timed; 40 where left out. */
  warmUp?: number;
  /** Called between the two. */
  afterCheck?: () => void;
}

/** Set where the programs are only tried, on whatever device (rival.py reads it too). */
const tiny = process.env.BENCH_TINY === '1';

/**
 * Serves until the runner closes the line.
 * @param run runs so many steps and returns the last one's loss, read back
 */
export async function serve(
  about: Omit<About, 'loss'>,
  run: (steps: number) => Promise<number>,
  options: ServeOptions = {},
): Promise<void> {
  const { checked, warmUp } = tiny
    ? { checked: 2, warmUp: 1 }
    : { checked: 10, warmUp: 40, ...options };
  const loss = await run(checked);
  options.afterCheck?.();
  await run(warmUp);
  console.log(JSON.stringify({ ...about, loss } satisfies About));
  for await (const line of createInterface({ input: process.stdin })) {
    const before = process.cpuUsage();
    const start = performance.now();
    await run(Number(line));
    const seconds = (performance.now() - start) / 1e3;
    const { user, system } = process.cpuUsage(before);
    console.log(JSON.stringify({ seconds, cpuSeconds: (user + system) / 1e6 } satisfies Answer));
  }
}
