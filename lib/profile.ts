/**
 * Profiler: what was called when, for how long, and what memory was held. Calls into native code
 * are timed on the host; kernels of the CPU are timed where they run, replayed ones too; those of a
 * GPU by events around each launch, a replay being one kernel. The profile's end waits for them.
 *
 * Off, it costs native code one load per call and per launch, and JavaScript nothing.
 */
import { writeFileSync } from 'node:fs';
import { around } from './around.js';
import { describe, expectBoolean, expectFunction, expectOptions } from './check.js';
import { native } from './native.js';

export interface ProfileOptions {
  /** Whether the table has a row per shape of the result; false where left out. */
  shapes?: boolean;
}

/** One row of the table: times in µs. */
export interface OpSummary {
  readonly name: string;
  /** 'call' from JavaScript, 'kernel' of a device, or a 'span' of {@link annotate}. */
  readonly kind: 'call' | 'kernel' | 'span';
  /** The result's, where shapes were asked for. */
  readonly shape: readonly number[] | null;
  readonly calls: number;
  /** Spent in all of them. */
  readonly total: number;
  readonly longest: number;
  /** Spent in kernels that a call ran at once, or launched on a GPU; 0 where others launched them. */
  readonly kernels: number;
}

type Raw = [
  kind: number,
  name: string,
  start: number,
  duration: number,
  thread: number,
  /** A GPU's kernel starts later. */
  launched: number,
  bytes: number,
  shape: number[] | null,
];

const kinds = ['call', 'kernel', 'span'] as const;
/** Calls that are part of the library's housekeeping, not of the user's program. */
const housekeeping = new Set(['release', 'releaseAll', 'adjustExternalMemory', 'profileBegin']);

let spans: Raw[] | null = null;
let zero = 0;

/** What {@link profile} gathered. */
export class Profile<T = unknown> {
  /** @internal */
  constructor(
    /** What the profiled function returned. */
    readonly result: T,
    private readonly events: readonly Raw[],
    private readonly options: ProfileOptions,
  ) {}

  /** The most bytes that tensors held after any call. */
  get peakBytes(): number {
    return this.events.reduce((most, event) => Math.max(most, event[6]), 0);
  }

  /** Rows by kind, name and, if asked for, shape; the longest total first. */
  summary(): OpSummary[] {
    const rows = new Map<string, { -readonly [K in keyof OpSummary]: OpSummary[K] }>();
    const inside = this.kernelsByCall();
    for (const [i, [kind, name, , duration, , , , shape]] of this.events.entries()) {
      if (housekeeping.has(name)) continue;
      const shown = this.options.shapes ? shape : null;
      const key = `${kind} ${name} ${shown}`;
      let row = rows.get(key);
      if (!row) {
        row = {
          name,
          kind: kinds[kind] as OpSummary['kind'],
          shape: shown,
          calls: 0,
          total: 0,
          longest: 0,
          kernels: 0,
        };
        rows.set(key, row);
      }
      ++row.calls;
      row.total += duration;
      row.longest = Math.max(row.longest, duration);
      row.kernels += inside.get(i) ?? 0;
    }
    return [...rows.values()].sort((a, b) => b.total - a.total);
  }

