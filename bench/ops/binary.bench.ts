/** Functions of two tensors of 2²⁰ float32: GB/s read and written, against a copy. */
import { randn } from 'nodegrad';
import { kernels, megabytes } from '../support/kernels.js';
import type { Row } from '../support/micro.js';

export default function binary(threads: readonly number[]): Promise<Row[]> {
  const a = randn([1024, 1024]).keep();
  const b = randn([1024, 1024]).keep();
  const row = randn([1024]).keep();
  const column = randn([1024, 1]).keep();
  return kernels('binary, 1M floats', threads, [
    { name: 'add', bytes: 3 * megabytes, op: () => a.add(b) },
    { name: 'mul by a number', bytes: 2 * megabytes, op: () => a.mul(2) },
    { name: 'add a row', bytes: 2 * megabytes, op: () => a.add(row) },
    { name: 'add a column', bytes: 2 * megabytes, op: () => a.add(column) },
    { name: 'add a transposed matrix', bytes: 3 * megabytes, op: () => a.add(b.transpose()) },
  ]);
}
