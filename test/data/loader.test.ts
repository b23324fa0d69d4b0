import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  arange,
  DataLoader,
  type Dataset,
  MapDataset,
  manualSeed,
  memory,
  nn,
  normalize,
  ones,
  scope,
  steps,
  type Tensor,
  TensorDataset,
  tensor,
  zeros,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { collectGarbage } from '../support/garbage.js';

const live = () => memory.stats().liveTensors;
const numbers = (x: Tensor) => [...(x.toArray() as number[])];

/** Samples i with the label 10·i. */
function counted(samples: number): TensorDataset<[Tensor, Tensor]> {
  const x = arange(samples).cast('uint8');
  return new TensorDataset(x, arange(samples).mul(10));
}

/** A dataset whose batches come late. */
class Late implements Dataset<[Tensor]> {
  fetched = 0;
  readonly length = 20;
  failAt = -1;
  async batch(indices: Uint32Array): Promise<[Tensor]> {
    const mine = this.fetched++;
    zeros([3]);
    await sleep(mine % 2 === 0 ? 4 : 1);
    zeros([5]);
    if (mine === this.failAt) throw new Error('no more samples');
    return [tensor([...indices])];
  }
}

async function firsts(loader: DataLoader<readonly Tensor[], readonly Tensor[]>) {
  const found: number[][] = [];
  for await (const [x] of loader) found.push(numbers(x as Tensor));
  return found;
}

describe('TensorDataset', () => {
  it('gathers the same rows of every tensor', () => {
    const data = counted(10);
    const [x, y] = data.batch(Uint32Array.of(7, 0, 7));
    expect([data.length, x.dtype, numbers(x), numbers(y)]).toEqual([
      10,
      'uint8',
      [7, 0, 7],
      [70, 0, 70],
    ]);
  });

  it('keeps its tensors beyond the scope they were made in', () => {
    const data = scope(() => {
      const made = counted(4);
      return { made };
    }).made;
    expect(numbers(data.batch(Uint32Array.of(3))[0])).toEqual([3]);
  });

  it('refuses what does not fit together', () => {
    expect(() => new TensorDataset(zeros([3, 2]), zeros([4]))).toThrow(
      /TensorDataset: first axes must match, got a tensor float32\[3,2\] and a tensor float32\[4\]/,
    );
    expect(() => new TensorDataset(zeros([]))).toThrow(/need a first axis, got a scalar/);
    expect(() => new TensorDataset()).toThrow(/TensorDataset: .* must be a tensor, got undefined/);
    expect(() => new TensorDataset([1, 2] as never)).toThrow(/must be a tensor, got \[1,2\]/);
  });
});

