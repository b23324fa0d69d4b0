/**
 * What a test run may leave out is committed in test/skips.json, with the reason. A test asks here;
 * whatever is not on that list must run, so a forgotten skip fails.
 */
import { readFileSync } from 'node:fs';

interface Skip {
  /** What is left out; `*` stands for any text. */
  test: string;
  /** On which device, where it is not left out everywhere. */
  device?: string;
  reason: string;
}

const skips: Skip[] = JSON.parse(
  readFileSync(new URL('../skips.json', import.meta.url), 'utf8'),
).skips;

function matches(pattern: string, text: string): boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(text);
}

/** Why a test is left out on a device, or undefined where it must run. */
export function skipReason(test: string, device = ''): string | undefined {
  return skips.find(
    (skip) => matches(skip.test, test) && (skip.device === undefined || skip.device === device),
  )?.reason;
}

/** The whole list. */
export function allSkips(): readonly Skip[] {
  return skips;
}
