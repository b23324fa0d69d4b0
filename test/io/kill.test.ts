import { fork } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadSafetensors, nn, saveCheckpoint, scope } from '../../lib/index.js';
import { Random } from '../support/random.js';

const saver = fileURLToPath(new URL('saver.ts', import.meta.url));
let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-kill-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Runs the saver and kills it some time after its first save; the number of its last whole save. */
function killedAfter(milliseconds: number, file: string, elements: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = fork(saver, [file, String(elements)], { execArgv: ['--import', 'tsx'] });
    let last = 0;
    child.on('message', (i) => {
      if (last === 0) setTimeout(() => child.kill('SIGKILL'), milliseconds);
      last = i as number;
    });
    child.on('exit', (_, signal) => {
      if (signal === 'SIGKILL') resolve(last);
      else reject(new Error(`the saver ended by itself: ${signal}`));
    });
  });
}

describe('kill -9 of a run that saves', () => {
  const random = new Random('kill');
  const rounds = Array.from({ length: 8 }, (_, i) => [
    Math.round(random.between(0, 60)),
    i % 2 === 0 ? 1_000 : 500_000,
  ]);

  it.each(rounds)('%d ms after its first save leaves a whole file', async (wait, elements) => {
    const file = path.join(folder, 'run.safetensors');
    await rm(file, { force: true });
    const last = await killedAfter(wait as number, file, elements as number);
    await scope(async () => {
      const { tensors, metadata } = await loadSafetensors(file);
      const { i } = JSON.parse(metadata.nodegrad as string).extra;
      expect(i).toBeGreaterThanOrEqual(last);
      for (const name of ['model.weight', 'optimizer.state.0.momentum']) {
        const x = tensors.get(name);
        expect([x?.size, x?.min().item(), x?.max().item()]).toEqual([elements, i, i]);
      }
    });
    await saveCheckpoint(file, { model: new nn.Linear(1, 1) });
    expect(await readdir(folder)).toEqual(['run.safetensors']);
  });
});
