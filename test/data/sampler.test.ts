import { describe, expect, it } from 'vitest';
import {
  arange,
  BucketSampler,
  ConcatDataset,
  DataLoader,
  type Dataset,
  ListDataset,
  MapDataset,
  RandomSampler,
  randomSplit,
  SequentialSampler,
  Subset,
  SubsetRandomSampler,
  sliceDataset,
  stratifiedSplit,
  type Tensor,
  TensorDataset,
  tensor,
  WeightedRandomSampler,
} from '../../lib/index.js';

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const sorted = (x: Iterable<number>) => [...x].sort((a, b) => a - b);
const data = (n: number) => new TensorDataset(arange(n).cast('int64'));
const rows = async (d: Dataset<[Tensor]>) => {
  const [x] = await d.batch(Uint32Array.from(range(d.length)));
  return x.toArray() as number[];
};

describe('samplers', () => {
  it('go in order, at random, and through a subset', () => {
    expect([...new SequentialSampler(3).order()]).toEqual([0, 1, 2]);
    const random = new RandomSampler(50, { seed: 1 });
    const [first, second] = [random.order(0), random.order(1)];
    expect(sorted(first)).toEqual(range(50));
    expect([...second]).not.toEqual([...first]);
    expect([...random.order(0)]).toEqual([...first]);
    expect(new Set(new RandomSampler(50, { seed: 1, count: 7 }).order(0)).size).toBe(7);
    const again = new RandomSampler(3, { seed: 1, count: 300, replacement: true }).order(0);
    for (const i of range(3)) expect(again.filter((j) => j === i).length).toBeGreaterThan(70);
    const subset = new SubsetRandomSampler([9, 4, 6], { seed: 2 });
    expect(sorted(subset.order(3))).toEqual([4, 6, 9]);
  });

  it('draw with the given weights', () => {
    const weights = [1, 0, 3, 6];
    const drawn = new WeightedRandomSampler(weights, { count: 20_000, seed: 3 }).order(0);
    // Four standard deviations of a binomial share are below 0.014.
    for (const i of range(4)) {
      const share = drawn.filter((j) => j === i).length / 20_000;
      expect(Math.abs(share - (weights[i] as number) / 10)).toBeLessThan(0.014);
    }
    const once = new WeightedRandomSampler(weights, { count: 3, seed: 3, replacement: false });
    const firsts = range(4000).map((epoch) => once.order(epoch)[0]);
    expect(sorted(once.order(0))).toEqual([0, 2, 3]);
    // Without replacement the first of a draw still has the weights' shares.
    expect(Math.abs(firsts.filter((i) => i === 3).length / 4000 - 0.6)).toBeLessThan(0.032);
  });

  it('refuse what cannot be drawn', () => {
    expect(() => new WeightedRandomSampler([1, -1])).toThrow(/finite and 0 or more, got -1 at 1/);
    expect(() => new WeightedRandomSampler([0, 0])).toThrow(/must not all be 0, got 2/);
    expect(() => new WeightedRandomSampler([1, 0], { count: 2, replacement: false })).toThrow(
      /count must be an integer in \[0,1\], got 2/,
    );
    expect(() => new RandomSampler(3, { count: 4 })).toThrow(/count must be .*\[0,3\], got 4/);
    expect(() => new SubsetRandomSampler('abc' as never)).toThrow(/indices must be an array/);
    expect(() => new BucketSampler([1, -2], { batchSize: 2 })).toThrow(
      /a length must be .* got -2/,
    );
  });

  it('put samples of like length into one batch', () => {
    const lengths = range(1000).map((i) => (i * 7919) % 101);
    const sampler = new BucketSampler(lengths, { batchSize: 16, seed: 5, pool: 20 });
    const batches = sampler.batches(0);
    expect([sampler.length, batches.length]).toEqual([63, 63]);
    expect(sorted(batches.flatMap((batch) => [...batch]))).toEqual(range(1000));
    const padding = (list: readonly Uint32Array[]) =>
      list
        .map((batch) => Array.from(batch, (i) => lengths[i] as number))
        .reduce((sum, own) => sum + own.reduce((all, n) => all + Math.max(...own) - n, 0), 0);
    const plain = new BucketSampler(lengths, { batchSize: 16, seed: 5, pool: 1 });
    expect(padding(batches)).toBeLessThan(padding(plain.batches(0)) / 5);
    expect(sampler.batches(0)).toEqual(batches);
    expect(sampler.batches(1)).not.toEqual(batches);
    const inOrder = new BucketSampler([3, 1, 2], { batchSize: 2, shuffle: false, dropLast: true });
    expect(inOrder.batches(0)).toEqual([Uint32Array.of(1, 0)]);
  });

  it('serve a DataLoader, which resumes with them', async () => {
    const options = { batchSize: 2, sampler: new RandomSampler(6, { seed: 1, count: 5 }) };
    const seen = async (loader: DataLoader<[Tensor]>) => {
      const found: number[][] = [];
      for await (const [x] of loader) found.push(x.toArray() as number[]);
      return found;
    };
    const loader = new DataLoader(data(6), options);
    expect(loader.length).toBe(3);
    const all = await seen(loader);
    expect(all.flat()).toEqual([...options.sampler.order(0)]);
    const other = new DataLoader(data(6), options);
    other.loadStateDict({ ...other.stateDict(), epoch: 0, batch: 2 });
    expect(await seen(other)).toEqual(all.slice(2));
    const bucketed = (seed: number, batchSize = 2) =>
      new DataLoader(data(6), {
        batchSampler: new BucketSampler([3, 1, 2, 6, 5, 4], { batchSize, seed }),
      });
    const first = bucketed(7);
    const buckets = await seen(first);
    const resumed = bucketed(8);
    resumed.loadStateDict(JSON.parse(JSON.stringify({ ...first.stateDict(), epoch: 0, batch: 1 })));
    expect(await seen(resumed)).toEqual(buckets.slice(1));
    expect(() => bucketed(7, 3).loadStateDict({ ...first.stateDict(), batch: 0 })).toThrow(
      /^BucketSampler: batchSize must be 2 as in the saved state, got 3$/,
    );
    const batchSampler = { length: 2, batches: () => [Uint32Array.of(5), Uint32Array.of(0, 1, 2)] };
    const batched = new DataLoader(data(6), { batchSampler });
    expect([batched.length, await seen(batched)]).toEqual([2, [[5], [0, 1, 2]]]);
    expect(() => new DataLoader(data(6), { batchSampler, batchSize: 2 })).toThrow(
      /batchSize must be left out beside batchSampler/,
    );
    expect(() => new DataLoader(data(6), { ...options, shuffle: true })).toThrow(
      /shuffle must be left out beside a sampler/,
    );
    expect(() => new DataLoader(data(6), { sampler: {} as never })).toThrow(/the method order/);
  });
});

