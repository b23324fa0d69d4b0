/**
 * One writer at a time of a file, among calls, threads, processes, and machines that share a folder.
 * The writer makes FILE.lock, which says who it is, and touches it as long as it works; others wait.
 * A lock whose process has ended, or that nobody touched for a minute, is taken away.
 */
import { link, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { threadId } from 'node:worker_threads';
import { running } from './atomic.js';

const touchEvery = 10_000; // ms
const abandonedAfter = 60_000;
const pause = 100; // ms between two looks at another's lock

/** What the locks of this thread say. */
const held = new Set<string>();
let count = 0;

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

/** Whether a lock has no writer any more, by what it says and when it was touched. */
function abandoned(says: string, touched: number): boolean {
  if (Date.now() - touched > abandonedAfter) return true;
  const [host, pid, thread] = says.split(' ');
  if (host !== hostname()) return false;
  if (Number(pid) !== process.pid) return !running(Number(pid));
  return Number(thread) === threadId && !held.has(says);
}

/** Makes the lock, unless there is one. */
async function make(lock: string, says: string): Promise<boolean> {
  try {
    await writeFile(lock, says, { flag: 'wx' });
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

/** Whether the lock is gone: its writer is done, or has ended without giving it back. */
async function removeAbandoned(lock: string): Promise<boolean> {
  try {
    const says = await readFile(lock, 'utf8');
    if (!abandoned(says, (await stat(lock)).mtimeMs)) return false;
    const aside = `${lock}.${process.pid}-${threadId}-${++count}`;
    await rename(lock, aside);
    // Another may have taken the same lock away and made its own: that one goes back.
    if ((await readFile(aside, 'utf8')) !== says) await link(aside, lock);
    await rm(aside);
    return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return true;
    throw error;
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
  const says = `${hostname()} ${process.pid} ${threadId} ${++count}`;
  held.add(says);
  let touch: NodeJS.Timeout | undefined;
  try {
    while (!(await make(lock, says))) {
      if (await removeAbandoned(lock)) continue;
      await sleep(pause, undefined, signal ? { signal } : {});
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
