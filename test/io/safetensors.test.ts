import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  arange,
  type DType,
  dtypes,
  loadSafetensors,
  memory,
  nn,
  saveSafetensors,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/index.js';
import { cpu, devices } from '../support/devices.js';
import { collectGarbage } from '../support/garbage.js';
import { Random } from '../support/random.js';

let folder = '';
const at = (name: string) => path.join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-io-'));
});
afterAll(() => rm(folder, { recursive: true }));

const names: Record<DType, string> = {
  float32: 'F32',
  float64: 'F64',
  bfloat16: 'BF16',
  float16: 'F16',
  int32: 'I32',
  int64: 'I64',
  uint8: 'U8',
  bool: 'BOOL',
};
const itemBytes: Record<string, number> = {
  F32: 4,
  F64: 8,
  BF16: 2,
  F16: 2,
  I32: 4,
  I64: 8,
  U8: 1,
  BOOL: 1,
};

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** A file of a header and data, well-formed or not. */
function build(header: unknown, data: Uint8Array, length?: bigint): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(length ?? BigInt(text.length));
  return Buffer.concat([size, text, data]);
}

function parse(file: Buffer): { header: Record<string, Entry>; data: Buffer } {
  const start = 8 + Number(file.readBigUInt64LE());
  return { header: JSON.parse(file.toString('utf8', 8, start)), data: file.subarray(start) };
}

/** The bytes of a tensor as the file holds them. */
async function bytesOf(name: string, file: string): Promise<string> {
  const { header, data } = parse(await readFile(file));
  return data.subarray(...(header[name] as Entry).data_offsets).toString('hex');
}

describe.each(devices)('safetensors on %s', (device) => {
  it.each(dtypes)('gives %s back to the bit', async (dtype) => {
    const random = new Random(dtype);
    for (const shape of [[], [0, 3], [1], [31], [33, 2], [1025]]) {
      const size = shape.reduce((a, b) => a * b, 1);
      const bytes = Buffer.alloc(size * (itemBytes[names[dtype]] as number));
      for (let i = 0; i < bytes.length; ++i) {
        bytes[i] = dtype === 'bool' ? random.integer(0, 1) : random.bits();
      }
      const entry = { dtype: names[dtype], shape, data_offsets: [0, bytes.length] };
      await writeFile(at('given'), build({ x: entry }, bytes));
      const { tensors } = await loadSafetensors(at('given'), { device });
      const x = tensors.get('x') as Tensor;
      expect([x.shape, x.dtype, x.device]).toEqual([shape, dtype, device]);
      await saveSafetensors(at('saved'), tensors);
      expect(await bytesOf('x', at('saved'))).toBe(bytes.toString('hex'));
    }
  });

  it('saves views as what they show', async () => {
    const x = arange(6, { device }).reshape([2, 3]);
    const views = {
      t: x.transpose(0, 1),
      s: x.slice(1, 0, 3, 2),
      e: x.slice(0, 0, 1).expand([2, 3]),
    };
    await saveSafetensors(at('views'), views);
    const { tensors } = await loadSafetensors(at('views'));
    for (const [name, view] of Object.entries(views)) {
      expect(tensors.get(name)?.toArray()).toEqual(view.toArray());
    }
  });

  it('saves the values at the time of the call', async () => {
    const x = zeros([1000], { device });
    const saving = saveSafetensors(at('early'), { x });
    x.copyFrom(x.add(1));
    await saving;
    expect((await loadSafetensors(at('early'))).tensors.get('x')?.sum().item()).toBe(0);
  });
});

