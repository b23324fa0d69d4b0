/** Softmax and cross-entropy of 2²⁰ float32: GB/s read and written once, against a copy. */
import { arange, crossEntropy, randn } from 'nodegrad';
import { kernels, megabytes } from '../support/kernels.js';
import type { Row } from '../support/micro.js';

export default function softmax(threads: readonly number[]): Promise<Row[]> {
  const x = randn([1024, 1024]).keep();
  const short = randn([65_536, 16]).keep();
  const target = arange(1024, { dtype: 'int64' }).keep();
  return kernels('softmax, 1M floats', threads, [
    { name: 'softmax, rows of 1024', bytes: 2 * megabytes, op: () => x.softmax() },
    { name: 'softmax, rows of 16', bytes: 2 * megabytes, op: () => short.softmax() },
    { name: 'logSoftmax, rows of 1024', bytes: 2 * megabytes, op: () => x.logSoftmax() },
    {
      name: 'crossEntropy, rows of 1024',
      bytes: megabytes,
      against: 'read',
      op: () => crossEntropy(x, target),
    },
  ]);
}
