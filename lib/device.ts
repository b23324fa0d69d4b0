/** Devices: where tensors live and ops run. */
import { describe, expectInteger, expectOneOf } from './check.js';
import { native } from './native.js';

const types = ['cpu', 'emulated', 'cuda'] as const;
/** A kind of device; `emulated` runs the CUDA kernels on the CPU, in test builds only. */
export type DeviceType = (typeof types)[number];

/** One device of this machine. There is one object per device, so devices compare with `===`. */
export class Device {
  /** The number that native code knows the device by. */
  readonly code: number;

  /** @internal Use {@link device}. */
  constructor(
    readonly type: DeviceType,
    readonly index: number,
  ) {
    this.code = types.indexOf(type) + 8 * index;
  }

  /** `cpu`, `emulated`, `cuda:0` … */
  get name(): string {
    return this.type === 'cuda' || this.index > 0 ? `${this.type}:${this.index}` : this.type;
  }

  /** What the device is, for people: the processor, and what is used of it. */
  describe(): string {
    return native.describeDevice(this.code);
  }

  /** Waits until everything enqueued on the device has run. */
  synchronize(): Promise<void> {
    return native.synchronizeLater(this.code);
  }

  /** Its name: `cpu`, `cuda:0`. */
  toString(): string {
    return this.name;
  }
}

/** A device, or its name: `cpu`, `cuda`, `cuda:1`. */
export type DeviceLike = Device | string;

const known = new Map<string, Device>();
export const cpu = new Device('cpu', 0);
known.set('cpu', cpu);

/**
 * The device of a name.
 * @throws when there is no such device on this machine, with the reason.
 */
export function device(like: DeviceLike): Device {
  if (like instanceof Device) return like;
  const found = known.get(like);
  if (found) return found;
  const match = typeof like === 'string' ? /^(cpu|emulated|cuda)(?::(\d{1,3}))?$/.exec(like) : null;
  if (!match) {
    throw new TypeError(`device: must be cpu, cuda, cuda:N or emulated, got ${describe(like)}`);
  }
  const made = new Device(match[1] as DeviceType, Number(match[2] ?? 0));
  native.describeDevice(made.code); // opens it, or says why it is not there
  const existing = known.get(made.name) ?? made;
  known.set(made.name, existing);
  known.set(like, existing);
  return existing;
}

/** Whether a kind of device is there, and if not, why. */
export function deviceAvailable(type: DeviceType): { available: boolean; reason: string } {
  const reason = native.deviceMissing(types.indexOf(type));
  return { available: reason === '', reason };
}

/** How many devices of a kind there are. */
export function deviceCount(type: DeviceType): number {
  return native.deviceCount(types.indexOf(type));
}

/**
 * Every device of a kind: none where there is none.
 * @example for (const gpu of devices('cuda')) console.log(gpu.describe());
 */
export function devices(type: DeviceType): Device[] {
  expectOneOf('devices', 'the kind', type, types);
  return Array.from({ length: deviceCount(type) }, (_, i) =>
    device(i === 0 ? type : `${type}:${i}`),
  );
}

let defaultDevice = cpu;

/** The device on which tensors are made where none is given: `cpu` until it is changed. */
export function getDefaultDevice(): Device {
  return defaultDevice;
}

/** Sets where tensors are made whose options name no device. @throws where it is not available */
export function setDefaultDevice(like: DeviceLike): void {
  defaultDevice = device(like);
}

/** Sets how many threads CPU kernels use (by default as many as the process may run on). */
export function setNumThreads(threads: number): void {
  native.setNumThreads(expectInteger('setNumThreads', 'threads', threads, 1, 1024));
}

/** How many threads CPU kernels use. */
export function getNumThreads(): number {
  return native.numThreads();
}

/** Device memory: what is held, and how much may be. Figures are of the calling thread. */
export const memory = {
  /** Bytes held on a device. */
  stats(like: DeviceLike = defaultDevice) {
    return native.memoryStats(device(like).code);
  },
  /** Limits the bytes taken from a device by the whole process; 0 lifts the limit. */
  setLimit(bytes: number, like: DeviceLike = defaultDevice): void {
    const limit = expectInteger('memory.setLimit', 'bytes', bytes, 0);
    native.setMemoryLimit(device(like).code, limit);
  },
  /** Gives cached blocks back to the driver. */
  emptyCache(like: DeviceLike = defaultDevice): void {
    native.emptyCache(device(like).code);
  },
  /** Makes the peak start again from what is held now. */
  resetPeak(like: DeviceLike = defaultDevice): void {
    native.resetPeakMemory(device(like).code);
  },
};
