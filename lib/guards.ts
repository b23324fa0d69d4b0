/**
 * What a captured step depends on besides its arguments. While a step runs for recording, library
 * code reports each piece of host-side state that decides what is computed (train or eval, which
 * parameters require gradients, whether a gradient is there to be added to). A recording is
 * replayed only while all of it still has the values it had; afterwards the state is set to what
 * the step would have left.
 */

interface Observation {
  readonly owner: Record<string, unknown>;
  readonly key: string;
  readonly value: unknown;
}

/** What every step depends on: counts of the changes to hooks of modules. */
export const hostState = { moduleHooks: 0 };

/** The state that one run of a step read, with the values it found first. */
export class Guards {
  private readonly found = new Map<object, Map<string, unknown>>();

  constructor() {
    this.note(hostState, 'moduleHooks');
  }

  note(owner: object, key: string): void {
    let keys = this.found.get(owner);
    if (!keys) {
      keys = new Map();
      this.found.set(owner, keys);
    }
    if (!keys.has(key)) keys.set(key, (owner as Record<string, unknown>)[key]);
  }

  /** The observations as found at first. */
  before(): Observation[] {
    const list: Observation[] = [];
    for (const [owner, keys] of this.found) {
      for (const [key, value] of keys) {
        list.push({ owner: owner as Record<string, unknown>, key, value });
      }
    }
    return list;
  }

  /** What the run changed. */
  changes(): Observation[] {
    return this.before()
      .map(({ owner, key, value }) => ({ owner, key, before: value, value: owner[key] }))
      .filter(({ before, value }) => before !== value);
  }
}

export function guardsHold(observations: readonly Observation[]): boolean {
  for (const { owner, key, value } of observations) if (owner[key] !== value) return false;
  return true;
}

export function applyChanges(changes: readonly Observation[]): void {
  for (const { owner, key, value } of changes) owner[key] = value;
}

export type { Observation };

let active: Guards | null = null;

/** Whether a step is being watched. */
export function observed(): boolean {
  return active !== null;
}

/** Refuses a call that changes what recordings find in place, while a captured function runs. */
export function expectUncaptured(op: string, call: string): void {
  if (!active) return;
  throw new Error(
    `${op}: ${call} must be called outside the captured function, beside its calls, got a call in it`,
  );
}

/** Reports that `owner[key]` decides, or is about to be changed by, what is running. */
export function observe(owner: object, key: string): void {
  active?.note(owner, key);
}

/** Runs synchronous code and gathers what it depends on. */
export function watch<T>(guards: Guards, fn: () => T): T {
  const before = active;
  active = guards;
  try {
    return fn();
  } finally {
    active = before;
  }
}
