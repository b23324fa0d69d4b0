/** Making tensors: from values, filled, counted. */
import { record } from '../autograd.js';
import {
  describe,
  expectBoolean,
  expectInteger,
  expectNumber,
  expectOptions,
  expectShape,
  expectTensor,
} from '../check.js';
import { type Device, type DeviceLike, device, getDefaultDevice } from '../device.js';
import {
  type DType,
  dtypeCode,
  dtypeOfArray,
  isDType,
  isFloating,
  type TypedArray,
  type WidenedArray,
  widenedArray,
} from '../dtype.js';
import { native } from '../native.js';
import { type NestedArray, type Shape, type Tensor, take } from '../tensor.js';
import { pow } from './binary.js';
import { cast } from './copy.js';
import { notDifferentiable, type OpRow, type OpRows } from './define.js';

declare module '../native.js' {
  interface NativeOps {
    full(device: number, shape: Numbers, value: number, dtype: number): void;
    arange(device: number, start: number, step: number, count: number, dtype: number): void;
  }
  interface NativeKernels {
    fillInto(out: Handle, value: number): void;
    scalar(device: number, value: number, dtype: number, op: string): void;
  }
}

/** Where and as what a tensor is made. */
export interface TensorOptions {
  /** Element type; float32 where nothing else follows from the values. */
  dtype?: DType;
  /** Device; the default device where left out. */
  device?: DeviceLike;
  /** Whether backward() shall find a gradient for it. */
  requiresGrad?: boolean;
}

function row(summary: string): OpRow {
  return { family: 'fill', summary, dtypes: 'any', gradient: notDifferentiable('it has no input') };
}

export const fillOps: OpRows<'full' | 'arange'> = {
  full: row('every element the same'),
  arange: row('start, start + step, …'),
};

/** @internal Applies the options that every creation function takes. */
export function finish(op: string, tensor: Tensor, options: TensorOptions): Tensor {
  record(op, null, tensor, [], null, null);
  const { requiresGrad = false } = options;
  return expectBoolean(op, 'requiresGrad', requiresGrad) ? tensor.requireGrad() : tensor;
}

/** @internal The device of the options. */
export function deviceIn(options: TensorOptions) {
  return options.device === undefined ? getDefaultDevice() : device(options.device);
}

function valuesAsArray(values: NestedArray, shape: number[]): (number | bigint | boolean)[] {
  const flat: (number | bigint | boolean)[] = [];
  const visit = (value: NestedArray, axis: number): void => {
    if (Array.isArray(value)) {
      if (axis === shape.length && flat.length === 0) shape.push(value.length);
      if (shape[axis] !== value.length) {
        throw new RangeError(
          `tensor: nested arrays must have one length per axis, got ${shape[axis]} and ${value.length} on axis ${axis}`,
        );
      }
      for (const item of value) visit(item, axis + 1);
    } else {
      const type = typeof value;
      if ((type !== 'number' && type !== 'bigint' && type !== 'boolean') || axis !== shape.length) {
        throw new TypeError(
          `tensor: values must be numbers, bigints or booleans in even nesting, got ${describe(value)}`,
        );
      }
      flat.push(value);
    }
  };
  if (Array.isArray(values)) {
    shape.push(values.length);
    for (const item of values) visit(item, 1);
  } else {
    visit(values, 0);
  }
  return flat;
}

function packed(values: (number | bigint | boolean)[], dtype: DType): [TypedArray, DType] {
  switch (dtype) {
    case 'int64':
      return [
        BigInt64Array.from(values, (v) => {
          if (typeof v === 'number' && !Number.isSafeInteger(v)) {
            throw new RangeError(`tensor: int64 values must be safe integers or bigints, got ${v}`);
          }
          return BigInt(v);
        }),
        dtype,
      ];
    case 'float64':
      return [Float64Array.from(values, Number), dtype];
    case 'int32':
      return [Int32Array.from(values, Number), dtype];
    case 'uint8':
      return [Uint8Array.from(values, Number), dtype];
    case 'bool':
      return [Uint8Array.from(values, (v) => (v ? 1 : 0)), dtype];
    default:
      return [Float32Array.from(values, Number), 'float32'];
  }
}

