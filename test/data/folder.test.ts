import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ConcatDataset,
  DataLoader,
  type DataLoaderState,
  type Dataset,
  ImageFolder,
  type ImageFolderOptions,
  layers,
  memory,
  Subset,
  sequential,
  type Tensor,
} from '../../lib/index.js';

let folder = '';
type Format = 'png' | 'jpeg' | 'webp';

/** A picture whose red is 10·row + column and whose blue is 7 everywhere. */
async function picture(name: string, height: number, width: number, format: Format = 'png') {
  const pixels = Buffer.alloc(height * width * 3);
  for (let i = 0; i < height * width; ++i) {
    pixels.set([10 * Math.floor(i / width) + (i % width), 0, 7], 3 * i);
  }
  const at = path.join(folder, name);
  await mkdir(path.dirname(at), { recursive: true });
  await sharp(pixels, { raw: { width, height, channels: 3 } })
    .toFormat(format)
    .toFile(at);
  return at;
}

async function first(dir: string, options: ImageFolderOptions, index = 0): Promise<Tensor> {
  return (await new ImageFolder(path.join(folder, dir), options).batch(Uint32Array.of(index)))[0];
}
const red = (x: Tensor) => (x.toArray() as number[][][][])[0]?.[0] as number[][];

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-images-'));
  await picture('plain/only/a.png', 6, 6);
  for (let i = 0; i < 6; ++i) await picture(`mixed/cat/${i}.jpeg`, 10 + i, 20 - i, 'jpeg');
  for (let i = 0; i < 4; ++i) await picture(`mixed/dog/deep/${i}.png`, 9, 5 + i);
  await picture('mixed/ant/x.webp', 12, 12, 'webp');
  await writeFile(path.join(folder, 'mixed/ant/notes.txt'), 'no image');
});
afterAll(() => rm(folder, { recursive: true }));