describe('parts and joins of datasets', () => {
  it('take, skip, join and change', async () => {
    expect(await rows(new Subset(data(9), [8, 1]))).toEqual([8, 1]);
    expect(await rows(sliceDataset(data(9), 2, 5))).toEqual([2, 3, 4]);
    expect(await rows(sliceDataset(data(9), 7))).toEqual([7, 8]);
    const joined = new ConcatDataset(data(2), sliceDataset(data(9), 5), data(1));
    expect(joined.length).toBe(7);
    const [x] = await joined.batch(Uint32Array.of(3, 6, 0, 2, 1));
    expect(x.toArray()).toEqual([6, 0, 0, 5, 1]);
    const doubled = new MapDataset(data(3), ([y]) => [y.mul(2)] as [Tensor]);
    expect(await rows(doubled)).toEqual([0, 2, 4]);
    const named = (from: number) =>
      new ListDataset(range(3).map((i) => ({ name: `s${from + i}`, y: from + i })));
    const both = await new ConcatDataset(named(0), named(3)).batch(Uint32Array.of(4, 0, 3));
    expect([both.name, both.y.toArray()]).toEqual([
      ['s4', 's0', 's3'],
      [4, 0, 3],
    ]);
    expect(() => new Subset(data(3), [3])).toThrow(/an index must be an integer in \[0,2\], got 3/);
    expect(() => new ConcatDataset({} as never)).toThrow(/expected a dataset, got an object/);
    expect(() => sliceDataset(data(3), 4)).toThrow(/start must be .* got 4/);
  });

  it('split at random by a seed', async () => {
    const all = data(103);
    const [train, valid, test] = randomSplit(all, [0.8, 0.1, 0.1], { seed: 42 });
    expect([train.length, valid.length, test.length]).toEqual([83, 10, 10]);
    const members = [train, valid, test].flatMap((part) => [...part.indices]);
    expect(sorted(members)).toEqual(range(103));
    expect(members).not.toEqual(range(103));
    const [same] = randomSplit(all, [83, 20], { seed: 42 });
    expect([...same.indices]).toEqual([...train.indices]);
    expect([...randomSplit(all, [83, 20], { seed: 43 })[0].indices]).not.toEqual([
      ...train.indices,
    ]);
    expect(() => randomSplit(all, [0.5, 0.4])).toThrow(
      /fractions of sum 1 or counts of sum 103, got \[0.5,0.4\]/,
    );
    expect(() => randomSplit(all, [-1, 2])).toThrow(/must be fractions or counts/);
  });

  it('split with the same share of each class', () => {
    const labels = range(100).map((i) => (i < 70 ? 'great' : i < 95 ? 'poor' : 'rare'));
    const parts = stratifiedSplit(data(100), labels, [0.6, 0.2, 0.2], { seed: 1 });
    const counts = parts.map((part) =>
      ['great', 'poor', 'rare'].map(
        (name) => part.indices.filter((i) => labels[i] === name).length,
      ),
    );
    expect(counts).toEqual([
      [42, 15, 3],
      [14, 5, 1],
      [14, 5, 1],
    ]);
    expect(sorted(parts.flatMap((part) => [...part.indices]))).toEqual(range(100));
    const [half] = stratifiedSplit(data(4), tensor([0, 1, 0, 1]), [0.5, 0.5], { seed: 0 });
    expect(half.length).toBe(2);
    expect(() => stratifiedSplit(data(4), [1, 2], [0.5, 0.5])).toThrow(
      /one per sample, got 2 for 4/,
    );
  });
});
