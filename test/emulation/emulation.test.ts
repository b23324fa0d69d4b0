/** The emulated device's own tests: faulty kernels are caught under 8 seeds, right ones pass. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const program = fileURLToPath(
  new URL(`../../build/${process.env.NODEGRAD_BUILD}/Release/emulation_test`, import.meta.url),
);

describe('the emulated device', () => {
  it('catches faulty kernels under every one of 8 seeds, and passes right ones', () => {
    const { stdout, status } = spawnSync(program, ['--seeds', '8'], { encoding: 'utf8' });
    expect(stdout.split('\n').filter((line) => line.startsWith('FAILED'))).toEqual([]);
    expect(stdout).toMatch(/\d{2,} passed, 0 failed/);
    expect(status).toBe(0);
  }, 240_000);
});