function dtypeOfValues(values: (number | bigint | boolean)[]): DType {
  if (values.length > 0 && values.every((v) => typeof v === 'boolean')) return 'bool';
  if (values.length > 0 && values.every((v) => typeof v === 'bigint')) return 'int64';
  return 'float32';
}

/** @internal The names of {@link TensorOptions}. */
export const tensorNames = ['dtype', 'device', 'requiresGrad'] as const;

function fromTyped(
  bytes: TypedArray,
  from: DType,
  shape: Shape,
  dtype: DType,
  options: TensorOptions,
): Tensor {
  const on = deviceIn(options);
  native.fromBytes(on.code, shape, dtypeCode('tensor', from), bytes);
  const made = take(0, on);
  return finish('tensor', made.dtype === dtype ? made : cast(made, dtype), options);
}

/**
 * A tensor of values: a number, nested arrays, or a typed array with a shape.
 * Numbers make float32, bigints int64, booleans bool; a typed array makes the dtype it has, or the
 * next wider one (int32 of 8- and 16-bit integers, int64 of Uint32Array), unless `dtype` says
 * otherwise. The values are copied.
 * @example tensor([[1, 2], [3, 4]]); tensor(new Uint8Array(784), [28, 28]);
 */
export function tensor(
  values: NestedArray | TypedArray | WidenedArray,
  shape?: Shape | TensorOptions,
  options: TensorOptions = {},
): Tensor {
  if (shape !== undefined && !Array.isArray(shape)) {
    return tensor(values, undefined, shape as TensorOptions);
  }
  const { dtype } = expectOptions('tensor', options, tensorNames);
  if (dtype !== undefined && !isDType(dtype)) dtypeCode('tensor', dtype);
  const array = widenedArray(values);
  if (array) {
    const typed = dtypeOfArray(array) as DType;
    const sizes = (shape as Shape | undefined) ?? [array.length];
    return fromTyped(array, typed, expectShape('tensor', sizes), dtype ?? typed, options);
  }
  const found: number[] = [];
  const flat = valuesAsArray(values as NestedArray, found);
  const [bytes, from] = packed(flat, dtype ?? dtypeOfValues(flat));
  const sizes = (shape as Shape | undefined) ?? found;
  return fromTyped(bytes, from, expectShape('tensor', sizes), dtype ?? from, options);
}

/** Every element `value`. */
export function full(shape: Shape, value: number, options: TensorOptions = {}): Tensor {
  const on = deviceIn(expectOptions('full', options, tensorNames));
  const number = expectNumber('full', 'the value', value);
  const dtype = dtypeCode('full', options.dtype ?? 'float32');
  native.full(on.code, expectShape('full', shape), number, dtype);
  return finish('full', take(0, on), options);
}

/** @internal A number as a tensor; `op` is named where the dtype cannot hold it. */
export function scalar(op: string, value: number, dtype: DType, on: Device): Tensor {
  native.scalar(on.code, value, dtypeCode(op, dtype), op);
  return take(0, on);
}

/** Every element 0. */
export function zeros(shape: Shape, options: TensorOptions = {}): Tensor {
  return full(shape, 0, options);
}

/** Every element 1. */
export function ones(shape: Shape, options: TensorOptions = {}): Tensor {
  return full(shape, 1, options);
}

/** Every element `value`, in the shape, dtype and device of x. */
export function fullLike(x: Tensor, value: number, options: TensorOptions = {}): Tensor {
  return filledLike('fullLike', x, value, options);
}

/** Zeros in the shape, dtype and device of x. */
export function zerosLike(x: Tensor, options: TensorOptions = {}): Tensor {
  return filledLike('zerosLike', x, 0, options);
}

/** Ones in the shape, dtype and device of x. */
export function onesLike(x: Tensor, options: TensorOptions = {}): Tensor {
  return filledLike('onesLike', x, 1, options);
}

