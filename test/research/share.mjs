// A thread that doubles what it is sent and sends back a tensor of its own.
import { parentPort } from 'node:worker_threads';
import { register } from 'tsx/esm/api';

register();
const { memory, receiveTensor, scope, shareTensor, tensor } = await import('../../lib/index.ts');
const kept = [];
parentPort.on('message', (message) => {
  if (message === 'end') {
    parentPort.close();
    return;
  }
  try {
    scope(() => {
      const x = receiveTensor(message);
      const values = x.toArray();
      x.copyFrom(x.mul(2));
      const own = tensor([values.length, 7]);
      parentPort.postMessage({ values, own: shareTensor(own), blocks: memory.stats().blocks });
    });
  } catch (error) {
    parentPort.postMessage({ error: error.message });
  }
  kept.length = 0;
});
