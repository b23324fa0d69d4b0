/** Writing images to files. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { describe, expectInteger, expectNumber, expectOptions, expectTensor } from '../check.js';
import { noGrad } from '../context.js';
import { to } from '../ops/copy.js';
import { permute, reshape } from '../ops/view.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { loadSharp } from './image.js';

export interface SaveImagesOptions {
  /** Images beside each other; about the square root of their number where left out. */
  columns?: number;
  /** What black and white are: [0, 255] for uint8 and [0, 1] for floats where left out. */
  range?: readonly [black: number, white: number];
}

/**
 * Writes images as one picture, side by side from left to right and from top to bottom.
 * @param file its ending says the format: .png, .jpg, .webp; its folder is made where there is none
 * @param images [N, 1, H, W] or [N, 3, H, W], or gray ones [N, H, W]
 * @example await saveImages('digits.png', generated, { columns: 10, range: [-1, 1] });
 */
export async function saveImages(
  file: string,
  images: Tensor,
  options: SaveImagesOptions = {},
): Promise<void> {
  const op = 'saveImages';
  const { shape, dtype, rank } = expectTensor(op, images, 'images');
  const [count = 0, channels, height, width] =
    rank === 3 ? [shape[0], 1, ...shape.slice(1)] : shape;
  if ((rank !== 3 && rank !== 4) || (channels !== 1 && channels !== 3) || images.size === 0) {
    throw new RangeError(
      `${op}: images must be [N,1,H,W], [N,3,H,W] or [N,H,W], got ${describe(images)}`,
    );
  }
  const { columns = Math.ceil(Math.sqrt(count)), range = [0, dtype === 'uint8' ? 255 : 1] } =
    expectOptions(op, options, ['columns', 'range']);
  expectInteger(op, 'columns', columns, 1);
  if (!Array.isArray(range) || range.length !== 2 || range[0] === range[1]) {
    throw new RangeError(`${op}: range must be black and white, got ${describe(range)}`);
  }
  const [black, white] = range.map((value) => expectNumber(op, 'range', value)) as [number, number];
  const [h, w] = [height as number, width as number];
  const rows = noGrad(() =>
    scope(() => {
      const pixels = permute(reshape(images, [count, channels, h, w]), [0, 2, 3, 1]);
      return to(pixels.contiguous(), 'float32').data() as Float32Array;
    }),
  );
  const size = { width: w * columns, height: h * Math.ceil(count / columns), channels } as const;
  const bytes = new Uint8ClampedArray(size.width * size.height * channels);
  const line = w * channels;
  for (let row = 0; row < count * h; ++row) {
    const [image, y] = [Math.floor(row / h), row % h];
    const top = Math.floor(image / columns) * h + y;
    const start = top * size.width * channels + (image % columns) * line;
    for (let i = 0; i < line; ++i) {
      bytes[start + i] = (255 * ((rows[row * line + i] as number) - black)) / (white - black);
    }
  }
  const sharp = (await loadSharp(op)) as typeof import('sharp')['default'];
  await mkdir(path.dirname(file), { recursive: true });
  const space = channels === 1 ? 'b-w' : 'srgb';
  await sharp(bytes, { raw: size }).toColourspace(space).toFile(file);
}
