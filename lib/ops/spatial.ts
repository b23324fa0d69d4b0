/** What convolution and pooling share: options per axis, and inputs without a batch axis. */
import { describe, expectInteger, expectTensor } from '../check.js';
import type { Tensor } from '../tensor.js';
import { squeeze, unsqueeze } from './view.js';

/** One number for both axes, or [height, width]. */
export type Pair = number | readonly [number, number];

const largest = 2 ** 31 - 1;

/** A whole number per axis. */
export function expectPair(
  op: string,
  name: string,
  value: unknown,
  least: number,
): [number, number] {
  if (typeof value === 'number') {
    const both = expectInteger(op, name, value, least, largest);
    return [both, both];
  }
  if (!Array.isArray(value) || value.length !== 2) {
    throw new TypeError(`${op}: ${name} must be a number or two, got ${describe(value)}`);
  }
  return [
    expectInteger(op, name, value[0], least, largest),
    expectInteger(op, name, value[1], least, largest),
  ];
}

/** A whole number for the one axis, given as itself or as [length]. */
export function expectSingle(op: string, name: string, value: unknown, least: number): number {
  const only: unknown = Array.isArray(value) && value.length === 1 ? value[0] : value;
  return expectInteger(op, name, only, least, largest);
}

/**
 * Calls f with x as a batch: rank 4, or 3 for an input without a batch axis, which the result then
 * lacks too.
 */
export function batched(op: string, x: Tensor, rank: 3 | 4, f: (x: Tensor) => Tensor): Tensor {
  expectTensor(op, x, 'x');
  if (x.rank === rank - 1) return squeeze(f(unsqueeze(x, 0)), 0);
  if (x.rank === rank) return f(x);
  const axes = rank === 4 ? '[N,C,H,W] or [C,H,W]' : '[N,C,L] or [C,L]';
  throw new RangeError(`${op}: the input must be ${axes}, got [${x.shape}]`);
}
