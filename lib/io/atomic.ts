/**
 * Whole files or none: bytes go to a temporary file in the same folder, which takes the final name
 * only once it is on the disk (fsync, rename, fsync of the folder). Temporaries that a killed
 * process left behind are removed when the same file is written next.
 */
import { open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { threadId } from 'node:worker_threads';

const inUse = new Set<string>();
let count = 0;

/** Whether a process of this machine runs. */
function running(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Whether what a thread of a process of this machine made for itself has no owner any more.
 * @param known whether it is of this very thread, and in use
 */
export function ownerless(pid: number, thread: number, known: boolean): boolean {
  if (pid !== process.pid) return !running(pid);
  return thread === threadId && !known;
}

async function removeAbandoned(folder: string, base: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(`.${base}.`)) continue;
    const owner = /^(\d+)-(\d+)-\d+\.tmp$/.exec(name.slice(base.length + 2));
    const file = path.join(folder, name);
    if (owner && ownerless(Number(owner[1]), Number(owner[2]), inUse.has(file)))
      await rm(file, { force: true });
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes a file so that under its name there is always either the old content or the new. */
export async function writeAtomically(file: string, parts: Iterable<Uint8Array>): Promise<void> {
  const folder = path.dirname(path.resolve(file));
  const base = path.basename(file);
  const temporary = path.join(folder, `.${base}.${process.pid}-${threadId}-${++count}.tmp`);
  inUse.add(temporary);
  try {
    await removeAbandoned(folder, base);
    const handle = await open(temporary, 'w');
    try {
      for (const part of parts) await handle.writeFile(part);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
    await syncFolder(folder);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    inUse.delete(temporary);
  }
}
