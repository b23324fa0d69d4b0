/** How rivals are started: ours eager and captured, and PyTorch with its best settings. */
import { openblasEnvironment } from '../support/openblas.js';
import type { Rival, Setting } from './runner.js';

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
  { device, precision, threads }: Setting,
  args: readonly string[] = [],
  modes: readonly ('eager' | 'captured')[] = ['eager', 'captured'],
): Rival[] {
  const env = { BENCH_DEVICE: device, BENCH_PRECISION: precision };
  const torch = (title: string, more: Readonly<Record<string, string>>): Rival => ({
    name: title,
    threads,
    command: [
      process.env.PYTHON ?? '/usr/bin/python3',
      ...[file(`${name}_torch.py`), ...args, String(threads)],
    ],
    env: { ...env, ...more },
  });
  const blas = (count: number) => ({
    ...openblasEnvironment(),
    OPENBLAS_NUM_THREADS: String(count),
  });
  return [
    ...modes.map((mode) => ({
      name: `nodegrad ${mode}`,
      ours: mode,
      threads,
      command: [...node, file(`${name}_nodegrad.ts`), ...args, mode, String(threads)],
      env,
    })),
    ...(device !== 'cpu'
      ? [
          torch('PyTorch eager', { BENCH_FORM: 'eager' }),
          torch('PyTorch compiled, CUDA graphs', { BENCH_FORM: 'compiled' }),
        ]
      : threads === 1
        ? [torch('PyTorch', blas(1))]
        : // PyTorch's own loops and the BLAS have threads of their own; which serves better varies.
          [1, threads].map((count) => torch(`PyTorch, BLAS on ${count}`, blas(count)))),
  ];
}
