/** Functions of one tensor of 2²⁰ float32: GB/s read and written, against a copy. */
import { randn } from 'nodegrad';
import { kernels, megabytes, million } from '../support/kernels.js';
import type { Row } from '../support/micro.js';

export default function unary(threads: readonly number[]): Promise<Row[]> {
  const x = randn([million]).keep();
  const bytes = 2 * megabytes;
  return kernels('unary, 1M floats', threads, [
    { name: 'clone', bytes, op: () => x.clone() },
    { name: 'relu', bytes, op: () => x.relu() },
    { name: 'exp', bytes, op: () => x.exp() },
    { name: 'tanh', bytes, op: () => x.tanh() },
    { name: 'gelu', bytes, op: () => x.gelu() },
  ]);
}
