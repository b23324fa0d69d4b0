/** What a run holds: its peak is reached by the end of the second epoch. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type BatchSource,
  type Callback,
  DataLoader,
  EarlyStopping,
  ModelCheckpoint,
  memory,
  type Tensor,
  TensorDataset,
  trainer,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { collectGarbage } from '../support/garbage.js';
import { logits, net, points, quiet } from '../support/training.js';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-memory-'));
});
afterAll(() => rm(folder, { recursive: true }));

interface Held {
  live: number;
  allocated: number;
  peak: number;
}

describe.each(devices)('the peak of memory on $name', (device) => {
  const [x, y] = points(device);
  const data = new TensorDataset(x, y);
  const sources: [string, () => BatchSource | null][] = [
    ['numbers', () => null],
    ['a loader', () => new DataLoader(data, { batchSize: 5, shuffle: true, device })],
    [
      'a generator',
      () =>
        function* () {
          for (let i = 0; i < 40; i += 5)
            yield [x.slice(0, i, i + 5), y.slice(0, i, i + 5)] as const;
        },
    ],
  ];

  it.each(sources)('stays where it was after two epochs of %s', async (name, source) => {
    const t = trainer(net(device)).compile({
      ...{ optimizer: 'adam', loss: logits, metrics: ['accuracy'] },
    });
    await collectGarbage();
    memory.resetPeak(device);
    const held: Held[] = [];
    const watch: Callback = {
      last: true,
      onEpochEnd: () => {
        const { liveTensors, allocated, peakAllocated } = memory.stats(device);
        held.push({ live: liveTensors, allocated, peak: peakAllocated });
      },
    };
    const best = new EarlyStopping({ patience: 20, restoreBestWeights: true });
    const last = new ModelCheckpoint({ last: path.join(folder, `${device.name}-${name}`) });
    const options = { ...quiet, epochs: 8, callbacks: [best, last, watch] };
    const validationData = [x, y] as [Tensor, Tensor];
    const batches = source();
    if (batches) await t.fit(batches, { ...options, validationData });
    else await t.fit(x, y, { ...options, batchSize: 5, validationData });
    expect(held).toHaveLength(8);
    // Less, where what others dropped is collected meanwhile.
    const [, second] = held as [Held, Held];
    for (const { live, allocated, peak } of held.slice(2)) {
      expect(live).toBeLessThanOrEqual(second.live);
      expect(allocated).toBeLessThanOrEqual(second.allocated);
      expect(peak).toBe(second.peak);
    }
  });
});
