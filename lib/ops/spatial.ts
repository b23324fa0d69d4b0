/** What convolution and pooling share: options per axis, and inputs without a batch axis. */
import { describe, expectInteger, expectOneOf, expectTensor } from '../check.js';
import type { Tensor } from '../tensor.js';
import { permute, squeeze, unsqueeze } from './view.js';

/** One number for both axes, or [height, width]. */
export type Pair = number | readonly [number, number];

/** Where the channels of a sequence or of images are: before the places, or behind them. */
export type Layout1d = 'NCL' | 'NLC';
export type Layout2d = 'NCHW' | 'NHWC';

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
 * Calls f with x as a batch, channels first: of rank 4, or 3 for an input without a batch axis, which
 * the result then lacks too. The result has x's layout; only views change it.
 */
export function batched(
  op: string,
  x: Tensor,
  rank: 3 | 4,
  f: (x: Tensor) => Tensor,
  layout?: Layout1d | Layout2d,
): Tensor {
  expectTensor(op, x, 'x');
  const [first, last] = rank === 4 ? ['NCHW', 'NHWC'] : ['NCL', 'NLC'];
  const given = expectOneOf(op, 'layout', layout ?? first, [first, last] as string[]);
  if (x.rank === rank - 1) return squeeze(batched(op, unsqueeze(x, 0), rank, f, layout), 0);
  if (x.rank !== rank) {
    const [batch, single] = [[...given], [...given].slice(1)];
    throw new RangeError(`${op}: the input must be [${batch}] or [${single}], got [${x.shape}]`);
  }
  if (given === first) return f(x);
  const [there, back] =
    rank === 4
      ? [
          [0, 3, 1, 2],
          [0, 2, 3, 1],
        ]
      : [
          [0, 2, 1],
          [0, 2, 1],
        ];
  return permute(f(permute(x, there)), back);
}

/** Calls f with rows [N, C, L] as images [N, C, 1, L]; its result as rows again. */
export function asImages(rows: Tensor, f: (images: Tensor) => Tensor): Tensor {
  return squeeze(f(unsqueeze(rows, 2)), 2);
}
