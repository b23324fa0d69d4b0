/** A loop written the natural way holds steady memory: device bytes and resident bytes. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { devices } from '../support/devices.js';

const program = fileURLToPath(new URL('./steady.ts', import.meta.url));

describe.each(devices)('a long training loop on %s', (device) => {
  it('holds the same memory after 1,000 and 10,000 steps', () => {
    // Fewer steps on the emulated device, where each costs milliseconds.
    const [early, late] = device.type === 'emulated' ? [1000, 2000] : [1000, 10_000];
    const result = spawnSync(
      process.execPath,
      [
        '--expose-gc',
        '--max-semi-space-size=1',
        '--import',
        'tsx',
        program,
        device.name,
        String(early),
        String(late),
      ],
      { encoding: 'utf8' },
    );
    expect(result.stderr.replace(/npm warn.*/g, '')).toBe('');
    const { before, after } = JSON.parse(result.stdout);
    expect(after.device).toBe(before.device);
    expect(after.resident / before.resident).toBeLessThan(1.01);
  }, 120_000);
});
