import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

it('builds the program that times products without Node, and times them', async () => {
  const args = ['native/gemm', '--seconds', '0.001', '--threads', '1'];
  const run = promisify(execFile)(process.execPath, ['--import', 'tsx', 'bench/run.ts', ...args]);
  if (process.arch !== 'x64') {
    await expect(run).rejects.toThrow('native/gemm compares x86-64 kernels');
    return;
  }
  const { stdout } = await run;
  const rows = stdout.split('\n').filter((line) => / GF +\d+% of peak/.test(line));
  expect(rows.length).toBeGreaterThan(20);
  for (const row of rows) expect(Number(/([\d.]+) \(/.exec(row)?.[1]), row).toBeGreaterThan(0.1);
}, 300_000);