describe('the safetensors format', () => {
  it('has an aligned header and aligned tensors, without gaps', async () => {
    const given: Record<string, Tensor> = {
      flags: tensor([true, false, true]),
      weight: zeros([3, 5]),
      half: zeros([3], { dtype: 'bfloat16' }),
      wide: zeros([1], { dtype: 'float64' }),
      '0': zeros([2], { dtype: 'int64' }),
      __proto__x: zeros([1], { dtype: 'uint8' }),
    };
    await saveSafetensors(at('form'), given, { made: 'by a test', ümlaut: '✓' });
    const file = await readFile(at('form'));
    expect(Number(file.readBigUInt64LE()) % 8).toBe(0);
    expect(file[8]).toBe('{'.charCodeAt(0));
    const { header, data } = parse(file);
    const { __metadata__, ...entries } = header;
    expect(__metadata__).toEqual({ made: 'by a test', ümlaut: '✓' });
    expect(Object.keys(entries).sort()).toEqual(Object.keys(given).sort());
    const spans = Object.values(entries).sort((a, b) => a.data_offsets[0] - b.data_offsets[0]);
    let end = 0;
    for (const { dtype, data_offsets } of spans) {
      expect(data_offsets[0]).toBe(end);
      expect(data_offsets[0] % (itemBytes[dtype] as number)).toBe(0);
      end = data_offsets[1];
    }
    expect(data.length).toBe(end);
  });

  it('reads what others write: entries in any order, spaces, names of all kinds', async () => {
    const header = `{"b" : {"dtype":"F32","shape":[1],"data_offsets":[2,6]},
      "__proto__": {"shape":[2],"dtype":"U8","data_offsets":[0,2]}}   `;
    const data = Buffer.from([7, 8, 0, 0, 0x80, 0x3f]);
    await writeFile(at('foreign'), build(header, data));
    const { tensors, metadata } = await loadSafetensors(at('foreign'));
    expect(metadata).toEqual({});
    expect(tensors.get('b')?.toArray()).toEqual([1]);
    expect(tensors.get('__proto__')?.toArray()).toEqual([7, 8]);
    await saveSafetensors(at('foreign'), tensors);
    expect([...(await loadSafetensors(at('foreign'))).tensors.keys()]).toEqual(['b', '__proto__']);
  });

  it('reads and writes files of no tensors', async () => {
    await saveSafetensors(at('none'), {});
    expect(await loadSafetensors(at('none'))).toEqual({ tensors: new Map(), metadata: {} });
  });

  it('loads into a model', async () => {
    const [a, b] = [new nn.Linear(3, 4), new nn.Linear(3, 4)];
    await saveSafetensors(at('model'), a.stateDict());
    await scope(async () => b.loadStateDict((await loadSafetensors(at('model'))).tensors));
    expect(b.weight.toArray()).toEqual(a.weight.toArray());
  });
});

describe('damaged safetensors files', () => {
  const f32 = (shape: unknown, begin: unknown, end: unknown) => ({
    dtype: 'F32',
    shape,
    data_offsets: [begin, end],
  });

  it.each<[string, Buffer, RegExp]>([
    ['nothing', Buffer.alloc(0), /is cut short: 8 bytes or more, got 0/],
    ['seven bytes', Buffer.alloc(7), /is cut short: 8 bytes or more, got 7/],
    ['a header longer than the file', build({}, Buffer.alloc(0), 10n), /10 bytes, header 10/],
    ['a huge header', build({}, Buffer.alloc(0), 2n ** 64n - 1n), /no safetensors file/],
    ['no JSON', build('{"x": ', Buffer.alloc(0)), /must have a header of JSON/],
    [
      'no UTF-8',
      build(Buffer.from([0x22, 0xff, 0x22]).toString('latin1'), Buffer.alloc(0)),
      /header/,
    ],
    ['an array', build([], Buffer.alloc(0)), /must have an object as its header/],
    ['null', build('null', Buffer.alloc(0)), /must have an object as its header, got null/],
    ['an entry of no form', build({ x: 3 }, Buffer.alloc(0)), /dtype of x must be one of F32/],
    [
      'an unknown dtype',
      build({ x: { dtype: 'F8_E4M3', shape: [1], data_offsets: [0, 1] } }, Buffer.alloc(1)),
      /the dtype of x must be one of F32, .*, BOOL, got "F8_E4M3"/,
    ],
    ['a negative size', build({ x: f32([-1], 0, 4) }, Buffer.alloc(4)), /the shape of x must be/],
    ['a broken size', build({ x: f32([1.5], 0, 4) }, Buffer.alloc(4)), /the shape of x must be/],
    ['a text as shape', build({ x: f32('1', 0, 4) }, Buffer.alloc(4)), /the shape of x must be/],
    [
      'too many axes',
      build({ x: f32(Array(9).fill(1), 0, 4) }, Buffer.alloc(4)),
      /at most 8 sizes/,
    ],
    [
      'sizes beyond counting',
      build({ x: f32([2 ** 52, 2 ** 52], 0, 4) }, Buffer.alloc(4)),
      /takes/,
    ],
    [
      'too few bytes',
      build({ x: f32([2], 0, 4) }, Buffer.alloc(4)),
      /x of \[2\] takes 8 bytes, got 4/,
    ],
    ['data beyond the file', build({ x: f32([2], 0, 8) }, Buffer.alloc(4)), /within its 4 bytes/],
    ['negative offsets', build({ x: f32([1], -4, 0) }, Buffer.alloc(4)), /must lie within/],
    ['offsets reversed', build({ x: f32([1], 4, 0) }, Buffer.alloc(4)), /must lie within/],
    ['no offsets', build({ x: { dtype: 'F32', shape: [] } }, Buffer.alloc(4)), /must lie within/],
    [
      'an overlap',
      build({ x: f32([2], 0, 8), y: f32([2], 4, 12) }, Buffer.alloc(12)),
      /the data of y overlaps the tensor before: begins at 4, not 8/,
    ],
    [
      'two names for one place',
      build({ x: f32([2], 0, 8), y: f32([2], 0, 8) }, Buffer.alloc(8)),
      /overlaps/,
    ],
    ['a gap', build({ x: f32([1], 4, 8) }, Buffer.alloc(8)), /leaves a gap/],
    [
      'bytes left over',
      build({ x: f32([1], 0, 4) }, Buffer.alloc(5)),
      /must have 4 bytes of data, got 5/,
    ],
    ['other metadata', build({ __metadata__: { a: 1 } }, Buffer.alloc(0)), /an object of strings/],
    [
      'a bool of 2',
      build({ x: { dtype: 'BOOL', shape: [1], data_offsets: [0, 1] } }, Buffer.from([2])),
      /x is BOOL and must hold 0 and 1 only/,
    ],
  ])('%s', async (_, bytes, message) => {
    await writeFile(at('damaged'), bytes);
    await collectGarbage(); // of other tests
    const before = memory.stats().liveTensors;
    await expect(loadSafetensors(at('damaged'))).rejects.toThrow(message);
    await expect(loadSafetensors(at('damaged'))).rejects.toThrow(at('damaged'));
    expect(memory.stats().liveTensors).toBe(before);
  });

  it('cut at every byte', async () => {
    await saveSafetensors(at('whole'), { x: zeros([3]), y: zeros([2], { dtype: 'uint8' }) });
    const { size } = { size: (await readFile(at('whole'))).length };
    for (let length = size - 1; length >= 0; --length) {
      await truncate(at('whole'), length);
      await expect(loadSafetensors(at('whole'))).rejects.toThrow(/loadSafetensors: .*whole/);
    }
  });

  it('changed at random, never more than an error', async () => {
    await saveSafetensors(at('good'), { x: zeros([3]), y: tensor([true]) }, { a: 'b' });
    const good = await readFile(at('good'));
    const random = new Random('damage');
    for (let i = 0; i < 500; ++i) {
      const bad = Buffer.from(good);
      for (let k = random.integer(1, 3); k > 0; --k) {
        bad[random.integer(0, bad.length - 1)] = random.integer(0, 255);
      }
      await writeFile(at('bad'), bad);
      try {
        const { tensors } = await loadSafetensors(at('bad'));
        for (const x of tensors.values()) x.dispose();
      } catch (error) {
        expect(String(error)).toMatch(/loadSafetensors: |^(Range)?Error: tensor: /);
      }
    }
  });

  it('missing files and folders', async () => {
    await expect(loadSafetensors(at('absent'))).rejects.toThrow(/cannot open .*absent: ENOENT/);
    await expect(loadSafetensors(folder)).rejects.toThrow(/is not a file|cannot open/);
    await expect(loadSafetensors(at('good'), { device: 'x' })).rejects.toThrow(/device: must be/);
  });
});

