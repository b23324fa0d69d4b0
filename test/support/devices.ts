/** The devices that tests run on: every one that this machine and this build have. */
import { type Device, device, deviceAvailable, deviceCount } from '../../lib/index.js';

/** The CPU first; `emulated` where the build has it, `cuda` where there is a GPU. */
export const devices: readonly Device[] = (['cpu', 'emulated', 'cuda'] as const)
  .filter((type) => deviceAvailable(type).available)
  .map((type) => device(type));

export const cpu: Device = device('cpu');

/** Devices other than the CPU. */
export const accelerators: readonly Device[] = devices.filter((d) => d !== cpu);

/** The second emulated device, which has the instructions of sm_90 and other kernels for them. */
export const hopper: readonly Device[] = deviceCount('emulated') > 1 ? [device('emulated:1')] : [];
