import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { memory, ones } from '../../lib/index.js';

interface Report {
  last: number;
  sum: number;
}

const program = new URL('./worker.mjs', import.meta.url);

function runWorker(steps: number): Promise<Report> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(program, { workerData: { steps } });
    let report: Report;
    worker.on('message', (value) => {
      report = value;
    });
    worker.on('error', reject);
    worker.on('exit', (code) => (code === 0 ? resolve(report) : reject(new Error(`exit ${code}`))));
  });
}

describe('worker threads', () => {
  it('train side by side, and leave the main thread as it was', async () => {
    const x = ones([8]);
    const before = memory.stats().blocks;
    const results = await Promise.all([runWorker(50), runWorker(50), runWorker(50)]);
    for (const { last, sum } of results) {
      expect(last).toBeGreaterThanOrEqual(0);
      expect(last).toBeLessThan(1);
      expect(sum).toBe(64 ** 3);
    }
    expect(memory.stats().blocks).toBe(before);
    expect(x.sum().item()).toBe(8);
  }, 60_000);

  it('can be terminated in the middle of a step', async () => {
    for (let i = 0; i < 3; ++i) {
      const worker = new Worker(program, { workerData: { steps: Number.POSITIVE_INFINITY } });
      await new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
      await new Promise((resolve) => setTimeout(resolve, 20 + 30 * i));
      await worker.terminate();
    }
    expect(ones([4]).sum().item()).toBe(4);
  }, 60_000);
});
