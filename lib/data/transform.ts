/** What is done to batches before a network sees them. */
import { describe, expectNumber, expectTensor } from '../check.js';
import { isFloating } from '../dtype.js';
import { add, mul } from '../ops/binary.js';
import { cast } from '../ops/copy.js';
import { tensor } from '../ops/fill.js';
import type { Tensor } from '../tensor.js';

/** One number for all, or one per channel. */
export type PerChannel = number | readonly number[];

/**
 * Images as a network wants them: (x/255 - mean) / std for uint8, (x - mean) / std for floats, as
 * x·a + b. The formula is that of torchvision's ToTensor and Normalize.
 * @param x [N, H, W] or [N, C, H, W]; per-channel numbers need the latter
 * @returns the same shape; float32 for uint8
 * @example new DataLoader(data, { transform: (x, y) => [normalize(x, 0.5, 0.5), y] })
 */
export function normalize(x: Tensor, mean: PerChannel = 0, std: PerChannel = 1): Tensor {
  expectTensor('normalize', x, 'x');
  const scale = isFloating(x.dtype) ? 1 : 255;
  const channels = Array.isArray(mean) ? mean.length : Array.isArray(std) ? std.length : 0;
  if (channels > 0 && (x.rank !== 4 || x.shape[1] !== channels)) {
    throw new RangeError(
      `normalize: ${channels} channels need x of [N,${channels},H,W], got ${describe(x)}`,
    );
  }
  const means = spread('mean', mean, channels);
  const stds = spread('std', std, channels);
  if (stds.includes(0)) throw new RangeError('normalize: std must not be 0');
  const factors = stds.map((s) => 1 / (scale * s));
  const offsets = stds.map((s, i) => -(means[i] as number) / s);
  const operand = (values: number[]): number | Tensor =>
    channels === 0
      ? (values[0] as number)
      : tensor(values, [channels, 1, 1], { dtype: floats.dtype, device: x.device });
  const floats = isFloating(x.dtype) ? x : cast(x, 'float32');
  return add(mul(floats, operand(factors)), operand(offsets));
}

function spread(name: string, values: PerChannel, channels: number): number[] {
  if (typeof values === 'number') return new Array(Math.max(1, channels)).fill(values);
  if (!Array.isArray(values) || values.length !== channels) {
    throw new RangeError(
      `normalize: ${name} must be a number or one per channel, got ${describe(values)}`,
    );
  }
  return values.map((value) => expectNumber('normalize', name, value));
}
