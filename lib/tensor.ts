/**
 * Tensor: a handle to native memory with its shape, dtype and device; what it lacks in methods the
 * families in lib/ops add to it. Lifetimes are those of lib/scope.ts, gradients those of
 * lib/autograd.ts.
 */
import { inspect } from 'node:util';
import type { GradientState, Node } from './autograd.js';
import { type Context, context } from './context.js';
import type { Device } from './device.js';
import { type DType, dtypeBytes, dtypeCode, dtypes, type TypedArray, typedArray } from './dtype.js';
import { formatTensor } from './format.js';
import { type Handle, native, resultLayout, results } from './native.js';
import type { Scope } from './scope.js';

/** The sizes of a tensor, outermost first; `[]` for a scalar. */
export type Shape = readonly number[];

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; ++i) if (a[i] !== b[i]) return false;
  return true;
}

/** Values as nested arrays. */
export type NestedArray = number | bigint | boolean | NestedArray[];

// The last resort for tensors outside every scope: frees what the garbage collector found.
const finalizers = new FinalizationRegistry<{ handle: Handle; bytes: number }>(
  ({ handle, bytes }) => {
    native.release(handle);
    native.adjustExternalMemory(-bytes);
  },
);

/**
 * Numbers of one dtype in one shape on one device. Made by `tensor`, `zeros` and their kind;
 * operations are functions and methods, and leave their operands as they are.
 */
export class Tensor {
  /** @internal The native handle; 0 once the tensor was released. */
  h: Handle;
  /** @internal Who owns the tensor; null: the garbage collector. */
  scope: Scope | null = null;
  /** @internal How many tape nodes need the memory, whatever the scope says. */
  holds = 0;
  /** @internal Computed from something made outside the iteration; see lib/scope.ts. */
  carried = false;
  /** @internal Parameters, buffers and optimizer state: not a reason to carry a result. */
  persistent = false;
  /** @internal Counts changes in place, so that backward() can tell. */
  version = 0;
  /** @internal What computed it, while that can be differentiated. */
  node: Node | null = null;
  /** @internal The gradient of a leaf; see lib/autograd.ts. */
  gradient: GradientState | null = null;
  private hidden: Handle = 0;
  private finalized: { handle: Handle; bytes: number } | null = null;

  /** @internal Made by ops. */
  constructor(
    handle: Handle,
    /** Sizes, outermost first. */
    readonly shape: Shape,
    /** The element type. */
    readonly dtype: DType,
    /** Where it lives. */
    readonly device: Device,
    owner: Context,
  ) {
    this.h = handle;
    if (owner.scope) {
      owner.scope.own(this);
    } else {
      this.finalize();
    }
  }

  /** Number of axes. */
  get rank(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    let size = 1;
    for (const n of this.shape) size *= n;
    return size;
  }

  /** Size in bytes. */
  get bytes(): number {
    return this.size * dtypeBytes[this.dtype];
  }

  /** Whether the tensor's memory was given back. */
  get released(): boolean {
    return this.h === 0;
  }

  /**
   * Takes the tensor out of its scope: it lives until it is disposed of or garbage-collected.
   * @returns the tensor itself
   */
  keep(): this {
    if (this.scope) this.moveTo(null);
    return this;
  }

  /** @internal Keeps it as parameters, buffers and optimizer state are kept. Returns the tensor. */
  persist(): this {
    this.persistent = true;
    return this.keep();
  }

  /** Releases the memory now. Using the tensor afterwards is an error. */
  dispose(): void {
    if (this.h === 0) return;
    const handle = this.detachHandle();
    if (handle !== 0) native.release(handle);
  }

  /** The one element, as a number (a bigint for int64 beyond ±2⁵³). Waits for the device. */
  item(): number | bigint {
    const number = native.item(this.h);
    if (this.dtype === 'int64' && !Number.isSafeInteger(number)) {
      return (this.data() as BigInt64Array)[0] as bigint;
    }
    return number;
  }

  /** The values in row-major order. Waits for the device; 16-bit floats come as float32. */
  data(): TypedArray {
    const wide = this.widened();
    return typedArray(wide.dtype, native.read(wide.h));
  }

