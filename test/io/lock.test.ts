/** Locks of files: one holder at a time, also where the last one was killed. */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { withLock } from '../../lib/io/lock.js';

const program = fileURLToPath(new URL('./locker.ts', import.meta.url));
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-lock-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function told(child: ChildProcess): Promise<unknown> {
  const [message] = await once(child, 'message');
  return message;
}

/** The lock of a process that has ended. */
function leftBehind(): string {
  return `${hostname()} ${spawnSync('true').pid} 0 1`;
}

it('is held by one process at a time, though all of them find one that was left', async () => {
  const children = Array.from({ length: 4 }, () =>
    fork(program, { execArgv: ['--import', 'tsx'] }),
  );
  await Promise.all(children.map(told));
  for (let round = 0; round < 25; ++round) {
    const file = path.join(folder, `file${round}`);
    await writeFile(`${file}.lock`, leftBehind());
    const ends = children.map(told);
    for (const child of children) child.send(file);
    expect(await Promise.all(ends)).toEqual(children.map(() => 'done'));
  }
  for (const child of children) child.kill();
  expect(await readdir(folder)).toEqual([]);
}, 120_000);

it('is taken from a holder that was killed as it took one away', async () => {
  const file = path.join(folder, 'file');
  await writeFile(`${file}.lock`, leftBehind());
  await writeFile(`${file}.lock.sweep`, '');
  const long = Date.now() / 1000 - 61;
  await utimes(`${file}.lock.sweep`, long, long);
  expect(await withLock(file, undefined, async () => 7)).toBe(7);
  expect(await readdir(folder)).toEqual([]);
});

it('ends its wait with the reason of a signal, and leaves the lock to its holder', async () => {
  const file = path.join(folder, 'file');
  const stop = new AbortController();
  const reason = new Error('no longer wanted');
  await withLock(file, undefined, async () => {
    const says = await readFile(`${file}.lock`, 'utf8');
    const waiting = withLock(file, stop.signal, async () => 0);
    setTimeout(() => stop.abort(reason), 20);
    await expect(waiting).rejects.toBe(reason);
    expect(await readFile(`${file}.lock`, 'utf8')).toBe(says);
  });
  expect(existsSync(`${file}.lock`)).toBe(false);
});