describe('DataLoader', () => {
  let before = 0;
  let data: TensorDataset<[Tensor, Tensor]>;
  beforeEach(async () => {
    await collectGarbage(); // of other tests
    data = scope(() => counted(10));
    before = live();
  });
  afterEach(() => {
    for (const x of data.tensors) x.dispose();
  });

  it('goes through the samples in order, the last batch shorter or left out', async () => {
    const loader = new DataLoader(data, { batchSize: 4 });
    expect(loader.length).toBe(3);
    expect(await firsts(loader)).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
    ]);
    const dropping = new DataLoader(data, { batchSize: 4, dropLast: true });
    expect(dropping.length).toBe(2);
    expect(await firsts(dropping)).toHaveLength(2);
    expect(live()).toBe(before);
  });

  it('serves empty datasets and batches larger than the dataset', async () => {
    const none = new TensorDataset(zeros([0, 3]));
    expect(await firsts(new DataLoader(none, { shuffle: true }))).toEqual([]);
    expect(await firsts(new DataLoader(data, { batchSize: 99 }))).toHaveLength(1);
    expect(await firsts(new DataLoader(data, { batchSize: 99, dropLast: true }))).toEqual([]);
  });

  it('shuffles by its seed, anew in each epoch, labels with samples', async () => {
    const options = { batchSize: 3, shuffle: true, seed: 5 };
    const loader = new DataLoader(data, options);
    const epochs: number[][] = [];
    for (let epoch = 0; epoch < 3; ++epoch) {
      expect(loader.epoch).toBe(epoch);
      const order: number[] = [];
      for await (const [x, y] of loader) {
        expect(numbers(y)).toEqual(numbers(x).map((i) => 10 * i));
        order.push(...numbers(x));
      }
      expect([...order].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
      epochs.push(order);
    }
    expect(new Set(epochs.map(String)).size).toBe(3);
    expect((await firsts(new DataLoader(data, options))).flat()).toEqual(epochs[0]);
    const other = new DataLoader(data, { ...options, seed: 6 });
    expect((await firsts(other)).flat()).not.toEqual(epochs[0]);
  });

  it('takes the seed of manualSeed, and draws nothing from the default generator', async () => {
    const order = async () => (await firsts(new DataLoader(data, { shuffle: true }))).flat();
    manualSeed(1);
    const first = await order();
    expect(await order()).toEqual(first);
    manualSeed(2);
    expect(await order()).not.toEqual(first);
    manualSeed(0);
  });

  it('releases batches and what the body made when the next iteration starts', async () => {
    const loader = new DataLoader(data, { batchSize: 2, prefetch: 1 });
    let last: Tensor | null = null;
    const counts: number[] = [];
    for await (const [x] of loader) {
      if (last) expect(last.released).toBe(true);
      last = x.mul(2);
      counts.push(live());
    }
    expect(counts.slice(0, 4)).toEqual([before + 5, before + 5, before + 5, before + 5]);
    expect(live()).toBe(before);
  });

  it('carries a running sum and a kept tensor out of the loop', async () => {
    let total = zeros([]);
    const kept: Tensor[] = [];
    for await (const [x] of new DataLoader(data, { batchSize: 3 })) {
      total = total.add(x.cast('float32').sum());
      kept.push(x.keep());
    }
    expect(total.item()).toBe(45);
    expect(kept.flatMap(numbers)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for (const x of kept) x.dispose();
  });

  it.each([0, 1, 2, 50])('leaks nothing on break, throw and return, %d ahead', async (prefetch) => {
    const loader = new DataLoader(data, { batchSize: 2, prefetch, shuffle: true });
    for (let i = 0; i < 5; ++i) {
      for await (const [x] of loader) {
        x.mul(2);
        if (loader.position === 2) break;
      }
      expect(live()).toBe(before);
      await expect(async () => {
        for await (const [x] of loader) {
          x.mul(2);
          throw new Error('enough');
        }
      }).rejects.toThrow('enough');
      expect(live()).toBe(before);
      const answer = async () => {
        for await (const [x] of loader) return x.size;
        return 0;
      };
      expect(await answer()).toBe(2);
      expect(live()).toBe(before);
    }
  });

  it('nests in loops and in itself', async () => {
    const loader = new DataLoader(data, { batchSize: 5 });
    const seen: number[] = [];
    for (const i of steps(2)) {
      const held = ones([2]);
      for await (const [x] of loader) {
        for await (const [z] of new DataLoader(data, { batchSize: 10 })) {
          if (i === 1) break;
          seen.push(numbers(x)[0] as number, numbers(z)[9] as number);
        }
        expect(x.released).toBe(false);
        expect(held.released).toBe(false);
      }
    }
    expect(seen).toEqual([0, 9, 5, 9]);
    expect(live()).toBe(before);
  });

  it('refuses two loops at once, unless each has a scope', async () => {
    const loop = async () => {
      let count = 0;
      for await (const [x] of new DataLoader(data, { batchSize: 2 })) {
        await sleep(1);
        count += x.size;
      }
      return count;
    };
    const [first, second] = await Promise.allSettled([loop(), loop()]);
    expect(first).toEqual({ status: 'fulfilled', value: 10 });
    expect(String((second as PromiseRejectedResult).reason)).toMatch(/two loops run at once/);
    expect(await Promise.all([scope(loop), scope(loop)])).toEqual([10, 10]);
    expect(live()).toBe(before);
  });

  it('transforms batches outside the scopes of the loop, with or without a promise', async () => {
    const transform = (x: Tensor, y: Tensor) => [x.cast('float32').mul(2).add(1), y] as const;
    const late = async (x: Tensor, y: Tensor) => {
      await sleep(1);
      return transform(x, y);
    };
    for (const each of [transform, late]) {
      for await (const [x, y] of new DataLoader(data, { batchSize: 4, transform: each })) {
        expect(numbers(x)).toEqual(numbers(y).map((label) => label / 5 + 1));
      }
      expect(live()).toBe(before);
    }
  });

  it('passes on tensors that somebody else owns without taking them', async () => {
    const constant = ones([2]);
    const loader = new DataLoader(data, { batchSize: 4, transform: (x) => [x, constant] });
    for await (const [x, same] of loader) expect([x.released, same]).toEqual([false, constant]);
    expect(constant.released).toBe(false);
    constant.dispose();
  });

  it('prepares ahead of the body, in order', async () => {
    const late = new Late();
    const loader = new DataLoader(late, { batchSize: 2, prefetch: 3 });
    const fetched: number[] = [];
    const order: number[] = [];
    for await (const [x] of loader) {
      fetched.push(late.fetched);
      order.push(...numbers(x));
    }
    expect(fetched).toEqual([4, 5, 6, 7, 8, 9, 10, 10, 10, 10]);
    expect(order).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(live()).toBe(before);
  });

  it('lets timers and signals have their turn, though all batches are at hand', async () => {
    const heard = new Set<number>();
    let batch = 0;
    const timer = setInterval(() => heard.add(batch), 1);
    for await (const _ of new DataLoader(data)) {
      ++batch;
      for (const start = performance.now(); performance.now() - start < 6; );
    }
    clearInterval(timer);
    expect(batch).toBe(10);
    expect([...heard].filter((at) => at > 0 && at < 10).length).toBeGreaterThan(1);
  });

  it('passes over batches without samples, before functions see them, and no others', async () => {
    // Sample 1 cannot be read; samples 0 and 3 have no edges, which do not lie by samples.
    const graphs: Dataset<{ edges: Tensor[]; x: Tensor }> = {
      length: 4,
      batch(indices) {
        const read = [...indices].filter((i) => i !== 1);
        const edges = read.map((i) => zeros([i === 2 ? 5 : 0, 2]));
        return { edges, x: tensor(read).reshape([read.length]) };
      },
    };
    const fn = ({ x }: { x: Tensor }): [Tensor] => [x.sub(x.max())]; // max refuses to have none
    const seen: unknown[] = [];
    for await (const { x } of new DataLoader(graphs)) seen.push(...numbers(x));
    for await (const [x] of new DataLoader(new MapDataset(graphs, fn))) seen.push(...numbers(x));
    expect(seen).toEqual([0, 2, 3, 0, 0, 0]);
    expect(live()).toBe(before);
  });

  it('raises a failure of the dataset at its batch, and leaks nothing', async () => {
    const late = new Late();
    late.failAt = 3;
    const loader = new DataLoader(late, { batchSize: 2, prefetch: 4 });
    let batches = 0;
    const run = async () => {
      for await (const [x] of loader) batches += x.rank;
    };
    await expect(run()).rejects.toThrow('no more samples');
    expect(batches).toBe(3);
    const broken: Dataset<[Tensor]> = {
      length: 4,
      batch(indices) {
        zeros([9]);
        if (indices[0] === 2) throw new Error('unreadable');
        return [zeros([1])];
      },
    };
    batches = 0;
    await expect(async () => {
      for await (const [x] of new DataLoader(broken)) batches += x.size;
    }).rejects.toThrow('unreadable');
    expect(batches).toBe(2);
    await expect.poll(live, { timeout: 10_000 }).toBe(before);
  });

  it('drops late batches of a loop that was left', async () => {
    for await (const _ of new DataLoader(new Late(), { batchSize: 2, prefetch: 5 })) break;
    await expect.poll(live, { timeout: 10_000 }).toBe(before);
  });

  it('keeps its place: a copy goes on where the state was taken', async () => {
    const options = { batchSize: 3, shuffle: true, seed: 11 };
    const whole = new DataLoader(data, options);
    const expected = [await firsts(whole), await firsts(whole), await firsts(whole)];
    for (const [stopEpoch, stopBatch] of [
      [0, 1],
      [1, 3],
      [1, 4],
      [2, 2],
    ]) {
      const first = new DataLoader(data, options);
      const seen: number[][] = [];
      let state = first.stateDict();
      for (let epoch = 0; epoch < 3 && seen.length < 99; ++epoch) {
        for await (const [x] of first) {
          seen.push(numbers(x));
          if (first.epoch !== stopEpoch || first.position !== stopBatch) continue;
          state = JSON.parse(JSON.stringify(first.stateDict()));
          epoch = 99;
          break;
        }
      }
      const second = new DataLoader(data, { ...options, seed: 0 });
      second.loadStateDict(state);
      expect([second.epoch, second.position]).toEqual([stopEpoch, stopBatch]);
      while (second.epoch < 3) seen.push(...(await firsts(second)));
      expect(seen).toEqual(expected.flat());
    }
  });

  it('starts the next epoch after a loop that was left', async () => {
    const loader = new DataLoader(data, { batchSize: 3, shuffle: true, seed: 1 });
    for await (const _ of loader) break;
    expect([loader.epoch, loader.position]).toEqual([0, 1]);
    for await (const _ of loader) expect(loader.epoch).toBe(1);
    expect([loader.epoch, loader.position]).toEqual([2, 0]);
  });

  it('refuses the state of other data', () => {
    const loader = new DataLoader(data, { batchSize: 3 });
    const state = loader.stateDict();
    const refused = (change: object) => () => loader.loadStateDict({ ...state, ...change });
    expect(refused({ batchSize: 4 })).toThrow(/batchSize must be 4 as in the saved state, got 3/);
    expect(refused({ samples: 11 })).toThrow(/samples must be 11 as in the saved state, got 10/);
    expect(refused({ batch: 5 })).toThrow(/batch must be an integer in \[0,4\], got 5/);
    expect(refused({ epoch: -1 })).toThrow(/epoch must be .* got -1/);
    expect(refused({ seed: 'x' })).toThrow(/seed must be an integer of 0 or more, got "x"/);
    expect(() => loader.loadStateDict(null as never)).toThrow(/samples must be undefined/);
  });

  it('checks its options', () => {
    const make = (options: object) => () => new DataLoader(data, options);
    expect(() => new DataLoader([1] as never)).toThrow(/expected a dataset, got \[1\]/);
    expect(make({ batchSize: 0 })).toThrow(/batchSize must be an integer of 1 or more, got 0/);
    expect(make({ shuffle: 1 })).toThrow(/shuffle must be true or false, got 1/);
    expect(make({ seed: -1 })).toThrow(/seed must be an integer of 0 or more, got -1/);
    expect(make({ seed: 1n << 63n })).toThrow(/seed must be in \[0,2⁶³\)/);
    expect(make({ prefetch: 0.5 })).toThrow(/prefetch must be an integer in \[0,1024\], got 0.5/);
    expect(make({ transform: 3 })).toThrow(/transform must be a function, got 3/);
    expect(make({ device: 'gpu' })).toThrow(/device: must be cpu, cuda/);
  });

  it('refuses batches that are no tensors', async () => {
    const wrong = { length: 2, batch: () => [1, 2] } as never as Dataset<[Tensor]>;
    const run = async () => {
      for await (const _ of new DataLoader(wrong));
    };
    await expect(run()).rejects.toThrow(
      /a batch must be an array of tensors, or an object of them, got \[1,2\]/,
    );
  });
});

describe.each(devices)('DataLoader on %s', (device) => {
  it('hands out batches there, ready to train on', async () => {
    const layer = scope(() => new nn.Linear(6, 2, { device }));
    const images = arange(60).reshape([10, 2, 3]).cast('uint8');
    const data = new TensorDataset(images, arange(10));
    const transform = (x: Tensor, y: Tensor) => [normalize(x, 0.5, 0.5).flatten(1), y] as const;
    const loader = new DataLoader(data, { batchSize: 4, device, transform });
    const before = live();
    const sizes: number[] = [];
    for await (const [x, y] of loader) {
      expect([x.device, y.device, x.dtype, y.dtype]).toEqual([device, device, 'float32', 'int64']);
      const pixel = ((numbers(y)[0] as number) * 6) / 127.5 - 1;
      expect((x.toArray() as number[][])[0]?.[0]).toBeCloseTo(pixel, 6);
      layer.forward(x).sum().backward();
      sizes.push(x.shape[0] as number);
    }
    expect(sizes).toEqual([4, 4, 2]);
    expect(live()).toBe(before + 2); // the gradients of the layer
    for (const x of [...layer.parameters(), ...data.tensors]) x.dispose();
  });
});
