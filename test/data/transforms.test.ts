import { describe, expect, it } from 'vitest';
import {
  arange,
  DataLoader,
  manualSeed,
  type Tensor,
  TensorDataset,
  tensor,
  transforms,
  zeros,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';

const { compose, scale, normalize, oneHot, centerCrop, randomCrop, checkLabels } = transforms;
type Image = number[][];
const planes = (x: Tensor) => (x.toArray() as Image[][]).map((image) => image[0] as Image);
/** Images [N, 1, 4, 4] whose pixel at (r, c) is 100·n + 10·r + c. */
const pictures = (n: number, options: object = {}) =>
  tensor(
    Float32Array.from({ length: n * 16 }, (_, i) => {
      return 100 * Math.floor(i / 16) + 10 * (Math.floor(i / 4) % 4) + (i % 4);
    }),
    [n, 1, 4, 4],
    options,
  );

describe.each(devices)('transforms on %s', (device) => {
  it('scale, normalise, code and crop', () => {
    const pixels = tensor(new Uint8Array([0, 51, 255]), [1, 1, 1, 3], { device });
    const steps = compose(scale(), normalize(0.5, 0.5));
    const found = steps(pixels).toArray() as number[][][][];
    expect(found.flat(3).map((v) => Math.round(v * 1e6) / 1e6)).toEqual([-1, -0.6, 1]);
    const coded = oneHot(3)(tensor([2n, 0n], { device }));
    expect([coded.dtype, coded.toArray()]).toEqual([
      'float32',
      [
        [0, 0, 1],
        [1, 0, 0],
      ],
    ]);
    expect(planes(centerCrop(2)(pictures(1, { device })))).toEqual([
      [
        [11, 12],
        [21, 22],
      ],
    ]);
    expect(planes(centerCrop([1, 3])(pictures(1, { device })))).toEqual([[[10, 11, 12]]]);
  });

  it('cut windows and mirror images, each its own way', () => {
    manualSeed(3);
    const x = pictures(64, { device });
    const corners = planes(randomCrop(3)(x)).map((image, n) => {
      const corner = (image[0]?.[0] as number) - 100 * n;
      image.forEach((row, r) => {
        row.forEach((value, c) => {
          expect(value).toBe(100 * n + corner + 10 * r + c);
        });
      });
      return corner;
    });
    expect([...new Set(corners)].sort((a, b) => a - b)).toEqual([0, 1, 10, 11]);
    expect(randomCrop(4, { padding: 2 })(x).shape).toEqual([64, 1, 4, 4]);
    for (const [flip, mirror] of [
      [transforms.randomHorizontalFlip(), (image: Image) => image.map((row) => [...row].reverse())],
      [transforms.randomVerticalFlip(), (image: Image) => [...image].reverse()],
    ] as const) {
      const before = planes(x);
      let mirrored = 0;
      planes(flip(x)).forEach((image, n) => {
        const same = String(image) === String(before[n]);
        if (!same) ++mirrored;
        expect(image).toEqual(same ? before[n] : mirror(before[n] as Image));
      });
      expect(mirrored).toBeGreaterThan(16);
      expect(mirrored).toBeLessThan(48);
    }
    expect(planes(transforms.randomHorizontalFlip(0)(x))).toEqual(planes(x));
    expect(randomCrop(2)(zeros([0, 1, 4, 4], { device })).shape).toEqual([0, 1, 2, 2]);
  });
});

describe('transforms', () => {
  it('repeat with the seed and the place of the batch', async () => {
    const data = new TensorDataset(pictures(12), arange(12));
    const change = compose(randomCrop(3), transforms.randomHorizontalFlip());
    const run = async (prefetch: number, batch = 0, seed = 5) => {
      const loader = new DataLoader(data, {
        batchSize: 4,
        seed,
        prefetch,
        transform: (x, y) => [change(x), y],
      });
      loader.loadStateDict({ ...loader.stateDict(), batch });
      const all: unknown[] = [];
      for await (const [x] of loader) all.push(x.toArray());
      return all;
    };
    const all = await run(0);
    expect(await run(3)).toEqual(all);
    expect(await run(1, 1)).toEqual(all.slice(1));
    expect(await run(0, 0, 6)).not.toEqual(all);
  });

  it('refuse what does not fit', () => {
    expect(() => checkLabels(tensor([0n, 3n, 1n]), 3)).toThrow(
      /checkLabels: labels must be in \[0,3\), got 3 at 1/,
    );
    expect(() => oneHot(2)(tensor([-1n]))).toThrow(/labels must be in \[0,2\), got -1 at 0/);
    expect(() => randomCrop(5)(pictures(1))).toThrow(
      /randomCrop: images must be \[5,5\] or larger, got a tensor float32\[1,1,4,4\]/,
    );
    expect(() => centerCrop(2)(zeros([4, 4]))).toThrow(/centerCrop: needs images \[N,C,H,W\]/);
    expect(() => transforms.randomHorizontalFlip(2)).toThrow(/p must be in \[0,1\], got 2/);
    expect(() => compose(3 as never)).toThrow(/compose: a step must be a function, got 3/);
    expect(() => randomCrop('2' as never)).toThrow(/size must be a number or \[height,width\]/);
  });
});
