/**
 * capture(fn): a training step that is recorded once and then replayed whole, in one native call
 * on a native thread, so that small networks do not pay for each op and the event loop stays free.
 *
 * Per signature (shapes, dtypes and device of the tensors, values of the other arguments, and the
 * host-side state in lib/guards.ts) the first call runs eagerly, the second records and then runs
 * what it recorded, later ones replay. Recording runs nothing, so a step that cannot be captured
 * fails without having changed anything on the device.
 */
import { forgetCasts, withoutCasts } from './autocast.js';
import { record, watched } from './autograd.js';
import { describe } from './check.js';
import { context, rootContext, runInContext } from './context.js';
import { type Device, getDefaultDevice } from './device.js';
import { applyChanges, Guards, guardsHold, type Observation, watch } from './guards.js';
import { native } from './native.js';
import { getMatmulBackend, getMatmulPrecision } from './ops/gemm.js';
import { Scope, visitTensors } from './scope.js';
import { Tensor, take } from './tensor.js';
import { turn, turnDue, turned } from './turns.js';

/** A captured function: the same arguments, and a promise of the result. */
export interface CapturedStep<A extends unknown[], R> {
  /** Resolves when the step is enqueued; reading a value of the result waits for it. */
  (...args: A): Promise<R>;
  /** Gives the recordings back. */
  dispose(): void;
  /** How many signatures were recorded. */
  readonly recordings: number;
}

interface Recording {
  number: number;
  guards: Observation[];
  changes: Observation[];
  device: Device;
  result: unknown;
  used: number;
}

/** A signature that has run eagerly once: what it read, before and after. */
interface Warm {
  before: Observation[];
  after: Observation[];
}

const mostInFlight = 4;
const mostRecordings = 32;
const millisecondsPerTurn = 4;

const identities = new WeakMap<object, number>();
let nextIdentity = 1;

function identity(value: object): number {
  let id = identities.get(value);
  if (!id) {
    id = nextIdentity++;
    identities.set(value, id);
  }
  return id;
}

function signatureOf(args: readonly unknown[]): string {
  const { grad, autocast } = context();
  let text = `${grad ? 'g' : 'n'}${autocast?.dtype ?? ''}${getMatmulPrecision()}${getMatmulBackend()}`;
  for (const arg of args) {
    if (arg instanceof Tensor) {
      text += `|${arg.dtype}[${arg.shape.join()}]${arg.device.name}${arg.requiresGrad ? 'r' : ''}`;
    } else if (arg !== null && (typeof arg === 'object' || typeof arg === 'function')) {
      text += `|#${identity(arg)}`;
    } else {
      text += `|${typeof arg}:${String(arg)}`;
    }
  }
  return text;
}

function deviceOf(tensors: readonly Tensor[], seen: Device | null): Device {
  const first = tensors[0]?.device ?? seen ?? getDefaultDevice();
  for (const tensor of tensors) {
    if (tensor.device !== first) {
      throw new Error(
        `capture: tensors must be on one device, got ${first.name} and ${tensor.device.name}`,
      );
    }
  }
  return first;
}

/** Stands for output number `at` in the remembered form of a result. */
class Placeholder {
  constructor(readonly at: number) {}
}

/** The same structure with every tensor replaced. */
function mapTensors(value: unknown, map: (item: Tensor | Placeholder) => unknown): unknown {
  if (value instanceof Tensor || value instanceof Placeholder) return map(value);
  if (Array.isArray(value)) return value.map((item) => mapTensors(item, map));
  if (value instanceof Map) {
    return new Map([...value].map(([key, item]) => [key, mapTensors(item, map)]));
  }
  if (
    value !== null &&
    typeof value === 'object' &&
    Object.getPrototypeOf(value) === Object.prototype
  ) {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, mapTensors(item, map)]),
    );
  }
  return value;
}

/** Runs the step once in a scope of its own, watched; what it returns leaves the scope. */
function runWatched<R>(guards: Guards, run: () => R, keepResult: (result: R) => void): R {
  const inner = new Scope(withoutCasts(context()));
  try {
    const result = runInContext(inner.context, () => watch(guards, run));
    if (result instanceof Promise) {
      result.catch(() => {});
      throw new TypeError('capture: the function must not be async; await the captured step');
    }
    keepResult(result);
    return result;
  } finally {
    inner.close();
  }
}

const abandoned = new FinalizationRegistry<Set<number>>((numbers) => {
  for (const number of numbers) native.releaseStep(number);
});

/**
 * Makes a step that is recorded and replayed. Its tensor arguments are copied in at each call, its
 * result is copied out; everything else it uses (parameters, gradients, optimizer state, learning
 * rate, random state) it finds on the device as it is at that moment.
 * @param fn not async; may not read values (`item`, `data`) while it is recorded
 * @example
 * const step = capture((x, y) => {
 *   optimizer.zeroGrad();
 *   const loss = criterion.forward(model.forward(x), y);
 *   loss.backward();
 *   optimizer.step();
 *   return loss;
 * });
 * for await (const [x, y] of loader) await step(x, y);
 */
