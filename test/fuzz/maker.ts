/** Makes the arguments of calls that should succeed, from a pool of small tensors. */
import {
  type Device,
  type DType,
  dtypes,
  noGrad,
  type Shape,
  type Tensor,
  tensor,
} from '../../lib/index.js';
import { count } from '../support/nd.js';
import type { Random } from '../support/random.js';

export const floats = ['float32', 'float64', 'bfloat16', 'float16'] as const;
const poolSize = 48;
/** Larger results are not kept: the next call could take minutes over them. */
const largestKept = 4096;

export class Maker {
  random!: Random;
  private readonly pool: Tensor[] = [];

  constructor(readonly device: Device) {}

  integer(low: number, high: number): number {
    return this.random.integer(low, high);
  }

  chance(probability: number): boolean {
    return this.random.unit() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return this.random.pick(items);
  }

  number(): number {
    return this.pick([0, 1, -1, 2, 0.5, this.random.between(-3, 3)]);
  }

  dtype(): DType {
    return this.pick(dtypes);
  }

  float(): DType {
    return this.pick(floats);
  }

  /** What products are made of: integers now and then. */
  numeric(): DType {
    return this.chance(0.25) ? this.pick(['int32', 'int64', 'uint8'] as const) : this.float();
  }

  shape(rank = this.integer(0, 4)): number[] {
    const most = [40, 40, 8, 5, 3][rank] ?? 2;
    return Array.from({ length: rank }, () => (this.chance(0.1) ? 0 : this.integer(1, most)));
  }

  /** A new tensor, now and then as a view with strides of its own. */
  make(shape: Shape, dtype: DType): Tensor {
    return noGrad(() => {
      const flipped = this.chance(0.3) && shape.length > 1;
      const sizes = flipped ? [...shape].reverse() : shape;
      const values = Float64Array.from({ length: count(sizes) }, () => this.random.between(-3, 3));
      const made = tensor(values, sizes, { dtype, device: this.device });
      return flipped ? made.permute(sizes.map((_, axis) => sizes.length - 1 - axis)) : made;
    });
  }

  /** A tensor of the pool that will do, or a new one. */
  tensor(dtype: DType | null = null, rank: number | null = null): Tensor {
    for (let tries = 0; tries < 4 && this.pool.length > 0; ++tries) {
      const found = this.pick(this.pool);
      const fits =
        !found.released &&
        (dtype === null || found.dtype === dtype) &&
        (rank === null || found.rank === rank);
      if (fits) return found;
    }
    return this.make(this.shape(rank ?? undefined), dtype ?? this.dtype());
  }

  floating(rank: number | null = null): Tensor {
    return this.tensor(this.float(), rank);
  }

  /** A leaf that requires a gradient. */
  leaf(rank: number | null = null): Tensor {
    const shape = this.shape(rank ?? undefined);
    return this.make(shape, this.float()).detach().requireGrad();
  }

  /** A tensor that broadcasts with x. */
  beside(x: Tensor, dtype: DType = x.dtype): Tensor {
    const shape = x.shape.map((size) => (this.chance(0.2) ? 1 : size));
    return this.make(this.chance(0.2) ? shape.slice(this.integer(0, x.rank)) : shape, dtype);
  }

  axis(x: Tensor): number {
    return x.rank === 0 ? 0 : this.integer(-x.rank, x.rank - 1);
  }

  axes(x: Tensor): number | number[] | undefined {
    if (x.rank === 0 || this.chance(0.3)) return undefined;
    if (this.chance(0.5)) return this.axis(x);
    return x.shape.flatMap((_, axis) => (this.chance(0.5) ? [axis] : []));
  }

  /** int64 numbers below `size`. */
  index(length: number, size: number): Tensor {
    const values = Array.from({ length }, () => BigInt(this.integer(0, Math.max(size - 1, 0))));
    return tensor(BigInt64Array.from(values), { device: this.device });
  }

  options(): { device: Device; dtype: DType } {
    return { device: this.device, dtype: this.dtype() };
  }

  /** Puts a result in the pool, in the place of an older tensor, which is released. */
  keep(result: Tensor): void {
    if (result.released || result.persistent || this.pool.includes(result)) return;
    if (result.size > largestKept || result.device !== this.device) {
      result.dispose();
      return;
    }
    result.keep();
    if (this.pool.length < poolSize) {
      this.pool.push(result);
      return;
    }
    const at = this.integer(0, poolSize - 1);
    this.pool[at]?.dispose();
    this.pool[at] = result;
  }

  /** Any tensor of the pool, released ones included. */
  any(): Tensor | undefined {
    return this.pool.length > 0 ? this.pick(this.pool) : undefined;
  }

  dispose(): void {
    for (const kept of this.pool) kept.dispose();
    this.pool.length = 0;
  }
}
