/** What the kernels of core/families/optim.h take: rules by number, flags, places, lists of handles. */
import type { Device } from '../device.js';
import type { Tensor } from '../tensor.js';

declare module '../native.js' {
  interface NativeKernels {
    updateParameters(
      rule: number,
      params: Numbers,
      grads: Numbers,
      first: Numbers,
      second: Numbers,
      third: Numbers,
      masters: Numbers,
      hyper: Handle,
      options: number,
      found: Handle | undefined,
    ): void;
  }
}

/** @internal The rules and their options, as core/families/optim.h numbers them. */
export const rules = {
  sgd: 0,
  adam: 1,
  rmsprop: 2,
  adagrad: 3,
  adadelta: 4,
  lion: 5,
  average: 6,
} as const;
/** @internal */
export const flags = {
  maximize: 1,
  nesterov: 2,
  classical: 4,
  decoupled: 8,
  warmup: 16,
  equal: 32,
} as const;

/** Places in the hyper-parameters, as core/families/optim.h numbers them. */
export const hyper = {
  learningRate: 0,
  momentum: 1,
  dampening: 2,
  eps: 3,
  weightDecay: 4,
  step: 5,
  size: 6,
} as const;

/** The names of a rule's states by their place in the kernel. */
export const slots = ['first', 'second', 'third'] as const;
/** The states that a rule keeps per parameter, by their place in the kernel, with their names. */
export type StateNames = Partial<Record<(typeof slots)[number], string>>;

/** @internal */
export function handles(tensors: readonly Tensor[]): Float64Array {
  const list = new Float64Array(tensors.length);
  for (let i = 0; i < list.length; ++i) list[i] = (tensors[i] as Tensor).h;
  return list;
}

/** @internal */
export function isHalf(x: Tensor): boolean {
  return x.dtype === 'bfloat16' || x.dtype === 'float16';
}

/** @internal Tensors by where they are, in the order in which their devices come. */
export function byDevice(tensors: readonly Tensor[]): Map<Device, Tensor[]> {
  const found = new Map<Device, Tensor[]>();
  for (const t of tensors) {
    const list = found.get(t.device);
    if (list) list.push(t);
    else found.set(t.device, [t]);
  }
  return found;
}
