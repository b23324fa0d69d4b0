/** Reference vectors of PyTorch (test/vectors), and the formula that their inputs follow. */
import { readFileSync } from 'node:fs';
import { type Shape, type Tensor, tensor } from '../../lib/index.js';
import { count, type Nd, nd } from './nd.js';

/** Reads one of the files that test/vectors/generate.py wrote. */
export function readVectors<T>(name: string): { torch: string; cases: T[] } {
  return JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), 'utf8'));
}

/** Uniform numbers in [0, 1) of 24 bits: a hash of seed and position, as in generate.py. */
export function mixed(seed: number, n: number): Float64Array {
  return Float64Array.from({ length: n }, (_, i) => {
    let h = (i + Math.imul(seed, 0x9e3779b9)) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x45d9f3b);
    h = Math.imul(h ^ (h >>> 16), 0x45d9f3b);
    return ((h ^ (h >>> 16)) >>> 8) / 2 ** 24;
  });
}

/** generate.py's uniform(): numbers that float32 holds exactly, as a float64 tensor on the CPU. */
export function uniformOf(seed: number, shape: Shape, low = -1, high = 1): Tensor {
  const values = mixed(seed, count(shape)).map((u) => Math.fround(low + (high - low) * u));
  return tensor(values, shape, { dtype: 'float64', device: 'cpu' });
}

export interface Packed {
  shape: number[];
  values: number[];
}

export function unpacked({ shape, values }: Packed): Nd {
  return nd(shape, values);
}
