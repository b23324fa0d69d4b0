/** Argument checks: one sentence per mistake, `op: rule, got values`. */
import { Tensor } from './tensor.js';

/** A value as errors print it. */
export function describe(value: unknown, depth = 0): string {
  if (value instanceof Tensor) return `a tensor ${value.dtype}[${value.shape.join(',')}]`;
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 60));
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) {
    if (depth > 2) return 'an array';
    return `[${Array.from(value.slice(0, 8), (item) => describe(item, depth + 1)).join(',')}]`;
  }
  if (value !== null && typeof value === 'object') {
    return `an object of ${Object.getPrototypeOf(value)?.constructor?.name ?? 'no class'}`;
  }
  return String(value);
}

/** An object that is no array and no tensor; `undefined` stands for an empty one. */
export function expectObject<T extends object>(op: string, value: T | undefined): T {
  if (value === undefined) return {} as T;
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    if (!(value instanceof Tensor)) return value;
  }
  throw new TypeError(`${op}: options must be an object, got ${describe(value)}`);
}

export type NameOf<T> = T extends unknown ? Extract<keyof T, string> : never;
/** A list of option names that has to be complete. */
export type AllNames<T, Known extends readonly NameOf<T>[]> = Known &
  (NameOf<T> extends Known[number] ? unknown : { missing: Exclude<NameOf<T>, Known[number]> });

/**
 * An object of options with no names but `known`; `undefined` stands for none. `known` has to list
 * every name of the options' type, or the call does not compile.
 */
export function expectOptions<T extends object, const Known extends readonly NameOf<T>[]>(
  op: string,
  value: T | undefined,
  known: AllNames<T, Known>,
): T {
  return expectNames(op, value, known);
}

/** {@link expectOptions} where the names are those of an object of defaults, or of a caller. */
export function expectNames<T extends object>(
  op: string,
  value: T | undefined,
  known: readonly string[],
): T {
  if (value === undefined) return {} as T;
  for (const name in expectObject(op, value)) {
    if (!holds(known, name)) throw unknownOption(op, name, known);
  }
  return value;
}

/** As `includes`, which takes twice the time on lists as short as those of options. */
function holds(names: readonly string[], name: string): boolean {
  for (let i = 0; i < names.length; ++i) if (names[i] === name) return true;
  return false;
}

function unknownOption(op: string, name: string, known: readonly string[]): TypeError {
  const near = known.find((other) => isNear(plainName(name), plainName(other)));
  const guess = near === undefined ? '' : `, perhaps ${near}`;
  return new TypeError(
    `${op}: unknown option ${name.slice(0, 60)}${guess}; known: ${known.join(', ')}`,
  );
}

/** The letters of a name alone, since `weight_decay` is meant for `weightDecay`. */
function plainName(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
}

/** Whether one is the other with one letter changed, left out or put in, or its beginning. */
function isNear(a: string, b: string): boolean {
  if (a.length > b.length) return isNear(b, a);
  let same = 0;
  while (same < a.length && a[same] === b[same]) ++same;
  if (same === a.length) return same > 2 || a.length === b.length;
  const rest = b.slice(same + 1);
  return rest === a.slice(same) || rest === a.slice(same + 1);
}

export function expectFunction<F>(op: string, name: string, value: F): F {
  if (typeof value === 'function') return value;
  throw new TypeError(`${op}: ${name} must be a function, got ${describe(value)}`);
}

export function expectTensor(op: string, value: unknown, name = 'its argument'): Tensor {
  if (!(value instanceof Tensor)) {
    throw new TypeError(`${op}: ${name} must be a tensor, got ${describe(value)}`);
  }
  if (!value.released) return value;
  throw new Error(
    `${op}: ${name} is a tensor that was released; tensors live until their scope ends, ` +
      'call .keep() on those that must outlive it',
  );
}

/** A tensor, or null where there is none. */
export function optionalTensor(op: string, value: unknown, name: string): Tensor | null {
  return value === undefined || value === null ? null : expectTensor(op, value, name);
}

