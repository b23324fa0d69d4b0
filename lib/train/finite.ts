/** Where numbers stopped being finite. */
import { noGrad } from '../context.js';
import { isFloating } from '../dtype.js';
import type { Module } from '../nn/module.js';
import { stack } from '../ops/movement.js';
import { sum } from '../ops/reduce.js';
import { isfinite } from '../ops/unary.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { Ready } from './feed.js';

/** The first row with a number that is not finite, and of what; null where there is none. */
export function firstBadRow({ inputs, target }: Ready): string | null {
  const named: [string, Tensor | null][] = [
    ...inputs.map((x) => ['x', x] as [string, Tensor]),
    ['y', target],
  ];
  for (const [name, x] of named) {
    if (!x || !isFloating(x.dtype) || x.size === 0) continue;
    const values = x.data() as Float32Array;
    const at = values.findIndex((value) => !Number.isFinite(value));
    if (at < 0) continue;
    const rowSize = x.size / (x.shape[0] as number);
    return `${name} has ${values[at]} in row ${Math.floor(at / rowSize)}`;
  }
  return null;
}

/**
 * A step may spoil the weights after a loss that was finite.
 * @throws Error naming the parameter that is not to be saved
 */
export async function expectFiniteWeights(model: Module, file: string): Promise<void> {
  const named = [...model.namedParameters()].filter(([, p]) => isFloating(p.dtype));
  if (named.length === 0) return;
  const all = noGrad(() => scope(() => stack(named.map(([, p]) => sum(isfinite(p.detach()))))));
  const counts = (await all.read()) as ArrayLike<number | bigint>;
  all.dispose();
  const at = named.findIndex(([, p], i) => Number(counts[i]) < p.size);
  if (at < 0) return;
  throw new Error(
    `fit: weights must be finite to be saved, got NaN or Infinity in ${named[at]?.[0]}; ${file} is left as it was`,
  );
}
