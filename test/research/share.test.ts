import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import {
  crossEntropy,
  deviceCount,
  device as deviceOf,
  devices,
  memory,
  receiveTensor,
  type SharedTensor,
  scope,
  shareTensor,
  tensor,
} from '../../lib/index.js';
import { accelerators } from '../support/devices.js';

interface Reply {
  values?: unknown;
  own?: SharedTensor;
  error?: string;
}

function ask(worker: Worker, message: unknown): Promise<Reply> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.postMessage(message);
  });
}

const ended = (worker: Worker): Promise<unknown> =>
  new Promise((resolve) => {
    worker.once('exit', resolve);
  });

describe('shared tensors', () => {
  it('go to another thread and back without a copy', async () => {
    const worker = new Worker(new URL('./share.mjs', import.meta.url));
    const whole = tensor(
      Float32Array.from({ length: 12 }, (_, i) => i),
      [3, 4],
    );
    const view = whole.T.slice(0, 1, 3);
    const { values, own } = await ask(worker, shareTensor(view));
    expect(values).toEqual([
      [1, 5, 9],
      [2, 6, 10],
    ]);
    // The other thread wrote through the view.
    expect(whole.toArray()).toEqual([
      [0, 2, 4, 3],
      [4, 10, 12, 7],
      [8, 18, 20, 11],
    ]);
    const theirs = receiveTensor(own as SharedTensor);
    const gone = ended(worker);
    worker.postMessage('end');
    await gone;
    // Its memory outlives the thread that made it.
    expect(theirs.toArray()).toEqual([2, 7]);
    expect(theirs.add(1).toArray()).toEqual([3, 8]);
    theirs.dispose();
    whole.dispose();
    view.dispose();
  }, 60_000);

  it('outlive the sender, are opened once, and expire', async () => {
    const before = memory.stats().allocated;
    const x = tensor([1, 2, 3]);
    const shared = shareTensor(x);
    x.dispose();
    expect(memory.stats().allocated).toBeGreaterThan(before);
    const mine = receiveTensor(structuredClone(shared));
    expect(mine.toArray()).toEqual([1, 2, 3]);
    expect(() => receiveTensor(shared)).toThrow(
      'receiveTensor: the tensor was received already, or was not received in time',
    );
    mine.dispose();
    expect(memory.stats().allocated).toBe(before);
    const short = scope(() => shareTensor(tensor([1]), { expires: 0.05 }));
    await new Promise((resolve) => setTimeout(resolve, 120));
    expect(memory.stats().allocated).toBe(before);
    expect(() => receiveTensor(short)).toThrow(/not received in time$/);
  });

  it('keep their values as logits, over which nothing is written', () => {
    scope(() => {
      const owner = tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]);
      const loss = scope(() => {
        const logits = receiveTensor(shareTensor(owner)).requireGrad();
        return crossEntropy(logits, tensor([0n, 1n]));
      });
      loss.backward();
      expect(owner.toArray()).toEqual([
        [1, 2, 3],
        [4, 5, 6],
      ]);
    });
  });

  it('refuse what cannot be shared or received', () => {
    scope(() => {
      expect(() => receiveTensor({ ...shareTensor(tensor([1])), process: 1 })).toThrow(
        `receiveTensor: the tensor is of another process, 1, got it in ${process.pid}`,
      );
      expect(() => receiveTensor({} as never)).toThrow(
        'receiveTensor: must be given what shareTensor made, got an object of Object',
      );
      expect(() => shareTensor(tensor([1]), { expires: -1 })).toThrow(/^shareTensor: expires must/);
      for (const on of accelerators) {
        expect(() => shareTensor(tensor([1], { device: on }))).toThrow(
          `shareTensor: needs a tensor on the cpu, got one on ${on.name}`,
        );
      }
    });
  });
});

describe('devices', () => {
  it('are listed by kind', () => {
    expect(devices('cpu')).toEqual([deviceOf('cpu')]);
    expect(devices('cuda')).toHaveLength(deviceCount('cuda'));
    expect(devices('cuda').map(({ index }) => index)).toEqual([...devices('cuda').keys()]);
    expect(() => devices('tpu' as never)).toThrow(
      'devices: the kind must be one of cpu, emulated, cuda, got "tpu"',
    );
  });

  it('that are not there say why', () => {
    const beyond = deviceCount('cuda');
    expect(() => deviceOf(`cuda:${beyond}`)).toThrow(/cuda/);
    expect(() => deviceOf('cpu:1')).toThrow(/cpu/);
    for (const name of ['cuda:', 'cuda:-1', 'cuda:1x', 'CUDA', 'cuda:1234', ' cuda']) {
      expect(() => deviceOf(name)).toThrow(/^device: must be cpu, cuda, cuda:N or emulated, got/);
    }
  });
});