export function capture<A extends unknown[], R>(fn: (...args: A) => R): CapturedStep<A, R> {
  if (typeof fn !== 'function') {
    throw new TypeError(`capture: expected a function, got ${describe(fn)}`);
  }
  const warm = new Map<string, Warm[]>();
  const recordings = new Map<string, Recording[]>();
  const numbers = new Set<number>();
  // The bytes that the eager run of a signature needed.
  const needs = new Map<string, number>();
  let clock = 0;
  // Where the results of the eager run were, for steps without tensors among their arguments.
  let seen: Device | null = null;

  function drop(recording: Recording): void {
    native.releaseStep(recording.number);
    numbers.delete(recording.number);
    for (const list of recordings.values()) {
      const at = list.indexOf(recording);
      if (at >= 0) list.splice(at, 1);
    }
  }

  function makeRoom(): void {
    if (numbers.size < mostRecordings) return;
    let oldest: Recording | undefined;
    for (const list of recordings.values()) {
      for (const candidate of list) {
        if (!oldest || candidate.used < oldest.used) oldest = candidate;
      }
    }
    if (oldest) drop(oldest);
  }

  function runEagerly(key: string, args: A): R {
    const guards = new Guards();
    const { scope } = context();
    const first = args.find((arg) => arg instanceof Tensor);
    const { code } = first?.device ?? seen ?? getDefaultDevice();
    native.measureBegin(code);
    const result = runWatched(
      guards,
      () => fn(...args),
      (value) =>
        visitTensors(value, (tensor) => {
          seen ??= tensor.device;
          leave(tensor, scope);
        }),
    );
    needs.set(key, native.measureEnd(code));
    const before = guards.before();
    // A step that neither takes nor gives tensors is where the gradients are that it works on.
    for (const { owner } of before) {
      if (owner.buffer instanceof Tensor) seen ??= owner.buffer.device;
    }
    const after = before.map(({ owner, key: name }) => ({ owner, key: name, value: owner[name] }));
    const known = warm.get(key) ?? [];
    known.push({ before, after });
    warm.set(key, known);
    return result;
  }

  function recordStep(key: string, args: A, tensors: Tensor[]): Recording {
    const on = deviceOf(tensors, seen);
    makeRoom();
    native.captureBegin(
      on.code,
      tensors.map((tensor) => tensor.h),
      needs.get(key) ?? 0,
    );
    const guards = new Guards();
    const detached = rootContext;
    const inputs = tensors.map((_, i) => take(i, on, detached));
    const outputs: Tensor[] = [];
    try {
      let at = 0;
      const own = args.map((arg) => (arg instanceof Tensor ? inputs[at++] : arg)) as A;
      let form: unknown;
      runWatched(
        guards,
        () => fn(...own),
        (result) => {
          form = mapTensors(result, (tensor) => {
            const { device, h } = tensor as Tensor;
            if (device !== on) {
              throw new Error(
                `capture: a step runs on one device, got ${on.name} and a result on ${device.name}`,
              );
            }
            native.alias(h);
            outputs.push(take(0, device, detached));
            return new Placeholder(outputs.length - 1);
          });
        },
      );
      const number = native.captureEnd(
        on.code,
        inputs.map((tensor) => tensor.h),
        outputs.map((tensor) => tensor.h),
      );
      numbers.add(number);
      return {
        number,
        guards: guards.before(),
        changes: guards.changes(),
        device: on,
        result: form,
        used: ++clock,
      };
    } catch (error) {
      native.captureAbort(on.code);
      applyChanges(guards.before());
      throw error;
    } finally {
      for (const tensor of [...inputs, ...outputs]) tensor.dispose();
    }
  }

  /** Null where the recording has made way for a larger one. */
  function replay(recording: Recording, tensors: Tensor[]): { result: R; inFlight: number } | null {
    recording.used = ++clock;
    const inFlight = native.replay(
      recording.number,
      tensors.map((tensor) => tensor.h),
    );
    if (inFlight < 0) return null;
    const owner = context();
    const result = mapTensors(recording.result, (place) =>
      record(
        'capture',
        null,
        take((place as Placeholder).at, recording.device, owner),
        tensors,
        null,
        null,
      ),
    ) as R;
    applyChanges(recording.changes);
    forgetCasts();
    return { result, inFlight };
  }

  async function step(...args: A): Promise<R> {
    const key = signatureOf(args);
    if (watched()) return runEagerly(key, args);
    const tensors = args.filter((arg) => arg instanceof Tensor) as Tensor[];
    const make = (): Recording => {
      const made = recordStep(key, args, tensors);
      recordings.set(key, [...(recordings.get(key) ?? []), made]);
      return made;
    };
    let recording = recordings.get(key)?.find(({ guards }) => guardsHold(guards));
    if (!recording) {
      const ranBefore = warm
        .get(key)
        ?.some(({ before, after }) => guardsHold(before) || guardsHold(after));
      if (!ranBefore) return runEagerly(key, args);
      recording = make();
    }
    let done = replay(recording, tensors);
    if (!done) {
      drop(recording);
      done = replay(make(), tensors) as NonNullable<typeof done>;
    }
    const { result, inFlight } = done;
    // Enqueuing must neither run far ahead of the device nor starve the event loop.
    if (inFlight >= mostInFlight) {
      await native.settle(recording.device.code, mostInFlight - 1);
      turned();
    } else if (turnDue(millisecondsPerTurn)) {
      await turn();
    }
    return result;
  }

  const captured = Object.assign(step, {
    dispose(): void {
      for (const list of [...recordings.values()]) for (const item of [...list]) drop(item);
      warm.clear();
      needs.clear();
    },
  }) as unknown as CapturedStep<A, R>;
  Object.defineProperty(captured, 'recordings', { get: () => numbers.size });
  abandoned.register(captured, numbers);
  return captured;
}

/** Gives a result to the caller's scope. */
function leave(tensor: Tensor, scope: Scope | null): void {
  if (tensor.scope) tensor.moveTo(scope);
}
