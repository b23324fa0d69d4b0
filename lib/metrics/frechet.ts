/**
 * The Fréchet distance of two clouds of points, each taken for a normal distribution: how far what a
 * model generates lies from what is real, by features of both. Sums are added up on the device; the
 * square root of a matrix is taken on the host, by eigenvalues.
 * Source: Heusel et al. 2017, with the features of any network.
 */
import { describe, expectOptions } from '../check.js';
import { to } from '../ops/copy.js';
import { full } from '../ops/fill.js';
import { matmul } from '../ops/gemm.js';
import { cat } from '../ops/movement.js';
import { sum } from '../ops/reduce.js';
import { reshape, transpose } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import { Metric } from './metric.js';

/** A square matrix, row by row. */
type Matrix = Float64Array;

/**
 * Eigenvalues of a symmetric matrix, which is overwritten, and eigenvectors as rows: Jacobi's method,
 * cyclic. Golub and Van Loan, "Matrix Computations", 8.5.
 */
function eigen(a: Matrix, n: number): { values: Float64Array; vectors: Matrix } {
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; ++i) vectors[i * n + i] = 1;
  const at = (i: number, j: number): number => a[i * n + j] as number;
  const turnRows = (x: Matrix, p: number, q: number, c: number, s: number): void => {
    for (let k = 0; k < n; ++k) {
      const [xp, xq] = [x[p * n + k] as number, x[q * n + k] as number];
      x[p * n + k] = c * xp - s * xq;
      x[q * n + k] = s * xp + c * xq;
    }
  };
  const size = a.reduce((total, value) => total + value * value, 0);
  for (let sweep = 0; sweep < 60; ++sweep) {
    let off = 0;
    for (let p = 0; p < n; ++p) for (let q = p + 1; q < n; ++q) off += at(p, q) ** 2;
    if (!(off > 1e-30 * size)) break;
    for (let p = 0; p < n; ++p) {
      for (let q = p + 1; q < n; ++q) {
        if (at(p, q) === 0) continue;
        const tau = (at(q, q) - at(p, p)) / (2 * at(p, q));
        const t = (tau >= 0 ? 1 : -1) / (Math.abs(tau) + Math.hypot(1, tau));
        const c = 1 / Math.hypot(1, t);
        const s = t * c;
        for (let k = 0; k < n; ++k) {
          const [xp, xq] = [at(k, p), at(k, q)];
          a[k * n + p] = c * xp - s * xq;
          a[k * n + q] = s * xp + c * xq;
        }
        turnRows(a, p, q, c, s);
        turnRows(vectors, p, q, c, s);
      }
    }
  }
  return { values: Float64Array.from({ length: n }, (_, i) => at(i, i)), vectors };
}

/** x · yᵀ */
function product(x: Matrix, y: Matrix, n: number): Matrix {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; ++i) {
    for (let j = 0; j < n; ++j) {
      let total = 0;
      for (let k = 0; k < n; ++k) total += (x[i * n + k] as number) * (y[j * n + k] as number);
      out[i * n + j] = total;
    }
  }
  return out;
}

const root = (value: number): number => Math.sqrt(Math.max(0, value));

/** tr √(a · b) of covariances: the roots of the eigenvalues of √a · b · √a, which is symmetric. */
function traceOfRoot(a: Matrix, b: Matrix, n: number): number {
  const { values, vectors: half } = eigen(a.slice(), n);
  for (let i = 0; i < n; ++i) {
    for (let k = 0; k < n; ++k)
      half[i * n + k] = (half[i * n + k] as number) * root(values[i] as number);
  }
  const middle = product(product(half, b, n), half, n);
  return eigen(middle, n).values.reduce((total, value) => total + root(value), 0);
}

/** Mean and covariance (divided by N - 1) from the count, the sums and the sums of products. */
function moments(sums: Float64Array, n: number): { mean: Float64Array; covariance: Matrix } {
  const count = sums[0] as number;
  const mean = sums.subarray(1, n + 1).map((total) => total / count);
  const covariance = sums.slice(n + 1);
  for (let i = 0; i < n; ++i) {
    for (let j = 0; j < n; ++j) {
      const both =
        (covariance[i * n + j] as number) - count * (mean[i] as number) * (mean[j] as number);
      covariance[i * n + j] = both / (count - 1);
    }
  }
  return { mean, covariance };
}

/** The count, the sums and the sums of products of features [N, F], as one row. */
function sumsOf(features: Tensor): Tensor {
  const x = to(features, 'float64');
  const count = full([1], x.shape[0] as number, { dtype: 'float64', device: x.device });
  return cat([count, sum(x, 0), reshape(matmul(transpose(x, 0, 1), x), [-1])]);
}

/**
 * |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2√(Σ₁Σ₂)) of features [N, F] of what was generated and [M, F] of what is
 * real; N and M may differ. 0 where means and covariances agree; NaN before each side has two rows.
 * @example
 * const distance = new metrics.FrechetDistance();
 * distance.update(features.forward(generated), features.forward(real));
 */
export class FrechetDistance extends Metric {
  readonly mode = 'min';
  constructor(options: { name?: string } = {}) {
    super(expectOptions('FrechetDistance', options, ['name']).name ?? 'frechetDistance');
  }

  measure(generated: Tensor, real: Tensor): Tensor {
    if (generated.rank !== 2 || real.rank !== 2 || generated.shape[1] !== real.shape[1]) {
      throw new RangeError(
        `${this.name}: needs features [N,F] and [M,F], got ${describe(generated)} and ${describe(real)}`,
      );
    }
    return cat([sumsOf(generated), sumsOf(real)]);
  }

  protected result(sums: Float64Array | null): number {
    if (!sums) return Number.NaN;
    const half = sums.length / 2; // 1 + F + F²
    const n = Math.round((Math.sqrt(4 * half - 3) - 1) / 2);
    const [a, b] = [moments(sums.subarray(0, half), n), moments(sums.subarray(half), n)];
    let distance = -2 * traceOfRoot(a.covariance, b.covariance, n);
    for (let i = 0; i < n; ++i) {
      distance += ((a.mean[i] as number) - (b.mean[i] as number)) ** 2;
      distance += (a.covariance[i * n + i] as number) + (b.covariance[i * n + i] as number);
    }
    return Math.max(0, distance);
  }
}
