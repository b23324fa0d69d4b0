import { describe, expect, it } from 'vitest';
import {
  DataLoader,
  memory,
  serveDataset,
  sliceDataset,
  type Tensor,
  WorkerDataset,
} from '../../lib/index.js';

interface Batch {
  square: Tensor;
  meta: Tensor[];
  name: string[];
}
const program = new URL('./serve.mjs', import.meta.url);
const start = (data: object, workers = 2) => WorkerDataset.start<Batch>(program, { workers, data });

describe('WorkerDataset', () => {
  it('makes batches in several threads, in order, and leaks nothing', async () => {
    const data = await start({ samples: 12 });
    const before = memory.stats().liveTensors;
    const loader = new DataLoader(data, { batchSize: 2, prefetch: 4 });
    const threads = new Set<number>();
    const squares: number[] = [];
    for (let epoch = 0; epoch < 2; ++epoch) {
      for await (const { square, meta, name } of loader) {
        const [thread, at] = (meta[0] as Tensor).toArray() as [number, number];
        threads.add(thread);
        expect([at, name]).toEqual([epoch, ['a', 'b']]);
        squares.push(...(square.toArray() as number[]));
      }
    }
    const expected = Array.from({ length: 12 }, (_, i) => i * i);
    expect(squares).toEqual([...expected, ...expected]);
    expect(threads.size).toBe(2);
    for await (const _ of loader) break;
    await expect.poll(() => memory.stats().liveTensors, { timeout: 10_000 }).toBe(before);
    await data.close();
  });

  it('hands errors on, and starts a worker that was killed again', async () => {
    const data = await start({ samples: 20 }, 1);
    const failing = (from: number) => async () => {
      for await (const _ of new DataLoader(sliceDataset(data, from), {
        batchSize: 2,
        prefetch: 0,
      }));
    };
    await expect(failing(12)).rejects.toThrow('sample 13 is broken');
    const loader = new DataLoader(sliceDataset(data, 14), { batchSize: 2, prefetch: 0 });
    const seen: unknown[] = [];
    await expect(async () => {
      for await (const { square } of loader) seen.push(square.toArray());
    }).rejects.toThrow(/^WorkerDataset: worker 1 of 1 ended \(exit code 3\)$/);
    expect([seen, loader.position]).toEqual([[[196, 225]], 1]);
    const { square } = await data.batch(Uint32Array.of(5));
    expect(square.toArray()).toEqual([25]);
    await data.close();
  });

  it('says what is wrong at the start', async () => {
    await expect(start({ samples: 3, fail: 'open' })).rejects.toThrow(
      'WorkerDataset: no such data',
    );
    await expect(start({ samples: -1 })).rejects.toThrow(/dataset.length must be .* got -1/);
    await expect(WorkerDataset.start('/none.mjs')).rejects.toThrow(/ended \(Cannot find module/);
    await expect(WorkerDataset.start(3 as never)).rejects.toThrow(/must be a path or a URL, got 3/);
    expect(() => serveDataset(3 as never)).toThrow(/serveDataset: its argument must be a function/);
  });
});