function filledLike(op: string, x: Tensor, value: number, options: TensorOptions): Tensor {
  const { shape, dtype, device: on } = expectTensor(op, x);
  return full(shape, value, {
    dtype,
    device: on,
    ...expectOptions(op, options, tensorNames),
  });
}

/**
 * The numbers from `start` up to but not including `stop`, `step` apart; `arange(n)` counts from 0.
 * int64 where all three are integers, else float32.
 */
export function arange(
  start: number,
  stop?: number | TensorOptions,
  step: number | TensorOptions = 1,
  options: TensorOptions = {},
): Tensor {
  expectNumber('arange', 'start', start);
  if (typeof stop !== 'number') return arange(0, start, 1, stop);
  if (typeof step !== 'number') return arange(start, stop, 1, step);
  for (const n of [start, stop, step]) {
    if (!Number.isFinite(n)) throw new RangeError(`arange: numbers must be finite, got ${n}`);
  }
  expectOptions('arange', options, tensorNames);
  if (step === 0) throw new RangeError('arange: step must not be 0');
  const whole = [start, stop, step].every(Number.isInteger);
  const dtype = options.dtype ?? (whole ? 'int64' : 'float32');
  const count = Math.max(0, Math.ceil((stop - start) / step));
  const on = deviceIn(options);
  if (!isFloating(dtype) && !whole) {
    throw new RangeError(`arange: ${dtype} needs integers, got ${start}, ${stop}, ${step}`);
  }
  native.arange(on.code, start, step, count, dtypeCode('arange', dtype));
  return finish('arange', take(0, on), options);
}

/**
 * `steps` numbers from `start` to `end`, both included, evenly apart: start + i·(end - start)/(steps
 * - 1), computed in float64. A floating dtype.
 */
export function linspace(
  start: number,
  end: number,
  steps: number,
  options: TensorOptions = {},
): Tensor {
  return spaced('linspace', start, end, steps, options);
}

/** `steps` powers of `base`, whose exponents are those of {@link linspace}. A floating dtype. */
export function logspace(
  start: number,
  end: number,
  steps: number,
  base = 10,
  options: TensorOptions = {},
): Tensor {
  expectNumber('logspace', 'base', base);
  const { dtype = 'float32' } = expectOptions('logspace', options, tensorNames);
  const wide = dtype === 'float64' ? dtype : 'float32';
  const on = deviceIn(options);
  const exponents = spaced('logspace', start, end, steps, { dtype: wide, device: on });
  dtypeCode('logspace', dtype);
  if (!isFloating(dtype)) throw new TypeError(`logspace: needs a floating dtype, got ${dtype}`);
  const powers = pow(base, exponents);
  return finish('logspace', dtype === wide ? powers : cast(powers, dtype), options);
}

function spaced(
  op: string,
  start: number,
  end: number,
  steps: number,
  options: TensorOptions,
): Tensor {
  const { dtype = 'float32' } = expectOptions(op, options, tensorNames);
  const code = dtypeCode(op, dtype);
  if (!isFloating(dtype)) throw new TypeError(`${op}: needs a floating dtype, got ${dtype}`);
  const from = expectNumber(op, 'start', start);
  const gap = expectNumber(op, 'end', end) - from;
  const count = expectInteger(op, 'steps', steps, 0);
  const on = deviceIn(options);
  native.arange(on.code, from, count > 1 ? gap / (count - 1) : 0, count, code);
  return finish(op, take(0, on), options);
}

/** Ones on the main diagonal of [rows, columns], zeros elsewhere; square where columns is left out. */
export function eye(rows: number, columns = rows, options: TensorOptions = {}): Tensor {
  const sizes = [rows, columns].map((n) => expectInteger('eye', 'each size', n, 0));
  const { dtype = 'float32' } = expectOptions('eye', options, tensorNames);
  const on = deviceIn(options);
  const code = dtypeCode('eye', dtype);
  const one = scalar('eye', 1, dtype, on);
  native.full(on.code, sizes, 0, code);
  const out = take(0, on);
  native.diagonal(out.h, 0, 0, 1);
  native.copyInto(take(0, on).h, one.h);
  return finish('eye', out, options);
}
