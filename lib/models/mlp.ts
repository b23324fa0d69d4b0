/** The multi-layer perceptron: fully connected layers with ReLU between them. */
import { describe, expectInteger } from '../check.js';
import { ReLU } from '../nn/activation.js';
import { Linear, type LinearOptions } from '../nn/linear.js';
import { type Layer, Sequential } from '../nn/sequential.js';

/**
 * Linear layers from each size to the next, a ReLU after all but the last: [N, sizes[0]] to
 * [N, sizes.at(-1)].
 * @example const model = models.mlp([784, 256, 128, 10]); // three Linear, two ReLU
 */
export function mlp(sizes: readonly number[], options: LinearOptions = {}): Sequential {
  if (!Array.isArray(sizes) || sizes.length < 2) {
    throw new RangeError(`mlp: sizes must be two numbers or more, got ${describe(sizes)}`);
  }
  const layers: Layer[] = [];
  for (let i = 1; i < sizes.length; ++i) {
    if (i > 1) layers.push(new ReLU());
    layers.push(
      new Linear(
        expectInteger('mlp', 'sizes', sizes[i - 1], 1),
        expectInteger('mlp', 'sizes', sizes[i], 1),
        options,
      ),
    );
  }
  return new Sequential(...layers);
}
