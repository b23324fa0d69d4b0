/** Copies: other dtypes, other devices, fresh memory, writes in place. */
import { forPrecision } from '../autocast.js';
import { type Rule, record } from '../autograd.js';
import { describe, expectTensor } from '../check.js';
import { Device, type DeviceLike, device } from '../device.js';
import { type DType, dtypeCode, isDType, isFloating } from '../dtype.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { addMethods, type OpRow, type OpRows, ruleOf } from './define.js';

declare module '../native.js' {
  interface NativeOps {
    cast(x: Handle, dtype: number): void;
    contiguous(x: Handle): void;
    clone(x: Handle): void;
    toDevice(x: Handle, device: number): void;
  }
  interface NativeKernels {
    copyInto(out: Handle, x: Handle): void;
  }
}

type CopyName = 'cast' | 'contiguous' | 'clone' | 'toDevice';

function row<A>(summary: string, gradient: Rule<A>): OpRow {
  return { family: 'copy', summary, dtypes: 'any', gradient };
}

const through: Rule<null> = (dout) => [dout];

export const copyOps: OpRows<CopyName> = {
  // Autograd casts a gradient to the dtype of what it belongs to.
  cast: row('another dtype', through),
  contiguous: row('row-major memory', through),
  clone: row('fresh memory', through),
  toDevice: row<Device>('another device', (dout, _, from) => [toDevice(dout, from)]),
};

/**
 * The values as another dtype; floats become integers by truncation, anything bool by x ≠ 0. Floats
 * beyond the range of an integer dtype become its ends, NaN becomes 0; integers wrap around.
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  native.cast(expectTensor('cast', x).h, dtypeCode('cast', dtype));
  const rule = isFloating(dtype) ? ruleOf(copyOps.cast) : null;
  return record('cast', rule, take(0, x.device), [x], null, null);
}

/** The tensor in row-major memory: itself where it is so already. */
export function contiguous(x: Tensor): Tensor {
  native.contiguous(expectTensor('contiguous', x).h);
  return record('contiguous', ruleOf(copyOps.contiguous), take(0, x.device), [x], null, null);
}

/** A copy in memory of its own. */
export function clone(x: Tensor): Tensor {
  native.clone(expectTensor('clone', x).h);
  return record('clone', ruleOf(copyOps.clone), take(0, x.device), [x], null, null);
}

function toDevice(x: Tensor, on: Device): Tensor {
  native.toDevice(x.h, on.code);
  return record('toDevice', ruleOf(copyOps.toDevice), take(0, on), [x], null, x.device);
}

/** The tensor on another device or in another dtype; itself where it is so already. */
export function to(x: Tensor, ...targets: (DeviceLike | DType)[]): Tensor {
  let result = expectTensor('to', x);
  for (const target of targets) {
    if (isDType(target)) {
      if (target !== result.dtype) result = cast(result, target);
    } else if (target instanceof Device || typeof target === 'string') {
      const on = device(target);
      if (on !== result.device) result = toDevice(result, on);
    } else {
      throw new TypeError(`to: expected a device or a dtype, got ${describe(target)}`);
    }
  }
  return result;
}

/** @internal Classes or indices as int64; other dtypes than integers are refused. */
export function asClasses(op: string, x: Tensor, name: string): Tensor {
  const { dtype } = expectTensor(op, x, name);
  if (dtype === 'int64') return x;
  if (dtype === 'int32' || dtype === 'uint8') return cast(x, 'int64');
  throw new TypeError(`${op}: the ${name} must be int64, int32 or uint8, got ${describe(x)}`);
}

/**
 * @internal f of operands of one dtype, for the 16-bit floats in float32, since their powers leave
 * the range. The result has their dtype, but float32 inside autocast.
 */
export function inFloat32<T extends readonly Tensor[]>(
  operands: readonly [...T],
  f: (wide: readonly [...T]) => Tensor,
): Tensor {
  const { dtype } = forPrecision(operands[0] as Tensor);
  if (dtype !== 'bfloat16' && dtype !== 'float16') {
    return f(operands.map(forPrecision) as unknown as readonly [...T]);
  }
  const wide = operands.map((x) => to(x, 'float32')) as unknown as readonly [...T];
  return cast(f(wide), dtype);
}

/** Overwrites `out` with x, broadcast and cast; no gradient flows. Returns `out`. */
export function copyInto(out: Tensor, x: Tensor): Tensor {
  native.copyInto(expectTensor('copyInto', out).h, expectTensor('copyInto', x).h);
  ++out.version;
  return out;
}

declare module '../tensor.js' {
  interface Tensor {
    /** The tensor on a device, in a dtype, or both, in any order; itself where it is so already. */
    to(...targets: (DeviceLike | DType)[]): Tensor;
    /**
     * The values as another dtype; floats become integers by truncation, anything bool by x ≠ 0. Floats
     * beyond the range of an integer dtype become its ends, NaN becomes 0; integers wrap around.
     */
    cast(dtype: DType): Tensor;
    /** The tensor in row-major memory; itself where it is so already. */
    contiguous(): Tensor;
    /** A copy with memory of its own, row-major, through which gradients flow. */
    clone(): Tensor;
    /** Overwrites this tensor with another, broadcast and cast. */
    copyFrom(x: Tensor): Tensor;
  }
}

addMethods({
  to(...targets: (DeviceLike | DType)[]) {
    return to(this, ...targets);
  },
  cast(dtype: DType) {
    return cast(this, dtype);
  },
  contiguous() {
    return contiguous(this);
  },
  clone() {
    return clone(this);
  },
  copyFrom(x: Tensor) {
    return copyInto(this, x);
  },
});
