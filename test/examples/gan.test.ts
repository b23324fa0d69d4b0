import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { accelerators } from '../support/devices.js';
import { command, linesOf, root } from '../support/example.js';

const folder = mkdtempSync(path.join(tmpdir(), 'nodegrad-gan-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => path.join(folder, name);

/** What the judge says of each epoch. */
const judged = (lines: readonly string[]) =>
  lines.flatMap((line) => {
    const [, distance, right] = /^epoch-\d+: distance ([\d.]+), ([\d.]+)%/.exec(line) ?? [];
    return distance === undefined ? [] : [{ distance: Number(distance), right: Number(right) }];
  });

describe('gan', () => {
  it('comes closer to real digits, paints them, and resumes to the same picture', async () => {
    const flags = ['--images', '768', '--batch', '32', '--judged', '200', '--width', '8'];
    const judge = ['--classifier', at('judge')];
    const lines = linesOf('gan', ...flags, ...judge, '--epochs', '2', '--out', at('whole'));
    const [first, second] = judged(lines);
    expect(second?.distance).toBeLessThan(first?.distance as number);
    const { width, height, channels } = await sharp(at('whole/epoch-2.png')).metadata();
    expect([width, height, channels]).toEqual([280, 280, 1]);
    expect(existsSync(at('judge'))).toBe(true);

    const common = [...flags, ...judge, '--out', at('parts')];
    linesOf('gan', ...common, '--epochs', '1', '--save', at('run'));
    const resumed = linesOf('gan', ...common, '--epochs', '2', '--resume', at('run'));
    const one = linesOf('gan', ...common, '--epochs', '2', '--out', at('again'));
    expect(judged(resumed).at(-1)).toEqual(judged(one).at(-1));
    const [a, b] = ['parts', 'again'].map((name) => readFileSync(at(`${name}/epoch-2.png`)));
    expect(a).toEqual(b);
  }, 180_000);

  it('ends on a terminal, where bars keep time', () => {
    const flags = '--images 64 --batch 32 --judged 10 --width 2 --epochs 1';
    const run = [process.execPath, ...command, 'gan', flags, '--out', at('terminal')].join(' ');
    const stdio = ['ignore', 'pipe', 'pipe'] as const;
    const { stdout, status } = spawnSync('script', ['-qec', run, '/dev/null'], {
      ...{ cwd: root, encoding: 'utf8', stdio: [...stdio], timeout: 60_000 },
    });
    expect(status).toBe(0);
    expect(stdout).toMatch(/100%.*epoch-1: mean loss [\d.]+, \d+ samples\/s\r\nepoch-1: distance/);
  }, 90_000);

  it.each(accelerators)(
    'has the losses of the CPU on $name',
    ({ name }) => {
      const flags = ['--images', '8', '--batch', '4', '--judged', '10', '--width', '2'];
      const [there, here] = [name, 'cpu'].map((device) => {
        const out = ['--out', at(device)];
        return judged(linesOf('gan', ...flags, ...out, '--epochs', '1', '--device', device));
      }) as [ReturnType<typeof judged>, ReturnType<typeof judged>];
      expect(there).toHaveLength(1);
      expect(there[0]?.distance).toBeCloseTo(here[0]?.distance as number, 1);
    },
    180_000,
  );
});
