/** Parameters by the number of their updates: what shares a step count shares its hyper-parameters. */
import { native } from '../native.js';
import { slice } from '../ops/view.js';
import type { Tensor } from '../tensor.js';

/**
 * Parameters of one group that have had the same number of updates. A parameter whose gradients
 * come later, or not at every step, is counted apart, as PyTorch does.
 */
export interface Cohort {
  hyper: Tensor;
  members: Set<Tensor>;
}

/** Whether each cohort is wholly active or not at all, as at every step but the first. */
export function sorted(cohorts: readonly Cohort[], active: ReadonlyMap<Tensor, Tensor>): boolean {
  let found = 0;
  for (const { members } of cohorts) {
    let count = 0;
    for (const parameter of members) if (active.has(parameter)) ++count;
    if (count !== 0 && count !== members.size) return false;
    found += count;
  }
  return found === active.size;
}

/**
 * The cohorts where each is either wholly active or not at all; the same array where they are so.
 * @param active on one device
 * @param fresh the hyper-parameters of those that are in no cohort yet
 */
export function arranged(
  cohorts: Cohort[],
  active: ReadonlySet<Tensor>,
  fresh: () => Tensor,
): Cohort[] {
  const unseen = new Set(active);
  const found: Cohort[] = [];
  for (const cohort of cohorts) {
    const moving = [...cohort.members].filter((p) => active.has(p));
    for (const p of moving) unseen.delete(p);
    if (moving.length === 0 || moving.length === cohort.members.size) {
      found.push(cohort);
      continue;
    }
    const staying = [...cohort.members].filter((p) => !active.has(p));
    found.push({ hyper: cohort.hyper, members: new Set(staying) });
    found.push({ hyper: cohort.hyper.clone().persist(), members: new Set(moving) });
  }
  if (unseen.size > 0) found.push({ hyper: fresh().persist(), members: unseen });
  // A new array only where something changed: captured steps depend on which one it is.
  return found.some((cohort, i) => cohort !== cohorts[i]) ? found : cohorts;
}

/** Whether two cohorts have the same members. */
export function equal(a: ReadonlySet<Tensor>, b: ReadonlySet<Tensor>): boolean {
  return a.size === b.size && [...a].every((item) => b.has(item));
}

/** Writes one hyper-parameter in stream order. */
export function writeHyper(cohort: Cohort, at: number, value: number): void {
  const place = slice(cohort.hyper, 0, at, at + 1);
  native.writeBytes(place.h, Float64Array.of(value));
  place.dispose();
}