describe('ImageFolder', () => {
  it('lists classes by name and decodes files of mixed sizes and formats', async () => {
    const data = new ImageFolder(path.join(folder, 'mixed'), { size: [8, 6] });
    expect([data.length, data.classes]).toEqual([11, ['ant', 'cat', 'dog']]);
    expect(data.labels).toEqual([0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]);
    const before = memory.stats().liveTensors;
    const seen: number[] = [];
    for await (const [x, y] of new DataLoader(data, { batchSize: 4, shuffle: true, seed: 1 })) {
      expect([x.dtype, x.shape.slice(1), y.dtype]).toEqual(['float32', [3, 8, 6], 'int64']);
      expect(x.max().item()).toBeLessThanOrEqual(1);
      expect((x.toArray() as number[][][][]).every((image) => image[2]?.[0]?.[0] !== 0)).toBe(true);
      seen.push(...(y.toArray() as number[]));
    }
    expect(seen.sort()).toEqual([...data.labels]);
    expect(memory.stats().liveTensors).toBe(before);
    const two = new ImageFolder(path.join(folder, 'mixed'), { size: 4, classes: ['dog', 'cat'] });
    expect([two.length, two.labels[0], two.labels[9]]).toEqual([10, 0, 1]);
  });

  it('resizes, scales and lays out pixels as asked', async () => {
    const nearest = await first('plain', { size: 3, interpolation: 'nearest', scale: null });
    expect([nearest.dtype, nearest.shape]).toEqual(['uint8', [1, 3, 3, 3]]);
    // The pixels whose middles are nearest: 1, 3, 5, as in PIL.
    expect(red(nearest)).toEqual([
      [11, 13, 15],
      [31, 33, 35],
      [51, 53, 55],
    ]);
    expect((nearest.toArray() as number[][][][])[0]?.slice(1)).toEqual([
      new Array(3).fill([0, 0, 0]),
      new Array(3).fill([7, 7, 7]),
    ]);
    const same = await first('plain', { size: 6 });
    expect(red(same)[5]?.[4]).toBeCloseTo(54 / 255, 6);
    const halved = red(await first('plain', { size: 3, scale: 1 }));
    // A triangle filter over a plane gives the plane, but for the edges and rounding.
    expect(Math.abs((halved[1]?.[1] as number) - 27.5)).toBeLessThanOrEqual(1);
    const covered = await first('mixed', { size: 4, fit: 'cover', interpolation: 'nearest' }, 10);
    expect(covered.shape).toEqual([1, 3, 4, 4]);
    const gray = await first('plain', { size: 6, channels: 1, scale: 1 });
    expect(gray.shape).toEqual([1, 1, 6, 6]);
  });

  it('picks the pixels in which the middles lie, whatever the sizes', async () => {
    const dir = path.join(folder, 'odd/all');
    await mkdir(dir, { recursive: true });
    const [width, height] = [250, 187];
    const raw = { width, height, channels: 3 as const };
    const bytes = new Uint8Array(width * height * 3);
    for (let i = 0; i < width * height; ++i) {
      bytes.set([i % width, Math.floor(i / width), 0], 3 * i);
    }
    await sharp(bytes, { raw }).png().toFile(path.join(dir, 'x.png'));
    const middles = (count: number, from: number, begin = 0): number[] =>
      Array.from({ length: count }, (_, i) => begin + Math.floor(((i + 0.5) * from) / count));
    const found = async (fit: 'fill' | 'cover', size: number): Promise<[number[], number[]]> => {
      const image = await first('odd', { size, fit, interpolation: 'nearest', scale: null });
      const [x, y] = (image.toArray() as number[][][][])[0] as [number[][], number[][]];
      return [x[0] as number[], y.map((row) => row[0] as number)];
    };
    for (const size of [16, 31, 64, 300]) {
      expect(await found('fill', size)).toEqual([middles(size, width), middles(size, height)]);
    }
    // Of the width, (250 - 187) / 2 = 31.5 are cut off on either side.
    const [x, y] = await found('cover', 17);
    expect(y).toEqual(middles(17, height));
    expect(x).toEqual(Array.from({ length: 17 }, (_, i) => 31.5 + (i + 0.5) * 11).map(Math.floor));
  });

  it('takes gray, transparent and 16-bit files for what they are', async () => {
    const dir = path.join(folder, 'kinds/all');
    await mkdir(dir, { recursive: true });
    const gray = sharp(Buffer.from([10, 200]), { raw: { width: 2, height: 1, channels: 1 } });
    await gray.clone().toColourspace('b-w').png().toFile(path.join(dir, 'a.png'));
    const clear = Buffer.from([1, 2, 3, 0, 4, 5, 6, 255]);
    await sharp(clear, { raw: { width: 2, height: 1, channels: 4 } })
      .png()
      .toFile(path.join(dir, 'b.png'));
    await gray.clone().toColourspace('rgb16').png().toFile(path.join(dir, 'c.png'));
    const options = { size: [1, 2], scale: null } as const;
    const found = [];
    for (const i of [0, 1, 2]) found.push((await first('kinds', options, i)).flatten().toArray());
    expect(found).toEqual([
      [10, 200, 10, 200, 10, 200],
      [1, 4, 2, 5, 3, 6],
      [10, 200, 10, 200, 10, 200],
    ]);
  });

  it('augments by seed, epoch and image, whatever the order', async () => {
    const augment = {
      crop: 4,
      flip: true,
      rotate: 15,
      brightness: 0.2,
      contrast: 0.2,
      saturation: 0.5,
    };
    const dir = path.join(folder, 'mixed');
    const run = async (options: object, prefetch = 0, epochs = 1) => {
      const data = new ImageFolder(dir, { size: 8, augment, seed: 3, scale: null, ...options });
      const loader = new DataLoader(data, { batchSize: 4, prefetch });
      const epoch: unknown[][] = [];
      for (let e = 0; e < epochs; ++e) {
        epoch.push([]);
        for await (const [x] of loader) epoch[e]?.push(x.toArray());
      }
      return epoch;
    };
    const plain = await run({}, 0, 2);
    expect(plain[1]).not.toEqual(plain[0]);
    expect(await run({ concurrency: 1 }, 3, 2)).toEqual(plain);
    expect(await run({ cache: true }, 2, 2)).toEqual(plain);
    expect((await run({ seed: 4 }))[0]).not.toEqual(plain[0]);
  });

  it('mirrors half of the images and cuts windows', async () => {
    const dir = path.join(folder, 'plain');
    const options = { size: 6, scale: null, seed: 1 } as const;
    const flip = new ImageFolder(dir, { ...options, augment: { flip: true } });
    const plain = red(await first('plain', options));
    let mirrored = 0;
    for (let epoch = 0; epoch < 60; ++epoch) {
      const found = red((await flip.batch(Uint32Array.of(0), { epoch }))[0]);
      if (found[0]?.[0] === 5) {
        expect(found).toEqual(plain.map((row) => [...row].reverse()));
        ++mirrored;
      } else expect(found).toEqual(plain);
    }
    expect(mirrored).toBeGreaterThan(15);
    expect(mirrored).toBeLessThan(45);
    const small = { ...options, size: 4, interpolation: 'nearest' } as const;
    const crop = new ImageFolder(dir, { ...small, augment: { crop: 2 } });
    const corners = new Set<number>();
    for (let epoch = 0; epoch < 60; ++epoch) {
      const found = red((await crop.batch(Uint32Array.of(0), { epoch }))[0]);
      const corner = found[0]?.[0] as number;
      corners.add(corner);
      expect(found).toEqual([0, 10, 20, 30].map((r) => [0, 1, 2, 3].map((c) => corner + r + c)));
    }
    expect([...corners].sort((a, b) => a - b)).toEqual([0, 1, 2, 10, 11, 12, 20, 21, 22]);
  });

  it('names broken files, and refuses or skips them', async () => {
    const good = await readFile(await picture('broken/a/1.jpg', 64, 64, 'jpeg'));
    await writeFile(path.join(folder, 'broken/a/2.jpg'), good.subarray(0, good.length / 2));
    await writeFile(path.join(folder, 'broken/a/3.png'), 'this is text');
    await picture('broken/b/4.png', 3, 3);
    const dir = path.join(folder, 'broken');
    const strict = new ImageFolder(dir, { size: 8 });
    await expect(strict.batch(Uint32Array.of(0, 1))).rejects.toThrow(
      /^ImageFolder: .*2\.jpg is no image that can be read: .*$/,
    );
    await expect(strict.batch(Uint32Array.of(2))).rejects.toThrow(/3\.png is no image/);
    const warnings: string[] = [];
    const note = (warning: Error) => warnings.push(warning.message);
    process.on('warning', note);
    const lenient = new ImageFolder(dir, { size: 8, onError: 'skip' });
    const [x, y] = await lenient.batch(Uint32Array.of(3, 1, 0, 2));
    expect([x.shape[0], y.toArray()]).toEqual([2, [1, 0]]);
    await lenient.batch(Uint32Array.of(1));
    expect([...lenient.skipped].map((file) => path.basename(file)).sort()).toEqual([
      '2.jpg',
      '3.png',
    ]);
    await new Promise(setImmediate);
    process.off('warning', note);
    expect(warnings).toHaveLength(2);
    for (const warning of warnings) expect(warning).not.toMatch(/unknown error/i);
  });

  it('keeps skipped files out of what stands on it', async () => {
    for (const name of ['one/a/1.png', 'one/b/3.png', 'two/a/1.png', 'two/b/2.png']) {
      await picture(`gaps/${name}`, 4, 4);
    }
    await writeFile(path.join(folder, 'gaps/one/a/2.png'), 'nothing');
    await writeFile(path.join(folder, 'gaps/two/a/0.png'), 'nothing');
    const make = (part: string) =>
      new ImageFolder(path.join(folder, 'gaps', part), { size: 4, scale: null, onError: 'skip' });
    const [one, two] = [make('one'), make('two')];
    const both = new ConcatDataset(one, two);
    const [x, y] = await both.batch(Uint32Array.of(5, 1, 0, 3, 4, 2));
    expect([x.shape, y.toArray()]).toEqual([
      [4, 3, 4, 4],
      [1, 0, 0, 1],
    ]);
    for (const image of x.toArray() as number[][][][]) expect(image[2]?.[0]?.[0]).toBe(7);
    expect((await both.batch(Uint32Array.of(1, 3)))[0].shape).toEqual([0, 3, 4, 4]);

    const seen = async (from: Dataset<[Tensor, Tensor]>, prefetch: number) => {
      const loader = new DataLoader(from, { batchSize: 1, prefetch });
      const labels: unknown[] = [];
      for await (const [, label] of loader) labels.push(...(label.toArray() as number[]));
      return [labels, loader.epoch];
    };
    for (const prefetch of [0, 2]) {
      expect(await seen(one, prefetch)).toEqual([[0, 1], 1]);
      expect(await seen(both, prefetch)).toEqual([[0, 1, 0, 1], 1]);
      expect(await seen(new Subset(one, [0, 2, 1]), prefetch)).toEqual([[0, 1], 1]);
    }
    const loader = new DataLoader(one);
    const states: DataLoaderState[] = [];
    for await (const _ of loader) states.push(loader.stateDict());
    expect(states.map(({ batch }) => batch)).toEqual([1, 3]);
  });

  it('trains on a folder where a batch has none but skipped files', async () => {
    await picture('lone/a/1.png', 4, 4);
    await picture('lone/b/1.png', 4, 4);
    await writeFile(path.join(folder, 'lone/b/2.png'), 'nothing');
    const data = new ImageFolder(path.join(folder, 'lone'), { size: 4, onError: 'skip' });
    const model = sequential([layers.flatten(), layers.dense(1, { activation: 'sigmoid' })], {
      inputShape: [3, 4, 4],
    });
    model.compile({ optimizer: 'sgd', loss: 'binaryCrossentropy' });
    const { history } = await model.fit(data, { batchSize: 2, shuffle: false, verbose: 0 });
    expect(history.loss?.[0]).toBeGreaterThan(0);
    const { loss } = await model.evaluate(data, { batchSize: 2, verbose: 0 });
    expect(loss).toBeGreaterThan(0);
  });

  it('says which pictures it does not read', async () => {
    await picture('types/a/1.png', 3, 3);
    await writeFile(path.join(folder, 'types/a/2.gif'), 'GIF89a');
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
    expect(new ImageFolder(path.join(folder, 'types'), { size: 4 }).length).toBe(1);
    expect((await warned).message).toMatch(
      /left out in .*a: 1 files such as 2\.gif; .jpg, .jpeg, .png, .webp are read$/,
    );
  });

  it('leaves the event loop free while it decodes', async () => {
    await picture('large/a/1.jpg', 1500, 1500, 'jpeg');
    const data = new ImageFolder(path.join(folder, 'large'), { size: 8, interpolation: 'nearest' });
    let turns = 0;
    let done = false;
    const turn = () => {
      ++turns;
      if (!done) setImmediate(turn);
    };
    turn();
    await data.batch(Uint32Array.of(0, 0, 0, 0));
    done = true;
    expect(turns).toBeGreaterThan(20);
  });

  it('checks its options', async () => {
    const make =
      (options: object, dir = 'plain') =>
      () =>
        new ImageFolder(path.join(folder, dir), { size: 4, ...options });
    expect(make({}, 'none')).toThrow(/cannot read .*none: ENOENT/);
    await mkdir(path.join(folder, 'empty/a'), { recursive: true });
    expect(make({}, 'empty/a')).toThrow(/a must have folders of .jpg, .* files, got none/);
    await picture('empty/b/1.png', 3, 3);
    expect(make({}, 'empty')).toThrow(
      /class .*empty\/a must have pictures \(.jpg, .jpeg, .png, .webp are read\), got none/,
    );
    expect(make({ classes: ['cow'] }, 'mixed')).toThrow(/no folder cow, it has ant, cat, dog/);
    expect(make({ size: 0 })).toThrow(/size must be an integer in \[1,16384\], got 0/);
    expect(make({ size: [1, 2, 3] })).toThrow(/size must be a number or \[height,width\]/);
    expect(make({ channels: 4 })).toThrow(/channels must be 1 or 3, got 4/);
    expect(make({ interpolation: 'cubic' })).toThrow(/one of nearest, bilinear, got "cubic"/);
    expect(make({ augment: { crop: -1 } })).toThrow(/crop must be .* got -1/);
    expect(make({ onError: 'log' })).toThrow(/onError must be one of throw, skip/);
  });
});
