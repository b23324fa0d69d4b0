/** Images of another size, composed of views, rows by index and products. */
import { describe, expectBoolean, expectOneOf, expectOptions } from '../check.js';
import type { Tensor } from '../tensor.js';
import { maximum } from './binary.js';
import { cast } from './copy.js';
import { arange } from './fill.js';
import { matmul } from './gemm.js';
import { indexSelect } from './index.js';
import { batched, expectPair, type Pair } from './spatial.js';
import { abs, floor } from './unary.js';
import { expand, reshape, transpose, unsqueeze } from './view.js';

export const upsampleModes = ['nearest', 'bilinear'] as const;
export type UpsampleMode = (typeof upsampleModes)[number];

export interface UpsampleOptions {
  /** Height and width of the result. */
  size?: Pair;
  /** How many times as large the result is; given where size is not. */
  scaleFactor?: Pair;
  /** 'nearest' where left out. */
  mode?: UpsampleMode;
  /** Whether corner pixels keep their places; false where left out. Of 'bilinear' only. */
  alignCorners?: boolean;
}

/** The size of the result along an axis, and the input's elements per one of the result's. */
interface Scaling {
  size: number;
  step: number;
}

function scalings(x: Tensor, { size, scaleFactor }: UpsampleOptions): [Scaling, Scaling] {
  const sides = [x.shape[2] as number, x.shape[3] as number] as const;
  if ((size === undefined) === (scaleFactor === undefined)) {
    throw new RangeError(
      `upsample: needs size or scaleFactor, got ${describe(size)} and ${describe(scaleFactor)}`,
    );
  }
  if (sides[0] === 0 || sides[1] === 0) {
    throw new RangeError(`upsample: the input must have pixels, got [${x.shape}]`);
  }
  if (size !== undefined) {
    const given = expectPair('upsample', 'size', size, 1);
    return [
      { size: given[0], step: sides[0] / given[0] },
      { size: given[1], step: sides[1] / given[1] },
    ];
  }
  const factors: unknown =
    typeof scaleFactor === 'number' ? [scaleFactor, scaleFactor] : scaleFactor;
  const scaled = (axis: 0 | 1): Scaling => {
    const factor: unknown = Array.isArray(factors) && factors.length === 2 ? factors[axis] : null;
    const found = typeof factor === 'number' ? Math.floor(sides[axis] * factor) : 0;
    if (!(found >= 1 && found < 2 ** 31)) {
      throw new RangeError(
        `upsample: scaleFactor must leave a pixel or more, got ${describe(scaleFactor)}`,
      );
    }
    return { size: found, step: 1 / (factor as number) };
  };
  return [scaled(0), scaled(1)];
}

/** Whole factors repeat elements, which is a view and a copy. */
function repeated(x: Tensor, high: number, wide: number): Tensor {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const stretched = expand(reshape(x, [n, c, h, 1, w, 1]), [n, c, h, high, w, wide]);
  return reshape(stretched, [n, c, h * high, w * wide]);
}

/** Rows ⌊i·step⌋ of an axis. */
function nearest(x: Tensor, axis: number, { size, step }: Scaling): Tensor {
  const last = (x.shape[axis] as number) - 1;
  const places = arange(0, size, 1, { dtype: 'float32', device: x.device }).mul(step);
  const index = floor(places).minimum(last).to('int64');
  return transpose(indexSelect(transpose(x, 0, axis), index), 0, axis);
}

/** Weights [size, from]: each row holds the two neighbours of a place between elements. */
function tents(from: number, { size, step }: Scaling, corners: boolean, like: Tensor): Tensor {
  const options = { dtype: like.dtype, device: like.device };
  const at = arange(0, size, 1, options);
  const places = corners
    ? at.mul(size > 1 ? (from - 1) / (size - 1) : 0)
    : maximum(at.add(0.5).mul(step).sub(0.5), 0).minimum(from - 1);
  const distance = abs(unsqueeze(places, 1).sub(arange(0, from, 1, options)));
  return maximum(distance.neg().add(1), 0);
}

/** @internal The names of options. */
export const upsampleNames = ['size', 'scaleFactor', 'mode', 'alignCorners'] as const;

/**
 * Images of another size, by PyTorch's `interpolate`: 'nearest' takes pixel ⌊i·H/H'⌋, 'bilinear'
 * mixes the four around (i + ½)·H/H' - ½ (i·(H-1)/(H'-1) with alignCorners).
 * @param x [N, C, H, W], or [C, H, W]
 * @returns [N, C, H', W'] where size is [H', W']; with scaleFactor f, H' is ⌊f·H⌋
 */
export function upsample(x: Tensor, options: UpsampleOptions): Tensor {
  const given = expectOptions('upsample', options, upsampleNames);
  const mode = expectOneOf('upsample', 'mode', given.mode ?? 'nearest', upsampleModes);
  const corners = expectBoolean('upsample', 'alignCorners', given.alignCorners ?? false);
  return batched('upsample', x, 4, (images) => {
    const [rows, columns] = scalings(images, given);
    const [h, w] = [images.shape[2] as number, images.shape[3] as number];
    if (mode === 'bilinear') {
      const wide = images.dtype === 'float64' ? images : cast(images, 'float32');
      const high = matmul(tents(h, rows, corners, wide), wide);
      return cast(matmul(high, transpose(tents(w, columns, corners, wide))), images.dtype);
    }
    if (rows.size % h === 0 && columns.size % w === 0) {
      return repeated(images, rows.size / h, columns.size / w);
    }
    return nearest(nearest(images, 2, rows), 3, columns);
  });
}
