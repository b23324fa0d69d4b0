/**
 * From samples to a batch. A sample is a tuple or an object of parts; numbers, bigints, booleans,
 * typed arrays, nested arrays and tensors become one tensor per part with a new first axis B,
 * strings stay an array of B strings. A list of numbers is a vector where it is a part of a sample,
 * and a tuple of parts where it is the sample itself.
 */
import { describe } from '../check.js';
import { cpu } from '../device.js';
import { type DType, dtypeOfArray, type TypedArray } from '../dtype.js';
import { cast } from '../ops/copy.js';
import { tensor } from '../ops/fill.js';
import { indexSelect } from '../ops/index.js';
import { cat, stack } from '../ops/movement.js';
import { type NestedArray, Tensor } from '../tensor.js';

type Scalar = number | bigint | boolean;

/** What {@link collate} makes of one part of a sample. */
export type CollatedPart<P> = P extends Tensor | TypedArray | Scalar
  ? Tensor
  : P extends string
    ? string[]
    : P extends NestedArray
      ? Tensor
      : Collated<P>;

/** What {@link collate} makes of samples. */
export type Collated<S> = S extends Tensor | TypedArray | Scalar
  ? Tensor
  : S extends string
    ? string[]
    : S extends readonly unknown[]
      ? { -readonly [At in keyof S]: CollatedPart<S[At]> }
      : S extends object
        ? { [Key in keyof S]: CollatedPart<S[Key]> }
        : never;

/** Element types by part: one for samples of one part, or one per key or place. */
export type PartTypes<S> = DType | { readonly [Key in keyof S]?: DType | undefined };

function joined(arrays: readonly TypedArray[]): TypedArray {
  const [first] = arrays as [TypedArray];
  const Made = first.constructor as new (length: number) => TypedArray;
  const all = new Made(first.length * arrays.length);
  arrays.forEach((array, i) => {
    (all as Float32Array).set(array as Float32Array, i * first.length);
  });
  return all;
}

function differ(name: string, first: string, other: string): never {
  throw new RangeError(
    `collate: ${name} must have one form in all samples, got ${first} and ${other}`,
  );
}

/** The form of a value that all samples of a batch must share. */
function formOf(value: unknown): string {
  if (value instanceof Tensor) return describe(value);
  const dtype = dtypeOfArray(value);
  if (dtype) return `${dtype} [${(value as TypedArray).length}]`;
  return Array.isArray(value) ? `a list of ${value.length}` : typeof value;
}

function part(name: string, values: readonly unknown[], dtype: DType | undefined): unknown {
  const [first] = values;
  const form = formOf(first);
  for (const value of values) {
    const own = formOf(value);
    if (own !== form) differ(name, form, own);
  }
  const place = { device: cpu, ...(dtype && { dtype }) };
  if (first instanceof Tensor) {
    const rows = stack(values as Tensor[]);
    return dtype && dtype !== rows.dtype ? cast(rows, dtype) : rows;
  }
  if (dtypeOfArray(first)) {
    const arrays = values as TypedArray[];
    return tensor(joined(arrays), [arrays.length, (first as TypedArray).length], place);
  }
  switch (typeof first) {
    case 'string':
      return [...values];
    case 'number':
    case 'bigint':
    case 'boolean':
      return tensor(values as NestedArray, place);
  }
  if (Array.isArray(first)) {
    if (typeof first[0] === 'string') return parts(name, values, dtype);
    try {
      return tensor(values as NestedArray, place);
    } catch (error) {
      throw new RangeError(
        `collate: ${name} must be numbers in even nesting, got ${describe(first)}`,
        {
          cause: error,
        },
      );
    }
  }
  if (first !== null && typeof first === 'object') return parts(name, values, dtype);
  throw new TypeError(
    `collate: ${name} must be numbers, tensors, typed arrays or strings, got ${describe(first)}`,
  );
}

function parts(name: string, samples: readonly unknown[], dtypes: unknown): unknown {
  const first = samples[0] as Record<string, unknown>;
  const keys = Object.keys(first);
  const known = new Set(keys);
  for (const sample of samples as Record<string, unknown>[]) {
    const lacks = keys.find(
      (key) => sample === null || typeof sample !== 'object' || !(key in sample),
    );
    const more = lacks ?? Object.keys(sample).find((key) => !known.has(key));
    if (more !== undefined) {
      throw new RangeError(`collate: all samples must have the part ${more}, got one without it`);
    }
  }
  const typeOf = (key: string) =>
    typeof dtypes === 'string' ? dtypes : (dtypes as Record<string, string> | undefined)?.[key];
  const made = keys.map((key) => {
    const values = (samples as Record<string, unknown>[]).map((sample) => sample[key]);
    const label = name ? `${name}.${key}` : `part ${key}`;
    return part(label, values, typeOf(key) as DType | undefined);
  });
  return Array.isArray(first) ? made : Object.fromEntries(keys.map((key, i) => [key, made[i]]));
}

/**
 * A batch of samples, on the CPU: numbers make float32, bigints int64, booleans bool, typed arrays
 * their own dtype, strings an array of strings; tuples and objects keep their form.
 * @param dtypes other element types, by key or place: `{ label: 'int64' }`, `[, 'int64']`
 * @throws RangeError naming the part where samples differ in form or size
 * @example collate([{ x: [1, 2], y: 0 }, { x: [3, 4], y: 1 }], { y: 'int64' }) // x [2, 2], y [2]
 */
export function collate<S>(samples: readonly S[], dtypes?: PartTypes<S>): Collated<S> {
  if (!Array.isArray(samples) || samples.length === 0) {
    throw new TypeError(`collate: needs an array of one or more samples, got ${describe(samples)}`);
  }
  const first: unknown = samples[0];
  const whole =
    first === null ||
    typeof first !== 'object' ||
    first instanceof Tensor ||
    ArrayBuffer.isView(first);
  const made = whole
    ? part('a sample', samples, typeof dtypes === 'string' ? dtypes : undefined)
    : parts('', samples, dtypes);
  return made as Collated<S>;
}

/** @internal Whether this is an array of strings, or of nothing. */
export function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

/** @internal Whether every part of a batch has so many rows. */
export function hasRows(batch: unknown, rows: number): boolean {
  if (batch instanceof Tensor) return (batch.shape[0] ?? 1) === rows;
  if (batch === null || typeof batch !== 'object') return false;
  if (isStrings(batch)) return batch.length === rows;
  const all = Object.values(batch);
  return all.length > 0 && all.every((part) => hasRows(part, rows));
}

/** @internal Parts of batches one after the other, then in the given order. */
export function joinBatches(batches: readonly unknown[], order: Uint32Array): unknown {
  const [first] = batches;
  if (first instanceof Tensor) {
    const index = tensor(BigInt64Array.from(order, BigInt), { device: first.device });
    return indexSelect(cat(batches as Tensor[], 0), index);
  }
  if (isStrings(first)) {
    const all = (batches as string[][]).flat();
    return Array.from(order, (at) => all[at]);
  }
  const keys = Object.keys(first as object);
  const made = keys.map((key) =>
    joinBatches(
      (batches as Record<string, unknown>[]).map((batch) => batch[key]),
      order,
    ),
  );
  return Array.isArray(first) ? made : Object.fromEntries(keys.map((key, i) => [key, made[i]]));
}
