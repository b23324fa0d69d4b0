/** Comparisons that say where two results part. */
import { expect } from 'vitest';
import type { Tensor } from '../../lib/index.js';
import { count, type Nd, nd } from './nd.js';

/** A tensor's values as float64 (int64 must be safe integers). */
export function valuesOf(x: Tensor): Nd {
  return nd(x.shape, Float64Array.from(x.data() as unknown as ArrayLike<number>, Number));
}

function position(at: number, shape: readonly number[]): string {
  const index: number[] = [];
  let rest = at;
  for (const size of [...shape].reverse()) {
    index.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return `[${index}]`;
}

/** The root mean square of the finite values. */
function scaleOf(data: Float64Array): number {
  let sum = 0;
  let n = 0;
  for (const value of data) {
    if (Number.isFinite(value)) {
      sum += value * value;
      ++n;
    }
  }
  return n > 0 ? Math.sqrt(sum / n) : 0;
}

/**
 * Requires equal shapes and values within `tolerance` times the larger of |expected| and the
 * expected values' root mean square. NaN equals NaN, infinities must have their sign.
 */
export function expectClose(actual: Nd, expected: Nd, tolerance: number, what: string): void {
  expect(actual.shape, `${what}: shape`).toEqual(expected.shape);
  const scale = scaleOf(expected.data);
  let worst = 0;
  let where = -1;
  for (let i = 0; i < expected.data.length; ++i) {
    const a = actual.data[i] as number;
    const e = expected.data[i] as number;
    if (Object.is(a, e) || a === e) continue;
    const bound = tolerance * Math.max(Math.abs(e), scale);
    const ratio =
      Number.isFinite(a) && Number.isFinite(e) && bound > 0
        ? Math.abs(a - e) / bound
        : Number.POSITIVE_INFINITY;
    if (ratio > worst) {
      worst = ratio;
      where = i;
    }
  }
  if (worst > 1) {
    expect.fail(
      `${what}: at ${position(where, expected.shape)} of [${expected.shape}] got ` +
        `${actual.data[where]}, expected ${expected.data[where]} ` +
        `(${worst.toPrecision(3)} times the tolerance of ${tolerance})`,
    );
  }
}

/** The bytes of a tensor's values. */
export function bytesOf(x: Tensor): Uint8Array {
  const data = x.data();
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Requires the same shape, dtype and bits. */
export function expectSameBits(actual: Tensor, expected: Tensor, what: string): void {
  expect(actual.shape, `${what}: shape`).toEqual(expected.shape);
  expect(actual.dtype, `${what}: dtype`).toBe(expected.dtype);
  const a = bytesOf(actual);
  const e = bytesOf(expected);
  const differs = a.findIndex((byte, i) => byte !== e[i]);
  if (differs >= 0) {
    const element = Math.floor(differs / (a.length / Math.max(count(expected.shape), 1)));
    expect.fail(
      `${what}: bits differ from ${position(element, expected.shape)} of [${expected.shape}] on: ` +
        `${actual.data()[element]} and ${expected.data()[element]}`,
    );
  }
}
