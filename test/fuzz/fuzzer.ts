/**
 * Calls the public API with arguments of all kinds and judges what comes back: a result, or an
 * exception with one clear sentence. Anything else is a defect.
 */
import { type Device, dtypes, memory, scope, setNumThreads, Tensor } from '../../lib/index.js';
import { Random } from '../support/random.js';
import { catalogue, type Entry } from './catalogue.js';
import { garbage, garbageTable } from './garbage.js';
import { Maker } from './maker.js';

export interface Outcome {
  readonly entry: Entry;
  /** Whether the call returned. */
  readonly valid: boolean;
  /** What is wrong with how it ended. */
  readonly defect?: string;
}

const memoryLimit = 64 * 2 ** 20;
const garbageShare = 0.35;

/** Words that may stand before the colon of an error: what users call, never native helpers. */
const speakers = new Set([
  ...catalogue.flatMap(({ name }) => [name, name.split('.').at(-1) as string]),
  ...catalogue.map(({ name }) => name.split('.').at(-2) as string),
  ...['init', 'kaiming', 'copy', 'draw', 'random', 'read', 'to', 'memory'],
  // What trains and measures: the methods, and losses and metrics by their names.
  ...['compile', 'fit', 'evaluate', 'predict', 'accuracy', 'binaryAccuracy', 'topKAccuracy'],
  ...['categoricalAccuracy', 'sparseCategoricalAccuracy', 'confusionMatrix', 'precision', 'recall'],
  ...['f1', 'auc', 'mse', 'mae', 'rmse', 'r2', 'frechetDistance'],
]);

/** Why an error is no clear sentence, or undefined where it is one. */
export function unclear(error: unknown): string | undefined {
  if (!(error instanceof Error)) return `threw ${typeof error}, no Error`;
  const { message } = error;
  const [, speaker] = /^([A-Za-z][\w.]*): \S/.exec(message) ?? [];
  if (!speaker || !speakers.has(speaker)) return `unclear: ${error.name}: ${message}`;
  if (message.includes('\n') || message.length > 600) return `not one sentence: ${message}`;
  return undefined;
}

/** Numbers the entries by how often they are called. */
const weighted: Entry[] = catalogue.flatMap((entry) =>
  new Array(Math.max(1, Math.round((entry.weight ?? 1) * 50))).fill(entry),
);

export class Fuzzer {
  private readonly maker: Maker;
  private readonly table: readonly unknown[];

  constructor(
    private readonly device: Device,
    seed: number,
    /** Milliseconds that a call may take. */
    private readonly longest: number = 3000,
  ) {
    this.maker = new Maker(device);
    this.table = garbageTable(seed);
    this.limit(memoryLimit);
  }

  /** One call, decided by two numbers and what the calls before have left. */
  async call(choice: number, seed: number, trace?: (text: string) => void): Promise<Outcome> {
    const entry = weighted[choice % weighted.length] as Entry;
    const random = new Random(seed);
    this.maker.random = random;
    const began = performance.now();
    let outcome: Outcome;
    try {
      const result = scope(() => {
        const args = this.arguments(entry, random);
        trace?.(`${entry.name}(${args.map(shown).join(', ')})`);
        return (entry.call as (...args: unknown[]) => unknown)(...args);
      });
      const settled = result instanceof Promise ? await result : result;
      const wrong = this.take(settled);
      outcome = { entry, valid: true, ...(wrong && { defect: wrong }) };
    } catch (error) {
      const wrong = unclear(error);
      outcome = { entry, valid: false, ...(wrong && { defect: wrong }) };
    }
    const took = performance.now() - began;
    if (took > this.longest) outcome = { ...outcome, defect: `took ${Math.round(took)} ms` };
    if (entry.name === 'setNumThreads') setNumThreads(2);
    if (entry.name.startsWith('memory')) this.limit(memoryLimit);
    return outcome;
  }

  dispose(): void {
    this.maker.dispose();
    this.limit(0);
  }

  /** Some calls make their tensors on the default device, whichever is fuzzed. */
  private limit(bytes: number): void {
    for (const each of [this.device, 'cpu']) memory.setLimit(bytes, each);
  }

  private arguments(entry: Entry, random: Random): unknown[] {
    const args = entry.args(this.maker);
    if (random.unit() >= garbageShare) return args;
    const pinned = entry.pinned ?? 0;
    for (let i = pinned; i < args.length; ++i) {
      if (random.unit() < 0.6) args[i] = this.garbage(random);
    }
    if (pinned > 0 && random.unit() < 0.2) {
      args[0] = random.unit() < 0.3 ? this.released() : (this.maker.any() ?? args[0]);
    }
    const fate = random.unit();
    if (fate < 0.1) args.length = Math.max(pinned, args.length - 1);
    else if (fate < 0.3) args.push(this.garbage(random));
    return args;
  }

  private garbage(random: Random): unknown {
    if (random.unit() < 0.05) return this.released();
    if (random.unit() < 0.25) return this.maker.any() ?? garbage(this.table, random);
    return garbage(this.table, random);
  }

  private released(): Tensor {
    const x = this.maker.make([2, 3], 'float32');
    x.dispose();
    return x;
  }

  /** Takes over the tensors of a result; says what is wrong with them. */
  private take(result: unknown, depth = 0): string | undefined {
    if (result instanceof Tensor) return this.takeTensor(result);
    if (depth > 2 || result === null || typeof result !== 'object') return undefined;
    const parts = result instanceof Map ? [...result.values()] : Object.values(result);
    for (const part of parts.slice(0, 50)) {
      const wrong = this.take(part, depth + 1);
      if (wrong) return wrong;
    }
    return undefined;
  }

  private takeTensor(x: Tensor): string | undefined {
    if (!dtypes.includes(x.dtype) || !x.shape.every((n) => Number.isSafeInteger(n) && n >= 0)) {
      return `made a tensor ${x.dtype}[${x.shape}]`;
    }
    if (x.released) return undefined;
    const { random } = this.maker;
    if (x.size < 4096 && random.unit() < 0.1 && x.data().length !== x.size) {
      return `has not as many values as its shape [${x.shape}] says`;
    }
    // Mostly without their graph, which would otherwise grow with every call.
    const kept = x.node && random.unit() < 0.9 ? x.detach() : x;
    this.maker.keep(kept);
    if (kept !== x) x.dispose();
    return undefined;
  }
}

/** An argument in few words. */
export function shown(value: unknown): string {
  if (value instanceof Tensor) {
    return `${value.released ? 'released ' : ''}${value.dtype}[${value.shape}]`;
  }
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return `[${Array.from(value.slice(0, 10), shallow).join(',')}]`;
  return shallow(value);
}

function shallow(value: unknown): string {
  if (value === null || typeof value !== 'object') return String(value);
  if (value instanceof Tensor) return shown(value);
  try {
    return JSON.stringify(value)?.slice(0, 80) ?? 'an object';
  } catch {
    return 'an object';
  }
}
