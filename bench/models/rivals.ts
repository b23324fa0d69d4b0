/** How rivals are started: ours eager and captured, and PyTorch with its best settings. */
import { openblasEnvironment } from '../support/openblas.js';
import type { Rival } from './runner.js';

export const node = [process.execPath, '--import', 'tsx'];
export const file = (name: string): string => new URL(name, import.meta.url).pathname;

/**
 * Ours and PyTorch's of one workload, `<name>_nodegrad.ts … eager|captured THREADS` and
 * `<name>_torch.py … THREADS`.
 * @param args what both take before
 * @param modes in which ours runs
 */
export function oursAndPyTorch(
  name: string,
  threads: number,
  args: readonly string[] = [],
  modes: readonly ('eager' | 'captured')[] = ['eager', 'captured'],
): Rival[] {
  return [
    ...modes.map((mode) => ({
      name: `nodegrad ${mode}`,
      ours: mode,
      threads,
      command: [...node, file(`${name}_nodegrad.ts`), ...args, mode, String(threads)],
    })),
    // PyTorch's own loops and the BLAS have threads of their own; which serves better varies.
    ...(threads === 1 ? [1] : [1, threads]).map((blas) => ({
      name: threads === 1 ? 'PyTorch' : `PyTorch, BLAS on ${blas}`,
      threads,
      command: ['/usr/bin/python3', file(`${name}_torch.py`), ...args, String(threads)],
      env: { ...openblasEnvironment(), OPENBLAS_NUM_THREADS: String(blas) },
    })),
  ];
}
