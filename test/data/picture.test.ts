import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { arange, saveImages, tensor, zeros } from '../../lib/index.js';

const folder = mkdtempSync(path.join(tmpdir(), 'nodegrad-pictures-'));
afterAll(() => rmSync(folder, { recursive: true }));

async function pixels(file: string, channels: 1 | 3) {
  const image = sharp(file).toColourspace(channels === 1 ? 'b-w' : 'srgb');
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  return { size: [info.height, info.width, info.channels], data: [...data] };
}

describe('saveImages', () => {
  it('lays gray images side by side, in a folder that it makes', async () => {
    const file = path.join(folder, 'new', 'gray.png');
    const images = arange(12).to('uint8').reshape([3, 2, 2]);
    await saveImages(file, images, { columns: 2 });
    const { size, data } = await pixels(file, 1);
    expect(size).toEqual([4, 4, 1]);
    expect(data).toEqual([0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 0, 0, 10, 11, 0, 0]);
  });

  it('scales floats from their range, and keeps colors', async () => {
    const file = path.join(folder, 'color.png');
    const images = tensor([-1, 1, 0, -2, 3, 0.5], [1, 3, 1, 2]);
    await saveImages(file, images, { range: [-1, 1] });
    const { size, data } = await pixels(file, 3);
    expect(size).toEqual([1, 2, 3]);
    expect(data).toEqual([0, 128, 255, 255, 0, 191]);
  });

  it('says what is wrong', async () => {
    const file = path.join(folder, 'none.png');
    await expect(saveImages(file, zeros([2, 2]))).rejects.toThrow(
      /saveImages: images must be \[N,1,H,W\], \[N,3,H,W\] or \[N,H,W\], got/,
    );
    await expect(saveImages(file, zeros([1, 2, 2]), { range: [1, 1] })).rejects.toThrow(
      /saveImages: range must be black and white/,
    );
  });
});
