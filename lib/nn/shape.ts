/** Layers that change shapes and sizes. */
import {
  describe,
  expectAxis,
  expectBoolean,
  expectInteger,
  expectOneOf,
  expectOptions,
  expectShape,
} from '../check.js';
import { type UpsampleOptions, upsample, upsampleModes, upsampleNames } from '../ops/upsample.js';
import { reshape } from '../ops/view.js';
import type { Shape, Tensor } from '../tensor.js';
import { Module } from './module.js';

/**
 * One axis as several, whose sizes multiply to its own; one of them may be -1.
 * @example new nn.Unflatten(1, [8, 4, 4]) // [N, 128] to [N, 8, 4, 4]
 */
export class Unflatten extends Module {
  constructor(
    readonly axis: number,
    readonly sizes: Shape,
  ) {
    super();
    expectInteger('Unflatten', 'axis', axis);
    expectShape('Unflatten', sizes);
  }
  forward(x: Tensor): Tensor {
    const axis = expectAxis('Unflatten', this.axis, x.rank);
    return reshape(x, [...x.shape.slice(0, axis), ...this.sizes, ...x.shape.slice(axis + 1)]);
  }
}

/** Images [N, C, H, W] of another size; see {@link upsample}. */
export class Upsample extends Module {
  constructor(readonly options: UpsampleOptions) {
    super();
    const {
      size,
      scaleFactor,
      mode = 'nearest',
      alignCorners = false,
    } = expectOptions('Upsample', options, upsampleNames);
    if ((size === undefined) === (scaleFactor === undefined)) {
      throw new RangeError(
        `Upsample: needs size or scaleFactor, got ${describe(size)} and ${describe(scaleFactor)}`,
      );
    }
    expectOneOf('Upsample', 'mode', mode, upsampleModes);
    expectBoolean('Upsample', 'alignCorners', alignCorners);
  }
  forward(x: Tensor): Tensor {
    return upsample(x, this.options);
  }
}
