/** A loop written the natural way holds steady memory: device bytes and resident bytes. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { devices } from '../support/devices.js';

const program = fileURLToPath(new URL('./steady.ts', import.meta.url));
const flags = ['--expose-gc', '--max-semi-space-size=1', '--import', 'tsx'];

interface Held {
  device: number;
  resident: number;
}

function run(device: string, early: number, late: number): { before: Held; after: Held } {
  const args = [...flags, program, device, String(early), String(late)];
  const result = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(result.stderr.replace(/npm warn.*/g, '')).toBe('');
  return JSON.parse(result.stdout);
}

describe.each(devices)('a long training loop on %s', (device) => {
  it('holds the same memory after 1,000 and 10,000 steps', () => {
    // Fewer steps on the emulated device, where each costs milliseconds.
    const [early, late] = device.type === 'emulated' ? [1000, 2000] : [1000, 10_000];
    // V8 moves the resident bytes of one process by 3% either way; a leak grows in every one.
    let growth = Number.POSITIVE_INFINITY;
    for (let attempt = 0; attempt < 5 && growth >= 1.01; ++attempt) {
      const { before, after } = run(device.name, early, late);
      expect(after.device).toBe(before.device);
      growth = Math.min(growth, after.resident / before.resident);
    }
    expect(growth).toBeLessThan(1.01);
  }, 300_000);
});