  /** The summary as lines of text. */
  table(rows = 30): string {
    const lines = [['name', 'kind', 'calls', 'total ms', 'mean µs', 'kernels ms', 'shape']];
    for (const row of this.summary().slice(0, rows)) {
      lines.push([
        row.name,
        row.kind,
        String(row.calls),
        (row.total / 1000).toFixed(3),
        (row.total / row.calls).toFixed(1),
        (row.kernels / 1000).toFixed(3),
        row.shape ? `[${row.shape}]` : '',
      ]);
    }
    const widths = (lines[0] as string[]).map((_, i) =>
      Math.max(...lines.map((line) => (line[i] as string).length)),
    );
    const text = lines.map((line) =>
      line
        .map((cell, i) =>
          i < 2 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number),
        )
        .join('  ')
        .trimEnd(),
    );
    return [...text, `peak: ${this.peakBytes} bytes`].join('\n');
  }

  /** The events in the form that chrome://tracing and Perfetto read. */
  trace(): { traceEvents: object[]; displayTimeUnit: 'ms' } {
    const pid = process.pid;
    const traceEvents: object[] = [];
    for (const [kind, name, ts, dur, thread, launched, bytes, shape] of this.events) {
      if (housekeeping.has(name)) continue;
      // In a row of their own: they overlap the calls of the thread that launched them.
      const tid = launched < ts ? thread + 1000 : thread;
      const args = shape ? { shape: `[${shape}]` } : {};
      traceEvents.push({ name, cat: kinds[kind], ph: 'X', ts, dur, pid, tid, args });
      if (bytes >= 0) {
        traceEvents.push({ name: 'bytes', ph: 'C', ts: ts + dur, pid, args: { held: bytes } });
      }
    }
    return { traceEvents, displayTimeUnit: 'ms' };
  }

  /** Writes the trace to a JSON file. */
  save(file: string): void {
    if (typeof file !== 'string') {
      throw new TypeError(`save: the file must be a path, got ${describe(file)}`);
    }
    writeFileSync(file, JSON.stringify(this.trace()));
  }

  /** Per call, the time of the kernels that were launched within it on its own thread. */
  private kernelsByCall(): Map<number, number> {
    const found = new Map<number, number>();
    const order = [...this.events.keys()].sort(
      (a, b) => (this.events[a] as Raw)[5] - (this.events[b] as Raw)[5],
    );
    const open = new Map<number, { at: number; end: number }>();
    for (const at of order) {
      const [kind, , , duration, thread, launched] = this.events[at] as Raw;
      if (kind === 0) open.set(thread, { at, end: launched + duration });
      if (kind !== 1) continue;
      const call = open.get(thread);
      if (call && launched <= call.end) found.set(call.at, (found.get(call.at) ?? 0) + duration);
    }
    return found;
  }
}

/**
 * Runs `fn`, which may be asynchronous, and gathers what every thread of the process called
 * meanwhile. One at a time.
 * @returns the profile, or a promise of it where `fn` returned one
 * @example
 * const run = await profile(async () => { for (const i of steps(20)) await step(x, y); });
 * console.log(run.table());
 * run.save('trace.json'); // for chrome://tracing or ui.perfetto.dev
 */
export function profile<T>(fn: () => Promise<T>, options?: ProfileOptions): Promise<Profile<T>>;
export function profile<T>(fn: () => T, options?: ProfileOptions): Profile<T>;
export function profile(fn: () => unknown, options: ProfileOptions = {}): unknown {
  expectFunction('profile', 'its first argument', fn);
  const { shapes = false } = expectOptions('profile', options, ['shapes']);
  expectBoolean('profile', 'shapes', shapes);
  if (spans) throw new Error('profile: a profile is being made already');
  const own: Raw[] = [];
  spans = own;
  native.profileBegin();
  zero = performance.now();
  const end = (): Raw[] => {
    spans = null;
    return [...(JSON.parse(native.profileEnd()) as Raw[]), ...own];
  };
  let result: unknown;
  try {
    result = fn();
  } catch (error) {
    end();
    throw error;
  }
  if (!(result instanceof Promise)) return new Profile(result, end(), { shapes });
  return result.then(
    (value) => new Profile(value, end(), { shapes }),
    (error) => {
      end();
      throw error;
    },
  );
}

/** Runs `fn`, which may be asynchronous, as a named span of the profile, if one is being made. */
export function annotate<T>(name: string, fn: () => T): T {
  if (typeof name !== 'string') {
    throw new TypeError(`annotate: the name must be a text, got ${describe(name)}`);
  }
  expectFunction('annotate', 'its second argument', fn);
  const list = spans;
  if (!list) return fn();
  const start = (performance.now() - zero) * 1000;
  return around(fn, () => {
    list.push([2, name, start, (performance.now() - zero) * 1000 - start, 0, start, -1, null]);
  });
}
