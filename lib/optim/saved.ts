/** Options of optimizers as tensors, so that they are saved with the rest of the state. */
import { describe } from '../check.js';
import { cpu } from '../device.js';
import { isFloating } from '../dtype.js';
import { tensor } from '../ops/fill.js';
import type { Tensor } from '../tensor.js';

/** @internal A number, numbers or a choice as float64, bool or the text's bytes. */
export function packOption(value: unknown): Tensor {
  if (typeof value === 'string')
    return tensor(Uint8Array.from(Buffer.from(value)), { device: cpu });
  const dtype = typeof value === 'boolean' ? 'bool' : 'float64';
  return tensor(value as number | number[] | boolean, { dtype, device: cpu });
}

/** @internal What {@link packOption} packed, of the kind of `like`. */
export function unpackOption<T>(op: string, name: string, saved: Tensor, like: T): T {
  const { dtype, size, rank } = saved;
  const values = saved.data();
  const count = Array.isArray(like) ? like.length : 1;
  let value: unknown;
  if (typeof like === 'string') {
    if (dtype === 'uint8' && rank === 1) value = Buffer.from(values as Uint8Array).toString();
  } else if (typeof like === 'boolean') {
    if (dtype === 'bool' && size === 1) value = values[0] !== 0;
  } else if (isFloating(dtype) && size === count) {
    const numbers = Array.from(values, Number);
    value = Array.isArray(like) ? numbers : numbers[0];
  }
  if (value !== undefined) return value as T;
  throw new TypeError(
    `${op}: ${name} must be saved as ${describe(like)} is, got ${describe(saved)}`,
  );
}
