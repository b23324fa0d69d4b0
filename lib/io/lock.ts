/**
 * One writer at a time of a file, among calls, threads, processes, and machines that share a folder.
 * The writer makes FILE.lock, which says who it is, and touches it as long as it works; others wait.
 * A lock whose process has ended, or that nobody touched for a minute, is taken away.
 */
import { randomUUID } from 'node:crypto';
import { open, readFile, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { threadId } from 'node:worker_threads';
import { ownerless } from './atomic.js';
import { sleep } from './sleep.js';
import { writing } from './writing.js';

const touchEvery = 10_000; // ms
const abandonedAfter = 60_000;
const pause = 100; // ms between two looks at another's lock

/** What the locks of this thread say. */
const held = new Set<string>();

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

/** When a file was touched last; null where there is none. */
async function touched(file: string): Promise<number | null> {
  try {
    return (await stat(file)).mtimeMs;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/** Whether a lock has no writer any more, by what it says and when it was touched. */
async function abandoned(lock: string): Promise<boolean> {
  const at = await touched(lock);
  if (at === null) return false;
  if (Date.now() - at > abandonedAfter) return true;
  const says = await readFile(lock, 'utf8').catch(() => '');
  const [host, pid, thread] = says.split(' ');
  return host === hostname() && ownerless(Number(pid), Number(thread), held.has(says));
}

/** Makes a lock, unless there is one. */
async function make(lock: string, says: string): Promise<boolean> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(lock, 'wx');
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
  try {
    await file.writeFile(says);
  } catch (error) {
    await rm(lock, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  return true;
}

/**
 * Takes an abandoned lock away. One at a time does it, who looks again first: else the lock might be
 * another's by then, who saw the same and was quicker.
 */
async function sweep(lock: string): Promise<void> {
  if (!(await abandoned(lock))) return;
  const guard = `${lock}.sweep`;
  if (!(await make(guard, ''))) {
    const at = await touched(guard);
    if (at !== null && Date.now() - at > abandonedAfter) await rm(guard, { force: true });
    return;
  }
  try {
    if (await abandoned(lock)) await rm(lock, { force: true });
  } finally {
    await rm(guard, { force: true });
  }
}

/**
 * What `work` gives, which no other writer of the file runs meanwhile.
 * @param signal ends the wait for another writer
 */
export async function withLock<T>(
  file: string,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const lock = `${path.resolve(file)}.lock`;
  const says = `${hostname()} ${process.pid} ${threadId} ${randomUUID()}`;
  held.add(says);
  let touch: NodeJS.Timeout | undefined;
  try {
    while (!(await make(lock, says))) {
      await sweep(lock);
      if ((await touched(lock)) !== null) await sleep(pause, signal);
    }
    touch = setInterval(() => {
      const now = new Date();
      utimes(lock, now, now).catch(() => {});
    }, touchEvery).unref();
    return await work();
  } finally {
    clearInterval(touch);
    held.delete(says);
    const left = await readFile(lock, 'utf8').catch(() => '');
    if (left === says) await rm(lock, { force: true });
  }
}

/**
 * Makes a file or a folder that is not there, unless another writer does; errors of the system name it.
 * @param op who asks, for errors
 */
export async function makeOnce(
  op: string,
  file: string,
  signal: AbortSignal | undefined,
  isThere: () => boolean,
  make: () => Promise<void>,
): Promise<void> {
  const unlessMade = async (): Promise<void> => {
    if (!isThere()) await make();
  };
  if (!isThere()) await writing(op, file, () => withLock(file, signal, unlessMade));
}
