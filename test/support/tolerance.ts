/**
 * How far a result may be from the float64 one, by dtype: relative to the larger of the element
 * itself and the root mean square of the whole result (so that a zero is not compared with zero).
 * Sums and products of K terms may be √K times as far.
 */
import type { DType } from '../../lib/index.js';

export type FloatingDType = 'float32' | 'float64' | 'bfloat16' | 'float16';
export const floatingDTypes: readonly FloatingDType[] = [
  'float32',
  'float64',
  'bfloat16',
  'float16',
];

/** float64 is bound by central differences and libm, the halves by three roundings. */
export const tolerance: Readonly<Record<FloatingDType, number>> = {
  float32: 1e-5,
  float64: 1e-12,
  bfloat16: 3 * 2 ** -8,
  float16: 3 * 2 ** -11,
};

/** A wider tolerance, with its reason. */
export interface Wider {
  readonly by: Partial<Record<FloatingDType, number>>;
  readonly because: string;
}

/** The tolerance of one comparison. */
export function toleranceOf(dtype: DType, terms = 1, wider?: Wider): number {
  const at = tolerance[dtype as FloatingDType] ?? 0;
  return at * Math.sqrt(Math.max(terms, 1)) * (wider?.by[dtype as FloatingDType] ?? 1);
}
