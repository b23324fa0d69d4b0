/**
 * CPU tensors between the threads of a process. The memory is shared, not copied: a tensor becomes
 * a plain object that postMessage can send, and the other thread opens it, once. The block lives
 * until both threads have let go of it.
 */
import { record } from './autograd.js';
import { describe, expectOptions, expectRange, expectTensor } from './check.js';
import { cpu } from './device.js';
import { native } from './native.js';
import { type Tensor, take } from './tensor.js';

/** A tensor on its way to another thread. */
export interface SharedTensor {
  readonly kind: 'nodegrad.tensor';
  readonly process: number;
  readonly number: number;
}

/**
 * A plain object to send to another thread of this process, which opens it by
 * {@link receiveTensor}. Both threads then see the same memory: write to it in one of them at most,
 * and only when the other does not read.
 * @param x on the cpu; its graph stays behind
 * @param options.expires seconds after which an object that was not opened is void; 60 where left out
 * @example worker.postMessage(shareTensor(batch));
 */
export function shareTensor(x: Tensor, options: { expires?: number } = {}): SharedTensor {
  expectTensor('shareTensor', x);
  const { expires = 60 } = expectOptions('shareTensor', options, ['expires']);
  const seconds = expectRange('shareTensor', 'expires', expires, 0.001, 86_400);
  const number = native.shareTensor(x.h, seconds);
  setTimeout(() => native.unshareTensor(number), seconds * 1000).unref();
  return { kind: 'nodegrad.tensor', process: process.pid, number };
}

/**
 * The tensor of an object that {@link shareTensor} made in another thread (or this one).
 * @throws where it was received before, came too late, or is from another process
 */
export function receiveTensor(shared: SharedTensor): Tensor {
  const found = shared as Partial<SharedTensor> | null;
  if (typeof found !== 'object' || found?.kind !== 'nodegrad.tensor') {
    throw new TypeError(
      `receiveTensor: must be given what shareTensor made, got ${describe(shared)}`,
    );
  }
  if (found.process !== process.pid) {
    throw new Error(
      `receiveTensor: the tensor is of another process, ${found.process}, got it in ${process.pid}`,
    );
  }
  native.receiveTensor(expectRange('receiveTensor', 'number', found.number, 1));
  return record('receiveTensor', null, take(0, cpu), [], null, null);
}