  /** The values, as {@link data}, without blocking the event loop. */
  async read(): Promise<TypedArray> {
    const wide = this.widened();
    return typedArray(wide.dtype, await native.readLater(wide.h));
  }

  /**
   * The values as nested arrays. int64 comes as numbers where all are within ±2⁵³ and as bigints
   * where they are not; bool as booleans.
   */
  toArray(): NestedArray {
    return nest(plainValues(this.dtype, this.data()), this.shape);
  }

  /** Dtype, shape and values, long axes cut short. Waits for the device. */
  toString(): string {
    if (this.h === 0) return `Tensor(released, ${this.dtype}[${this.shape.join(',')}])`;
    return formatTensor(this);
  }

  [inspect.custom](): string {
    return this.toString();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal Gives the tensor to another scope, or to the garbage collector. */
  moveTo(scope: Scope | null): void {
    if (scope) {
      this.stopFinalizer();
      scope.own(this);
    } else {
      this.scope = null;
      this.finalize();
    }
  }

  /**
   * @internal Marks the tensor as released and returns the handle that is to be released, or 0 if
   * the tape still needs the memory.
   */
  detachHandle(): Handle {
    const handle = this.h;
    this.h = 0;
    this.scope = null;
    const { node } = this;
    if (node) {
      this.node = null;
      node.drop();
    }
    if (this.holds > 0) {
      this.hidden = handle;
      this.finalize();
      return 0;
    }
    this.stopFinalizer();
    return handle;
  }

  /** @internal Makes the memory outlive the scope, for the tape. */
  hold(): void {
    ++this.holds;
  }

  /** @internal Undoes one {@link hold}. */
  unhold(): void {
    if (--this.holds === 0 && this.hidden !== 0) {
      this.stopFinalizer();
      native.release(this.hidden);
      this.hidden = 0;
    }
  }

  /** @internal Makes a held tensor usable after its scope ended; whether that was needed. */
  revive(): boolean {
    if (this.h !== 0 || this.hidden === 0) return false;
    this.h = this.hidden;
    this.hidden = 0;
    return true;
  }

  /** @internal Undoes a {@link revive}. */
  retire(): void {
    this.hidden = this.h;
    this.h = 0;
  }

  private widened(): Tensor {
    if (this.dtype !== 'bfloat16' && this.dtype !== 'float16') return this;
    native.cast(this.h, dtypeCode('data', 'float32'));
    return take(0, this.device);
  }

  private finalize(): void {
    if (this.finalized) return;
    this.finalized = { handle: this.h || this.hidden, bytes: this.bytes };
    native.adjustExternalMemory(this.finalized.bytes);
    finalizers.register(this, this.finalized, this.finalized);
  }

  private stopFinalizer(): void {
    if (!this.finalized) return;
    finalizers.unregister(this.finalized);
    native.adjustExternalMemory(-this.finalized.bytes);
    this.finalized = null;
  }
}

/** @internal The tensor that the last native op returned as its result number `at`. */
export function take(at: number, device: Device, owner: Context = context()): Tensor {
  const base = at * resultLayout.stride;
  const rank = results[base + resultLayout.rank] as number;
  const shape = new Array<number>(rank);
  for (let i = 0; i < rank; ++i) shape[i] = results[base + resultLayout.shape + i] as number;
  return new Tensor(
    results[base + resultLayout.handle] as Handle,
    shape,
    dtypes[results[base + resultLayout.dtype] as number] as DType,
    device,
    owner,
  );
}

/** Values as numbers where they fit, bigints where int64 does not, booleans for bool. */
export function plainValues(dtype: DType, values: TypedArray): ArrayLike<NestedArray> {
  if (values instanceof BigInt64Array) {
    const limit = BigInt(Number.MAX_SAFE_INTEGER);
    const fits = values.every((v) => v <= limit && v >= -limit);
    return fits ? Array.from(values, Number) : Array.from(values);
  }
  if (dtype === 'bool') return Array.from(values as Uint8Array, (v) => v !== 0);
  return values;
}

function nest(values: ArrayLike<NestedArray>, shape: Shape): NestedArray {
  let at = 0;
  const build = (axis: number): NestedArray => {
    if (axis === shape.length) return values[at++] as NestedArray;
    return Array.from({ length: shape[axis] as number }, () => build(axis + 1));
  };
  return build(0);
}
