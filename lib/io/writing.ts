/** Files that a run writes: their folders are made, and errors name them. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';

/**
 * Does work on a file in its folder; an error of the system becomes one that names the file.
 * @param outcome what the file holds after an error, as in `, what it held is untouched`
 */
export async function writing<T>(
  op: string,
  file: string,
  work: () => Promise<T>,
  outcome = '',
): Promise<T> {
  try {
    await mkdir(path.dirname(path.resolve(file)), { recursive: true });
    return await work();
  } catch (error) {
    const { message, code, syscall } = error as NodeJS.ErrnoException;
    if (syscall === undefined) throw error;
    const why = code === 'ENOSPC' ? 'the disk is full' : message;
    throw new Error(`${op}: cannot write ${file}${outcome}: ${why}`, { cause: error });
  }
}
