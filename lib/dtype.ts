/**
 * Element types. The order is that of `DType` in native/cpp/core/dtype.h; a type's code is its
 * place in the list.
 */
import { describe } from './check.js';

export const dtypes = [
  'float32',
  'float64',
  'bfloat16',
  'float16',
  'int32',
  'int64',
  'uint8',
  'bool',
] as const;

/** The element type of a tensor. */
export type DType = (typeof dtypes)[number];

/** Arrays whose bytes are those of a dtype. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint16Array;

export const dtypeBytes: Readonly<Record<DType, number>> = {
  float32: 4,
  float64: 8,
  bfloat16: 2,
  float16: 2,
  int32: 4,
  int64: 8,
  uint8: 1,
  bool: 1,
};

const codes = new Map<string, number>(dtypes.map((dtype, code) => [dtype, code]));

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && codes.has(value);
}

/** The code that native code knows a dtype by; `op` names the caller in the error. */
export function dtypeCode(op: string, dtype: DType): number {
  const code = codes.get(dtype);
  if (code === undefined) {
    throw new TypeError(`${op}: dtype must be one of ${dtypes.join(', ')}, got ${describe(dtype)}`);
  }
  return code;
}

export function isFloating(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float64' || dtype === 'bfloat16' || dtype === 'float16';
}

/** A view of a tensor's bytes in the array type of its dtype (16-bit floats as their bits). */
export function typedArray(dtype: DType, bytes: ArrayBuffer): TypedArray {
  switch (dtype) {
    case 'float32':
      return new Float32Array(bytes);
    case 'float64':
      return new Float64Array(bytes);
    case 'int32':
      return new Int32Array(bytes);
    case 'int64':
      return new BigInt64Array(bytes);
    case 'uint8':
    case 'bool':
      return new Uint8Array(bytes);
    case 'bfloat16':
    case 'float16':
      return new Uint16Array(bytes);
  }
}

/** Arrays of integers that no dtype has: the next wider one takes their values. */
export type WidenedArray = Int8Array | Int16Array | Uint16Array | Uint32Array | Uint8ClampedArray;

/** The values in an array type whose bytes a dtype has; undefined for what is no array of numbers. */
export function widenedArray(array: unknown): TypedArray | undefined {
  if (array instanceof Uint8ClampedArray) {
    return new Uint8Array(array.buffer, array.byteOffset, array.length);
  }
  if (array instanceof Uint32Array) return BigInt64Array.from(array, BigInt);
  const small =
    array instanceof Int8Array || array instanceof Int16Array || array instanceof Uint16Array;
  if (small) return Int32Array.from(array);
  return dtypeOfArray(array) === undefined ? undefined : (array as TypedArray);
}

/** The dtype that an array type stands for; undefined for the others. */
export function dtypeOfArray(array: unknown): DType | undefined {
  if (array instanceof Float32Array) return 'float32';
  if (array instanceof Float64Array) return 'float64';
  if (array instanceof Int32Array) return 'int32';
  if (array instanceof BigInt64Array) return 'int64';
  if (array instanceof Uint8Array) return 'uint8';
  return undefined;
}
