import { describe, expect, it } from 'vitest';
import {
  arange,
  capture,
  DataLoader,
  indexSelect,
  memory,
  ones,
  type Tensor,
  TensorDataset,
  uniform,
} from '../../lib/index.js';
import { expectSameBits } from '../support/compare.js';
import { cpu, devices } from '../support/devices.js';

const bytes = 8 * 100 * 100 * 4; // of a batch

describe.each(devices)('batches prepared ahead on %s', (device) => {
  it('are the rows that a plain gather gives, beside a captured step', async () => {
    const x = uniform([64, 40, 30], 0, 1, { device });
    const data = new TensorDataset(x, arange(64, { device }));
    const loader = new DataLoader(data, { batchSize: 16, shuffle: true, seed: 3 });
    const step = capture((rows: Tensor) => rows.mul(2).square().sum());
    const seen: number[] = [];
    for await (const [rows, places] of loader) {
      const total = step(rows);
      const expected = indexSelect(x, places);
      expectSameBits(rows, expected, 'rows');
      expect((await total).item()).toBe(expected.mul(2).square().sum().item());
      seen.push(...(places.toArray() as number[]));
    }
    expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: 64 }, (_, i) => i));
    step.dispose();
    for (const tensor of data.tensors) tensor.dispose();
  });

  it('wait for the steps enqueued before them and run beside those after', async () => {
    const x = ones([64, 100, 100], { device });
    const step = capture((by: Tensor) => x.mul(by).sum());
    const data = new TensorDataset(x);
    const by = ones([], { device });
    await step(by);
    for (let round = 0; round < 10; ++round) {
      const totals = [step(by), step(by), step(by)];
      const [rows] = await data.prefetch(Uint32Array.of(3, 1, 4, 1, 5, 9, 2, 6));
      expect(rows.sum().item()).toBe(8 * 100 * 100);
      rows.dispose();
      for (const total of await Promise.all(totals)) total.dispose();
    }
    step.dispose();
    x.dispose();
    by.dispose();
  });

  it('are released with a loop that is left early, once nothing reads or writes them', async () => {
    const data = new TensorDataset(ones([64, 100, 100], { device }));
    const { liveTensors, allocated } = memory.stats(device);
    for (let i = 0; i < 20; ++i) {
      for await (const [rows] of new DataLoader(data, { batchSize: 8, prefetch: 4 })) {
        expect(rows.shape).toEqual([8, 100, 100]);
        break;
      }
    }
    while (memory.stats(device).liveTensors > liveTensors) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(memory.stats(device).allocated).toBeLessThanOrEqual(allocated);
    expect(memory.stats(device).peakAllocated).toBeLessThan(allocated + 120 * bytes);
    data.tensors[0].dispose();
  });
});

// On the CPU alone, where alone there is a stream beside; last: it raises the peak of memory.
it('batches find memory of their own size where only smaller pieces are idle', async () => {
  const megabyte = 2 ** 20;
  const data = new TensorDataset(ones([48, megabyte / 4], { device: cpu }));
  // Nothing but two idle pieces, neither of which holds the batch.
  for (const piece of [1, 2].map(() => ones([24, megabyte / 4], { device: cpu }))) piece.dispose();
  const [rows] = await data.prefetch(Uint32Array.from({ length: 40 }, (_, i) => i));
  expect(rows.shape).toEqual([40, megabyte / 4]);
  rows.dispose();
  for (const tensor of data.tensors) tensor.dispose();
});
