/** What is looked at once, before training: whether targets are such as the loss expects. */
import { noGrad } from '../context.js';
import { max, min } from '../ops/reduce.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { LossRule } from './losses.js';

/**
 * Reads the range of the targets and compares it with the loss.
 * @param classes how many scores the model gives per row, where that is known
 */
export function expectTargets(
  op: string,
  { name, targets }: LossRule,
  target: Tensor,
  classes: number | null,
): void {
  if (target.size === 0 || targets === null || targets === 'numbers') return;
  const [low, high] = noGrad(() =>
    scope(() => [Number(min(target).item()), Number(max(target).item())] as const),
  );
  const most = targets === 'shares' ? 1 : (classes ?? Number.POSITIVE_INFINITY) - 1;
  // Numbers that are not finite are for the loss to report.
  if (!(low < 0 || high > most)) return;
  const wanted =
    targets === 'shares'
      ? 'targets in [0,1]'
      : `classes from 0${classes === null ? '' : ` to ${classes - 1}`}`;
  throw new RangeError(
    `${op}: the loss ${name} expects ${wanted}, got values from ${low} to ${high}`,
  );
}
