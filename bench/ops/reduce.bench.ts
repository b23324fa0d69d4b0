/** Reductions of 2²⁰ float32: GB/s read, against reading alone. */
import { randn } from 'nodegrad';
import { kernels, megabytes } from '../support/kernels.js';
import type { Row } from '../support/micro.js';

export default function reduce(threads: readonly number[]): Promise<Row[]> {
  const x = randn([1024, 1024]).keep();
  const whole = { bytes: megabytes, against: 'read' } as const;
  return kernels('reduce, 1M floats', threads, [
    { name: 'sum', ...whole, op: () => x.sum() },
    { name: 'sum of rows', ...whole, op: () => x.sum(1) },
    { name: 'sum of columns', ...whole, op: () => x.sum(0) },
    { name: 'max of rows', ...whole, op: () => x.max(1) },
    { name: 'argmax of rows', ...whole, op: () => x.argmax(1) },
  ]);
}
