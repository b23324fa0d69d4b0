/** A kernel that is timed, and how it is made of sizes and counts. */
export type BenchDType = 'float32' | 'bfloat16' | 'float16';

export interface KernelCase {
  name: string;
  op: string;
  dtype: BenchDType;
  /** What matrix products of float32 may use: 'highest' is float32, 'high' TF32. */
  precision: 'highest' | 'high';
  sizes: Sizes;
  /** Forward alone, or with the gradients of all floating inputs. */
  backward: boolean;
  flops: number;
  bytes: number;
  /** Relative error (norm of the difference by norm) above which a result is refused. */
  tolerance: number;
}

export type Sizes = Readonly<Record<string, number>>;

interface Shape {
  name: string;
  sizes: Sizes;
}

export const width: Record<BenchDType, number> = { float32: 4, bfloat16: 2, float16: 2 };
const tolerances: Record<BenchDType, number> = { float32: 2e-5, bfloat16: 2e-2, float16: 4e-3 };
const tf32Tolerance = 2e-3;

/** How `op` counts its work, of sizes and the bytes of one number. */
export interface Counts {
  flops(sizes: Sizes): number;
  bytes(sizes: Sizes, item: number): number;
}

interface Options {
  dtype?: BenchDType;
  precision?: 'highest' | 'high';
  backward?: boolean;
}

/** A case whose bytes are those of forward and backward together where it counts no operations. */
export function make(
  op: string,
  { name, sizes }: Shape,
  counts: Counts,
  options: Options,
): KernelCase {
  const { dtype = 'float32', precision = 'highest', backward = false } = options;
  const item = width[dtype];
  // Backward: the gradient of each of two operands costs a product of its own, attention recomputes.
  const factor = !backward ? 1 : op === 'attention' ? 3.5 : 3;
  const bound = counts.flops(sizes) === 0 ? 1 : factor;
  return {
    name: `${op} ${name}, ${precision === 'high' ? 'tf32' : dtype}${backward ? ', forward and backward' : ''}`,
    op,
    dtype,
    precision,
    sizes,
    backward,
    flops: counts.flops(sizes) * factor,
    bytes: counts.bytes(sizes, item) * bound,
    tolerance: precision === 'high' ? tf32Tolerance : tolerances[dtype],
  };
}
