/**
 * Changes of batches for the DataLoader's `transform`: each function here makes one, from tensor to
 * tensor. Random ones draw by the place of the batch (lib/data/draws.ts), so a resumed run repeats
 * them; call them before the first `await` of an asynchronous transform.
 */
import {
  describe,
  expectFunction,
  expectInteger,
  expectOptions,
  expectRange,
  expectTensor,
} from '../check.js';
import { cpu } from '../device.js';
import { isFloating } from '../dtype.js';
import { mul, where } from '../ops/binary.js';
import { cast, to } from '../ops/copy.js';
import { tensor } from '../ops/fill.js';
import { oneHot as oneHotOp } from '../ops/gather.js';
import { flip as flipOp, pad, stack } from '../ops/movement.js';
import { select, slice } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import { draws } from './draws.js';
import { normalize as normalizeImages, type PerChannel } from './transform.js';

/** One change of a batch. */
export type Transform = (x: Tensor) => Tensor;
/** Height and width, or one number for both. */
export type ImageSize = number | readonly [height: number, width: number];

function images(op: string, x: unknown): Tensor {
  const found = expectTensor(op, x);
  if (found.rank === 4) return found;
  throw new RangeError(`${op}: needs images [N,C,H,W], got ${describe(x)}`);
}

function sizesOf(op: string, size: ImageSize): [number, number] {
  const sizes: unknown = typeof size === 'number' ? [size, size] : size;
  if (!Array.isArray(sizes) || sizes.length !== 2) {
    throw new TypeError(`${op}: size must be a number or [height,width], got ${describe(size)}`);
  }
  return [expectInteger(op, 'size', sizes[0], 1), expectInteger(op, 'size', sizes[1], 1)];
}

/** One after the other. */
export function compose(...steps: readonly Transform[]): Transform {
  for (const step of steps) expectFunction('compose', 'a step', step);
  return (x) => steps.reduce((found, step) => step(found), expectTensor('compose', x));
}

/** x · factor, as float32 where x holds integers; factor is 1/255 where left out. */
export function scale(factor: number = 1 / 255): Transform {
  expectRange('scale', 'factor', factor, -1e30, 1e30);
  return (x) => {
    expectTensor('scale', x);
    return mul(isFloating(x.dtype) ? x : cast(x, 'float32'), factor);
  };
}

/** (x/255 − mean) / std for uint8 images, (x − mean) / std for floats; see `normalize`. */
export function normalize(mean: PerChannel = 0, std: PerChannel = 1): Transform {
  return (x) => normalizeImages(x, mean, std);
}

/** Mirrors each image left to right with probability `p`. */
export function randomHorizontalFlip(p = 0.5): Transform {
  return randomFlip('randomHorizontalFlip', p, 3);
}

/** Turns each image upside down with probability `p`. */
export function randomVerticalFlip(p = 0.5): Transform {
  return randomFlip('randomVerticalFlip', p, 2);
}

function randomFlip(op: string, p: number, axis: number): Transform {
  expectRange(op, 'p', p, 0, 1);
  return (given) => {
    const x = images(op, given);
    const words = draws(op);
    const rows = x.shape[0] as number;
    const chosen = Array.from({ length: rows }, () => words.uniform() < p);
    const mask = to(tensor(chosen, [rows, 1, 1, 1], { dtype: 'bool', device: cpu }), x.device);
    return where(mask, flipOp(x, [axis]), x);
  };
}

/** The middle of each image. */
export function centerCrop(size: ImageSize): Transform {
  const op = 'centerCrop';
  const [height, width] = sizesOf(op, size);
  return (given) => {
    const x = images(op, given);
    const [top, left] = spare(op, x, height, width).map((n) => Math.floor(n / 2));
    return window(x, 2, top as number, left as number, height, width);
  };
}

export interface RandomCropOptions {
  /** Pixels of zeros around the image before cutting; 0 where left out. */
  padding?: number;
}

/** A window of each image at a random place. */
export function randomCrop(size: ImageSize, options: RandomCropOptions = {}): Transform {
  const op = 'randomCrop';
  const [height, width] = sizesOf(op, size);
  const { padding = 0 } = expectOptions(op, options, ['padding']);
  expectInteger(op, 'padding', padding, 0, 4096);
  return (given) => {
    const plain = images(op, given);
    const x = padding === 0 ? plain : pad(plain, [padding, padding, padding, padding]);
    const [down, across] = spare(op, x, height, width) as [number, number];
    const words = draws(op);
    if (x.shape[0] === 0) return window(x, 2, 0, 0, height, width);
    return stack(
      Array.from({ length: x.shape[0] as number }, (_, i) => {
        const [top, left] = [words.below(down + 1), words.below(across + 1)];
        return window(select(x, 0, i), 1, top, left, height, width);
      }),
    );
  };
}

function spare(op: string, x: Tensor, height: number, width: number): [number, number] {
  const [, , H, W] = x.shape as [number, number, number, number];
  if (H >= height && W >= width) return [H - height, W - width];
  throw new RangeError(`${op}: images must be [${height},${width}] or larger, got ${describe(x)}`);
}

function window(
  x: Tensor,
  axis: number,
  top: number,
  left: number,
  height: number,
  width: number,
): Tensor {
  return slice(slice(x, axis, top, top + height), axis + 1, left, left + width);
}

/** Classes [N] as rows of float32 [N, classes]. */
export function oneHot(classes: number): Transform {
  expectInteger('oneHot', 'classes', classes, 1);
  return (x) => {
    checkLabels(x, classes);
    return cast(oneHotOp(cast(x, 'int64'), classes), 'float32');
  };
}

/**
 * Labels as they are, after a look at every one of them, which waits for the device: for datasets,
 * before training.
 * @throws RangeError naming the first label that is not in [0, classes)
 */
export function checkLabels(labels: Tensor, classes: number): Tensor {
  const op = 'checkLabels';
  expectTensor(op, labels);
  expectInteger(op, 'classes', classes, 1);
  const values = labels.data();
  const at = values.findIndex((value: number | bigint) => {
    const label = Number(value);
    return !Number.isInteger(label) || label < 0 || label >= classes;
  });
  if (at < 0) return labels;
  throw new RangeError(`${op}: labels must be in [0,${classes}), got ${values[at]} at ${at}`);
}