describe('saving', () => {
  it('refuses what is no tensor, name or text', async () => {
    const x = zeros([1]);
    await expect(saveSafetensors('', { x })).rejects.toThrow(/the file must be a path/);
    await expect(saveSafetensors(at('x'), { x: 3 as never })).rejects.toThrow(/x must be a tensor/);
    await expect(saveSafetensors(at('x'), { __metadata__: x })).rejects.toThrow(/cannot be a tens/);
    await expect(saveSafetensors(at('x'), { x }, { a: 1 as never })).rejects.toThrow(/of strings/);
    const gone = zeros([1]);
    gone.dispose();
    await expect(saveSafetensors(at('x'), { gone })).rejects.toThrow(/released/);
  });

  it('leaves the old file and no temporary where it fails', async () => {
    const x = zeros([1], { device: cpu });
    await saveSafetensors(at('kept'), { x });
    await expect(saveSafetensors(path.join(folder, 'no', 'such'), { x })).rejects.toThrow(/ENOENT/);
    await expect(saveSafetensors(folder, { x })).rejects.toThrow(/EISDIR|ENOTEMPTY|EEXIST/);
    expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    expect((await readdir(path.dirname(folder))).filter((n) => n.endsWith('.tmp'))).toEqual([]);
  });

  it('survives many savings of one file at once', async () => {
    const savings = Array.from({ length: 8 }, (_, i) =>
      saveSafetensors(at('busy'), { x: tensor([i, i, i]) }),
    );
    await Promise.all(savings);
    const { tensors } = await loadSafetensors(at('busy'));
    const [a, b, c] = (tensors.get('x') as Tensor).toArray() as number[];
    expect([b, c]).toEqual([a, a]);
  });

  it('removes temporaries of processes that ended, and only those', async () => {
    const dead = ['.left.4194305-0-1.tmp', `.left.${process.pid}-0-999.tmp`];
    const alive = ['.left.1-0-1.tmp', '.left.notes.tmp', '.leftover.4194305-0-1.tmp'];
    for (const name of [...dead, ...alive]) await writeFile(at(name), 'x');
    await saveSafetensors(at('left'), {});
    const found = await readdir(folder);
    expect(dead.filter((name) => found.includes(name))).toEqual([]);
    expect(alive.filter((name) => found.includes(name))).toEqual(alive);
    for (const name of alive) await rm(at(name));
  });
});