/** Tensors by name. */
export function expectTensorMap(op: string, value: unknown): void {
  if (!(value instanceof Map)) {
    throw new TypeError(
      `${op}: the state must be a Map of tensors by name, got ${describe(value)}`,
    );
  }
  for (const [name, tensor] of value) {
    if (typeof name !== 'string' || !(tensor instanceof Tensor)) {
      throw new TypeError(
        `${op}: the state must be a Map of tensors by name, got ${describe(tensor)} at ${describe(name)}`,
      );
    }
  }
}

export function expectNumber(op: string, name: string, value: unknown): number {
  if (typeof value === 'number') return value;
  throw new TypeError(`${op}: ${name} must be a number, got ${describe(value)}`);
}

export function expectSignal(op: string, signal: unknown): AbortSignal | undefined {
  if (signal === undefined || signal instanceof AbortSignal) return signal;
  throw new TypeError(`${op}: signal must be an AbortSignal, got ${describe(signal)}`);
}

export function expectBoolean(op: string, name: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  throw new TypeError(`${op}: ${name} must be true or false, got ${describe(value)}`);
}

export function expectInteger(
  op: string,
  name: string,
  value: unknown,
  least = Number.MIN_SAFE_INTEGER,
  most = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) {
    return value;
  }
  const range =
    least === Number.MIN_SAFE_INTEGER
      ? 'an integer'
      : most === Number.MAX_SAFE_INTEGER
        ? `an integer of ${least} or more`
        : `an integer in [${least},${most}]`;
  throw new RangeError(`${op}: ${name} must be ${range}, got ${describe(value)}`);
}

/** A number in [least, most]; `open` leaves the upper end out. */
export function expectRange(
  op: string,
  name: string,
  value: unknown,
  least: number,
  most = Number.POSITIVE_INFINITY,
  open = false,
): number {
  const fits = typeof value === 'number' && value >= least && (open ? value < most : value <= most);
  if (fits) return value;
  throw new RangeError(
    `${op}: ${name} must be in [${least},${most}${open ? ')' : ']'}, got ${describe(value)}`,
  );
}

function isShape(value: unknown): value is readonly number[] {
  if (!Array.isArray(value) || value.length > 8) return false;
  for (let i = 0; i < value.length; ++i) if (!Number.isSafeInteger(value[i])) return false;
  return true;
}

export function expectShape(op: string, value: unknown): readonly number[] {
  if (isShape(value)) return value;
  throw new RangeError(
    `${op}: a shape must be an array of at most 8 integers, got ${describe(value)}`,
  );
}

/** An axis counted from the front. */
export function fromFront(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** An axis of a tensor of that rank, counted from the front; of a scalar 0 and -1, as in PyTorch. */
export function expectAxis(op: string, axis: unknown, rank: number, name = 'axis'): number {
  const axes = Math.max(rank, 1);
  return fromFront(expectInteger(op, name, axis, -axes, axes - 1), axes);
}

/** Several different axes, counted from the front. */
export function expectAxes(op: string, axes: unknown, rank: number, name = 'axis'): number[] {
  const list = (Array.isArray(axes) ? axes : [axes]).map((axis) =>
    expectAxis(op, axis, rank, name),
  );
  if (new Set(list).size !== list.length) {
    throw new RangeError(`${op}: axes must differ, got ${describe(axes)}`);
  }
  return list;
}

/** Axes as a bit mask; `undefined` stands for all of them. A scalar's axes 0 and -1 leave none. */
export function axesMask(op: string, axes: unknown, rank: number): number {
  if (axes === undefined || axes === null) return 2 ** rank - 1;
  let mask = 0;
  const count = Math.max(rank, 1);
  for (const axis of Array.isArray(axes) ? axes : [axes]) {
    if (!Number.isInteger(axis) || axis < -count || axis >= count) {
      throw new RangeError(`${op}: axes must be in [${-count},${count}), got ${describe(axes)}`);
    }
    const bit = 2 ** fromFront(axis, count);
    if (mask & bit) throw new RangeError(`${op}: axes must differ, got ${describe(axes)}`);
    mask |= bit;
  }
  return rank === 0 ? 0 : mask;
}

/** One of a list of words. */
export function expectOneOf<T extends string>(
  op: string,
  name: string,
  value: unknown,
  words: readonly T[],
): T {
  if (words.includes(value as T)) return value as T;
  throw new TypeError(`${op}: ${name} must be one of ${words.join(', ')}, got ${describe(value)}`);
}
