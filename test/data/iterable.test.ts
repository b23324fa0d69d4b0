import { describe, expect, it } from 'vitest';
import {
  collate,
  DataLoader,
  type Device,
  IterableDataset,
  ListDataset,
  manualSeed,
  memory,
  SampleDataset,
  type Tensor,
  tensor,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';

const device = devices.at(-1) as Device;
const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const sorted = (x: Iterable<number>) => [...x].sort((a, b) => a - b);

describe('collate', () => {
  it('makes a tensor of each part of a sample', () => {
    const x = collate([
      { a: 1, b: 2n, c: true, d: Float32Array.of(1, 2), e: [[1], [2]], f: 'one', g: tensor([7]) },
      { a: 3, b: 4n, c: false, d: Float32Array.of(3, 4), e: [[3], [4]], f: 'two', g: tensor([8]) },
    ]);
    expect(Object.values(x).map((v) => ('dtype' in v ? [v.dtype, v.toArray()] : v))).toEqual([
      ['float32', [1, 3]],
      ['int64', [2, 4]],
      ['bool', [true, false]],
      [
        'float32',
        [
          [1, 2],
          [3, 4],
        ],
      ],
      [
        'float32',
        [
          [[1], [2]],
          [[3], [4]],
        ],
      ],
      ['one', 'two'],
      ['float32', [[7], [8]]],
    ]);
    const [vectors, labels] = collate<[number[], number]>([[[1, 2], 0]], [undefined, 'int64']);
    expect([vectors.shape, labels.dtype, labels.toArray()]).toEqual([[1, 2], 'int64', [0]]);
    expect(collate([1, 2], 'int64').dtype).toBe('int64');
    expect(collate(['a', 'b'])).toEqual(['a', 'b']);
    expect(collate([Uint8Array.of(1, 2)]).dtype).toBe('uint8');
  });

  it('names the part that does not fit', () => {
    expect(() => collate([])).toThrow(/one or more samples, got \[\]/);
    expect(() => collate([{ x: [1, 2] }, { x: [1] }])).toThrow(
      /part x must have one form in all samples, got a list of 2 and a list of 1/,
    );
    expect(() => collate([{ x: 1 }, { x: '1' } as never])).toThrow(/got number and string/);
    expect(() => collate([{ x: 1, y: 1 }, { x: 1 } as never])).toThrow(/must have the part y/);
    expect(() => collate([{ x: 1 }, { x: 1, z: 1 } as never])).toThrow(/must have the part z/);
    expect(() => collate([{ x: [[1], [1, 2]] }])).toThrow(/part x must be numbers in even nesting/);
    expect(() => collate([{ x: null }])).toThrow(/part x must be numbers, tensors.* got null/);
    expect(() => collate([[0.5]], ['int64'])).toThrow(/int64 values must be safe integers/);
  });
});

describe('sample datasets', () => {
  it('give batches of samples, late ones too', async () => {
    class Squares extends SampleDataset<[number, number]> {
      readonly length = 5;
      get(i: number): Promise<[number, number]> {
        return Promise.resolve([i, i * i]);
      }
    }
    const seen: unknown[] = [];
    for await (const [x, y] of new DataLoader(new Squares(), { batchSize: 3 })) {
      seen.push(x.toArray(), y.toArray());
    }
    expect(seen).toEqual([
      [0, 1, 2],
      [0, 1, 4],
      [3, 4],
      [9, 16],
    ]);
  });

  it('pass objects and text through a loader, on their device, to a transform', async () => {
    const list = new ListDataset(
      [
        { name: 'a', y: 1 },
        { name: 'b', y: 2 },
      ],
      { dtypes: { y: 'int64' } },
    );
    const loader = new DataLoader(list, {
      batchSize: 2,
      device,
      transform: ({ name, y }) => ({ name, double: y.mul(2) }),
    });
    for await (const { name, double } of loader) {
      expect([name, double.dtype, double.device.type, double.toArray()]).toEqual([
        ['a', 'b'],
        'int64',
        device.type,
        [2, 4],
      ]);
    }
    const pairs = new ListDataset([1, 2, 3], { collate: (all) => ({ sum: tensor([all.length]) }) });
    for await (const { sum } of new DataLoader(pairs, { batchSize: 3 })) expect(sum.item()).toBe(3);
  });
});

describe('IterableDataset', () => {
  const numbers = (n: number) => new IterableDataset(() => range(n));

  it('maps, filters, takes, skips and joins, reading no more than it must', async () => {
    let read = 0;
    const source = new IterableDataset(function* () {
      for (;;) yield read++;
    });
    const found = await source
      .filter((i) => i % 2 === 0)
      .map(async (i) => i * 10)
      .skip(2)
      .take(3)
      .toArray();
    expect([found, read]).toEqual([[40, 60, 80], 9]);
    expect(await numbers(2).concat(numbers(3), numbers(1)).toArray()).toEqual([0, 1, 0, 1, 2, 0]);
    expect(await numbers(3).take(0).toArray()).toEqual([]);
  });

  it('shuffles through a buffer, anew in each epoch, losing nothing', async () => {
    const shuffled = numbers(100).shuffle(10, { seed: 4 });
    const epoch = async (e: number) => {
      const all: number[] = [];
      for await (const i of shuffled.iterate(e)) all.push(i);
      return all;
    };
    const [first, second] = [await epoch(0), await epoch(1)];
    expect(sorted(first)).toEqual(range(100));
    expect(first).not.toEqual(range(100));
    expect(second).not.toEqual(first);
    expect(await epoch(0)).toEqual(first);
    // What goes out at place p was read before: among the first p + 10 + 1.
    first.forEach((value, place) => {
      expect(value).toBeLessThan(place + 11);
    });
    expect(sorted(await numbers(5).shuffle().toArray())).toEqual(range(5));
    const bare = numbers(50).shuffle(50, { seed: 1 });
    const loops: number[][] = [[], []];
    for (const seen of loops) for await (const x of bare) seen.push(x);
    expect(loops[0]).toEqual(await bare.toArray());
    expect(loops[1]).not.toEqual(loops[0]);
    expect(sorted(loops[1] as number[])).toEqual(range(50));
  });

  it('feeds a loader, which resumes in the middle of an epoch and closes what it left', async () => {
    let open = 0;
    const stream = new IterableDataset(async function* (epoch: number) {
      ++open;
      try {
        for (const i of range(10)) yield { x: i, e: epoch };
      } finally {
        --open;
      }
    }).shuffle(4, { seed: 1 });
    const before = memory.stats().liveTensors;
    const loader = new DataLoader(stream, { batchSize: 4, seed: 0 });
    expect(loader.length).toBe(Number.POSITIVE_INFINITY);
    const epochs: number[][][] = [[], []];
    for (const all of epochs) {
      for await (const { x } of loader) all.push(x.toArray() as number[]);
    }
    expect(epochs.map((all) => all.map((x) => x.length))).toEqual([
      [4, 4, 2],
      [4, 4, 2],
    ]);
    expect(loader.epoch).toBe(2);
    for await (const _ of loader) break;
    const left = () => [open, memory.stats().liveTensors];
    await expect.poll(left, { timeout: 10_000 }).toEqual([0, before]);
    const resumed = new DataLoader(stream, { batchSize: 4, seed: 0, dropLast: false });
    const state = JSON.parse(JSON.stringify({ ...resumed.stateDict(), epoch: 1, batch: 1 }));
    resumed.loadStateDict(state);
    const rest: number[][] = [];
    for await (const { x } of resumed) rest.push(x.toArray() as number[]);
    expect(rest).toEqual(epochs[1]?.slice(1));
    const full = new DataLoader(stream, { batchSize: 4, dropLast: true, prefetch: 0 });
    let batches = 0;
    for await (const { x } of full) batches += x.size / 4;
    expect(batches).toBe(2);
  });

  it('holds no more of an endless stream than it must', async () => {
    let read = 0;
    const endless = new IterableDataset(function* () {
      for (;;) yield [read++, 0] as [number, number];
    });
    let steps = 0;
    for await (const [x] of new DataLoader(endless, { batchSize: 8, prefetch: 2 })) {
      expect((x.toArray() as number[])[0]).toBe(8 * steps);
      if (++steps === 20) break;
    }
    expect(read).toBeLessThanOrEqual(8 * 23);
  });

  it('raises errors at their batch and says what it refuses', async () => {
    const broken = new IterableDataset(function* () {
      yield 1;
      yield 2;
      throw new Error('the disk is gone');
    });
    const seen: unknown[] = [];
    await expect(async () => {
      for await (const x of new DataLoader(broken, { batchSize: 2 })) seen.push(x.toArray());
    }).rejects.toThrow('the disk is gone');
    expect(seen).toEqual([[1, 2]]);
    expect(() => new DataLoader(broken, { shuffle: true })).toThrow(/shuffle it by its own/);
    expect(() => new IterableDataset(3 as never)).toThrow(/must be iterable or a function, got 3/);
    const once = new IterableDataset(range(2)[Symbol.iterator]() as IterableIterator<number>);
    expect(await once.toArray()).toEqual([0, 1]);
    await expect(once.toArray()).rejects.toThrow(/can be read once only/);
    await expect(new IterableDataset(() => 3 as never).toArray()).rejects.toThrow(/return an iter/);
    expect(() => broken.take(-1)).toThrow(/take: count must be/);
    expect(() => broken.concat([1] as never)).toThrow(/needs IterableDatasets/);
  });
});

describe('random transforms', () => {
  it('are keyed by the place of the batch, not by when it is prepared', async () => {
    const { draws } = await import('../../lib/data/draws.js');
    manualSeed(0);
    const list = new ListDataset(range(12));
    const run = async (prefetch: number, from = 0) => {
      const loader = new DataLoader(list, {
        batchSize: 2,
        seed: 9,
        prefetch,
        transform: (x) => [x, tensor([draws('test').uniform()])] as [Tensor, Tensor],
      });
      loader.loadStateDict({ ...loader.stateDict(), batch: from });
      const found: unknown[] = [];
      for await (const [, y] of loader) found.push(y.item());
      return found;
    };
    const plain = await run(0);
    expect(new Set(plain).size).toBe(6);
    expect(await run(4)).toEqual(plain);
    expect(await run(2, 3)).toEqual(plain.slice(3));
    expect(draws('test').uniform()).not.toBe(draws('test').uniform());
  });
});
