/**
 * The native addon: finds and loads it, and types what it exports. Tensors cross the boundary as
 * handles (numbers); an op's results are read from one array that the addon writes to, since that
 * costs less than returning objects.
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** A tensor in native code; 0 is no tensor. */
export type Handle = number;
/** A list of numbers, as an array or a Float64Array. */
export type Numbers = readonly number[] | Float64Array;

type Unary = (x: Handle) => void;
type UnaryBackward = (saved: Handle, dout: Handle) => void;
type Binary = (a: Handle, b: Handle) => void;
type BinaryScalar = (a: Handle, scalar: number, reversed: boolean) => void;

/** Elementwise ops with a derivative, by name; core/elementwise.h has the formulas. */
export type UnaryName =
  | 'neg'
  | 'abs'
  | 'sign'
  | 'square'
  | 'relu'
  | 'exp'
  | 'expm1'
  | 'log'
  | 'log1p'
  | 'sqrt'
  | 'rsqrt'
  | 'reciprocal'
  | 'sigmoid'
  | 'tanh'
  | 'sin'
  | 'cos'
  | 'erf'
  | 'gelu'
  | 'silu'
  | 'softplus'
  | 'floor'
  | 'ceil'
  | 'round'
  | 'trunc'
  | 'frac'
  | 'exp2'
  | 'log2'
  | 'log10'
  | 'tan'
  | 'asin'
  | 'acos'
  | 'atan'
  | 'sinh'
  | 'cosh'
  | 'asinh'
  | 'acosh'
  | 'atanh'
  | 'erfc'
  | 'logit'
  | 'logSigmoid'
  | 'relu6'
  | 'hardtanh'
  | 'hardsigmoid'
  | 'hardswish'
  | 'elu'
  | 'selu'
  | 'mish'
  | 'softsign'
  | 'geluTanh';
export type PredicateName = 'isnan' | 'isfinite' | 'isinf' | 'logicalNot';
export type BinaryName =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'pow'
  | 'maximum'
  | 'minimum'
  | 'remainder'
  | 'fmod'
  | 'floorDivide'
  | 'atan2'
  | 'hypot'
  | 'logaddexp'
  | 'clampMin'
  | 'clampMax'
  | 'leakyRelu';
export type ComparisonName =
  | 'eq'
  | 'ne'
  | 'lt'
  | 'le'
  | 'gt'
  | 'ge'
  | 'logicalAnd'
  | 'logicalOr'
  | 'logicalXor';

type ElementwiseOps = Record<UnaryName | PredicateName, Unary> &
  Record<BinaryName | ComparisonName, Binary> &
  Record<`${BinaryName | ComparisonName}Scalar`, BinaryScalar>;

/**
 * Ops with a row in the op table (lib/ops/table.ts): each makes new tensors, which are read from
 * the result array. Families declare theirs beside the code that calls them, by merging.
 */
export interface NativeOps extends ElementwiseOps {}

/** Kernels that gradient rules and optimizers use, declared likewise: not ops of their own. */
export interface NativeKernels extends Record<`${UnaryName}Backward`, UnaryBackward> {}

/** Bytes held on one device by this thread. */
export interface MemoryStats {
  /** Bytes that tensors hold now. */
  allocated: number;
  /** The most bytes that tensors held since the start, or since `memory.resetPeak()`. */
  peakAllocated: number;
  /** Bytes taken from the driver: held by tensors or cached for reuse. */
  reserved: number;
  /** Blocks that tensors hold now. */
  blocks: number;
  /** Allocations that the cache could not serve. */
  driverCalls: number;
  /** The limit on the bytes of the device, 0 where there is none. */
  limit: number;
  /** Tensors alive in this thread, on every device. */
  liveTensors: number;
}

export interface NativeRuntime {
  attach(results: Float64Array): void;
  nothing(): void;
  fromBytes(
    device: number,
    shape: Numbers,
    dtype: number,
    bytes: ArrayBufferView | ArrayBuffer,
  ): void;
  writeBytes(out: Handle, bytes: ArrayBufferView | ArrayBuffer): void;
  read(x: Handle): ArrayBuffer;
  readLater(x: Handle): Promise<ArrayBuffer>;
  /** Leaves the result at once; it may be used when the promise, where there is one, is kept. */
  indexSelectLater(x: Handle, index: Handle): Promise<void> | undefined;
  item(x: Handle): number;
  /** 1 where the elements lie in row-major order without gaps, else 0. */
  isContiguous(x: Handle): number;
  release(x: Handle): void;
  releaseAll(handles: Float64Array): void;
  adjustExternalMemory(bytes: number): void;
  synchronize(device: number): void;
  synchronizeLater(device: number): Promise<void>;
  deviceMissing(type: number): string;
  deviceCount(type: number): number;
  describeDevice(device: number): string;
  memoryStats(device: number): MemoryStats;
  setMemoryLimit(device: number, bytes: number): void;
  emptyCache(device: number): void;
  resetPeakMemory(device: number): void;
  setNumThreads(threads: number): void;
  numThreads(): number;

  profileBegin(): void;
  /** The events as JSON; see core/profile.h. */
  profileEnd(): string;
  shareTensor(x: Handle, seconds: number): number;
  receiveTensor(number: number): void;
  unshareTensor(number: number): void;

  /** Between them: the most bytes that were held at once, less those still held at the end. */
  measureBegin(device: number): void;
  measureEnd(device: number): number;
  captureBegin(device: number, inputs: Numbers, bytes: number): void;
  captureEnd(device: number, inputs: Numbers, outputs: Numbers): number;
  captureAbort(device: number): void;
  replay(step: number, inputs: Numbers): number;
  settle(device: number, limit: number): Promise<void>;
  captureLaunches(step: number): number;
  releaseStep(step: number): void;
}

export interface Native extends NativeOps, NativeKernels, NativeRuntime {}

/** Layout of the result array, as native/cpp/addon/environment.h has it. */
const maxRank = 8;
export const resultLayout = {
  handle: 0,
  dtype: 1,
  rank: 2,
  shape: 3,
  stride: 3 + maxRank,
  count: 64,
} as const;

const require = createRequire(import.meta.url);
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

function load(): Native {
  const flavor = process.env.NODEGRAD_BUILD;
  try {
    if (flavor) {
      return require('bindings')({
        bindings: 'nodegrad',
        module_root: root,
        try: [['module_root', 'build', flavor, 'Release', 'bindings']],
      });
    }
    return require('node-gyp-build')(root);
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw new Error(
      [
        `nodegrad: the native addon could not be loaded on ${process.platform}-${process.arch}, Node ${process.version}: ${reason}`,
        `Tried: ${flavor ? `build/${flavor}/Release` : 'build/Release, prebuilds'} under ${root}`,
        'What to do:',
        '- reinstall for this platform: npm rebuild nodegrad',
        '- without a prebuilt binary the install builds from source: it needs make and g++ 11 or later',
        '- with --ignore-scripts nothing is built: run `npm rebuild nodegrad` afterwards',
      ].join('\n'),
      { cause: error },
    );
  }
}

export const native: Native = load();

/** What the last op returned; see `take` in lib/tensor.ts. */
export const results = new Float64Array(resultLayout.stride * resultLayout.count);
native.attach(results);
