import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { tinyCases } from '../../bench/kernels/cases.js';

// Without rivals: what is tested is that each kernel of the contest runs on a device of CUDA kernels.
it('runs every case of the kernel contest on the emulated device', async () => {
  const args = ['--tiny', '--device', 'emulated', '--rounds', '1', '--seconds', '0.001'];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', 'bench/run.ts', 'kernels', ...args],
    { env: { ...process.env, NODEGRAD_BUILD: 'emulated', PYTHON: 'no-python' } },
  );
  expect(stdout).not.toContain('WRONG');
  for (const { name } of Object.values(tinyCases).flat()) {
    const row = stdout.split('\n').find((line) => line.trimStart().startsWith(`${name}  `));
    expect(row, name).toMatch(/ {2}[\d.]+ /);
  }
}, 300_000);
