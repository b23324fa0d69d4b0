/**
 * Matrix products through the public API: GFLOP/s, against the FMA peak. Against oneDNN and
 * OpenBLAS they are timed without JavaScript, by bench/native.
 */
import { linear, randn } from 'nodegrad';
import { type Kernel, kernels } from '../support/kernels.js';
import type { Row } from '../support/micro.js';

/** x · Wᵀ + b with ReLU: [m, k] by [n, k]. */
function layer(m: number, n: number, k: number): Kernel {
  const x = randn([m, k]).keep();
  const weight = randn([n, k]).keep();
  const bias = randn([n]).keep();
  return {
    name: `linear, ${m}x${n}x${k}`,
    flops: 2 * m * n * k,
    op: () => linear(x, weight, bias, { activation: 'relu' }),
  };
}

function square(n: number): Kernel {
  const a = randn([n, n]).keep();
  const b = randn([n, n]).keep();
  return { name: `matmul, ${n}x${n}x${n}`, flops: 2 * n ** 3, op: () => a.matmul(b) };
}

export default function gemm(threads: readonly number[]): Promise<Row[]> {
  return kernels('gemm', threads, [
    layer(100, 256, 784),
    layer(100, 128, 256),
    layer(100, 10, 128),
    layer(32, 1024, 256),
    square(128),
    square(512),
    square(1024),
  ]);
}
