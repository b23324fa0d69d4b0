/** Datasets: samples by number, fetched a batch at a time. */
import { describe, expectInteger, expectTensor } from '../check.js';
import { dtypeBytes, dtypeCode } from '../dtype.js';
import { native } from '../native.js';
import { indexSelect } from '../ops/index.js';
import { type Tensor, take } from '../tensor.js';

/** Where a batch stands in a run; what a dataset changes at random depends on it. */
export interface BatchPlace {
  readonly epoch: number;
}

/**
 * What a {@link DataLoader} reads. Give `batch` any form: a gather from memory, or files decoded
 * off the event loop, for which it returns a promise. A batch is a tensor, or a tuple or object of
 * tensors and of arrays of strings.
 */
export interface Dataset<Batch = readonly Tensor[]> {
  /** Number of samples. */
  readonly length: number;
  /**
   * The samples of these numbers, stacked: the first axis of each tensor is `indices.length`, or
   * shorter where samples cannot be read and are left out, the others in their order. New tensors
   * belong to the loader, which passes them on to the loop.
   */
  batch(indices: Uint32Array, place?: BatchPlace): Batch | Promise<Batch>;
  /**
   * The same off the event loop, if there is a way: what a {@link DataLoader} asks for batches that
   * it prepares ahead of their step.
   */
  prefetch?(indices: Uint32Array, place?: BatchPlace): Batch | Promise<Batch>;
}

/** @internal The batch, off the event loop if that is wanted and there is a way. */
export function fetchBatch<B>(
  dataset: Dataset<B>,
  indices: Uint32Array,
  place: BatchPlace | undefined,
  ahead: boolean,
): B | Promise<B> {
  if (ahead && dataset.prefetch) return dataset.prefetch(indices, place);
  return dataset.batch(indices, place);
}

export function expectDataset<D extends Dataset<unknown>>(op: string, dataset: D): D {
  if (typeof dataset?.batch !== 'function') {
    throw new TypeError(`${op}: expected a dataset, got ${describe(dataset)}`);
  }
  expectInteger(op, 'dataset.length', dataset.length, 0, 2 ** 32 - 1);
  return dataset;
}

/** Gathering fewer bytes than this takes no longer than going to another thread and back. */
const leastGatheredLater = 64 * 1024;

/** Numbers of samples as an int64 tensor [indices.length] on the device of `like`. */
function indexTensor(indices: Uint32Array, like: Tensor): Tensor {
  // Little-endian: the low word of each int64, and zero above it.
  const words = new Uint32Array(2 * indices.length);
  for (let i = 0; i < indices.length; ++i) words[2 * i] = indices[i] as number;
  native.fromBytes(like.device.code, [indices.length], dtypeCode('TensorDataset', 'int64'), words);
  return take(0, like.device);
}

/**
 * Tensors whose first axes count the same samples: row i of each makes sample i. The tensors leave
 * their scope and live as long as the dataset.
 * @throws RangeError where the first axes differ
 * @example
 * const data = new TensorDataset(images, labels); // [N, 28, 28] and [N]
 */
export class TensorDataset<T extends readonly Tensor[] = readonly Tensor[]> implements Dataset<T> {
  readonly tensors: T;
  readonly length: number;

  constructor(...tensors: T) {
    const first = expectTensor('TensorDataset', tensors[0]);
    for (const tensor of tensors) {
      if (expectTensor('TensorDataset', tensor).rank === 0) {
        throw new RangeError('TensorDataset: tensors need a first axis, got a scalar');
      }
      if (tensor.shape[0] !== first.shape[0]) {
        throw new RangeError(
          `TensorDataset: first axes must match, got ${tensors.map(describe).join(' and ')}`,
        );
      }
    }
    for (const tensor of tensors) tensor.persist();
    this.tensors = tensors;
    this.length = first.shape[0] as number;
  }

  batch(indices: Uint32Array): T {
    return this.gather(indices, indexSelect);
  }

  prefetch(indices: Uint32Array): T | Promise<T> {
    const pending: Promise<void>[] = [];
    const batch = this.gather(indices, (x, index) => {
      const rowBytes = (x.size * dtypeBytes[x.dtype]) / Math.max(1, this.length);
      if (indices.length * rowBytes < leastGatheredLater) return indexSelect(x, index);
      const gathered = native.indexSelectLater(x.h, index.h);
      if (gathered) pending.push(gathered);
      return take(0, x.device);
    });
    return pending.length === 0 ? batch : Promise.all(pending).then(() => batch);
  }

  private gather(indices: Uint32Array, rowsOf: (x: Tensor, index: Tensor) => Tensor): T {
    const byDevice = new Map<unknown, Tensor>();
    return this.tensors.map((tensor) => {
      let index = byDevice.get(tensor.device);
      if (!index) {
        index = indexTensor(indices, tensor);
        byDevice.set(tensor.device, index);
      }
      return rowsOf(tensor, index);
    }) as unknown as T;
  }
}
