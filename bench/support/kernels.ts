/** Suites of kernels at sizes where the kernel's time is all that counts, per number of threads. */
import { noGrad, scope, setNumThreads, type Tensor } from 'nodegrad';
import { measureFloor } from './floor.js';
import { type Case, micro, type Row } from './micro.js';

export type Kernel = Omit<Case, 'run' | 'repeats'> & { op: () => Tensor };

/** 2²⁰ float32 in bytes: four times an L2 cache of one MiB, less than most last-level caches. */
export const million = 1 << 20;
export const megabytes = 4 * million;

export async function kernels(
  suite: string,
  threads: readonly number[],
  items: readonly Kernel[],
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const count of threads) {
    setNumThreads(count);
    const cases = items.map(({ op, ...item }) => ({
      ...item,
      repeats: 1,
      // A scope for each call, so that its output takes the memory of the one before.
      run: () => {
        noGrad(() => scope(() => void op()));
      },
    }));
    const title = `${suite}, ${count} thread${count > 1 ? 's' : ''}`;
    rows.push(...(await micro(title, cases, measureFloor(count, 0.3))));
  }
  return rows;
}
