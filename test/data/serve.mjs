// The worker of the tests: squares with the thread they came from, and ways to fail.
import { setTimeout as sleep } from 'node:timers/promises';
import { threadId, workerData } from 'node:worker_threads';
import { register } from 'tsx/esm/api';

register();
const { serveDataset, tensor } = await import('../../lib/index.ts');

serveDataset(async ({ samples, fail }) => {
  if (fail === 'open') throw new Error('no such data');
  return {
    length: samples,
    async batch(indices, place) {
      await sleep(2);
      if (indices.includes(13)) throw new Error('sample 13 is broken');
      if (indices.includes(17) && !workerData.survive) process.exit(3);
      const x = tensor([...indices]);
      return { square: x.mul(x), meta: [tensor([threadId, place?.epoch ?? -1])], name: ['a', 'b'] };
    },
  };
});
