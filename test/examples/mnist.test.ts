import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { loadSafetensors } from '../../lib/index.js';
import { accelerators } from '../support/devices.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'nodegrad-mnist-'));
const command = ['--import', 'tsx', 'examples/run.ts'];
const build = process.env.NODEGRAD_BUILD;

afterAll(() => rmSync(folder, { recursive: true }));

function run(args: string[], env: NodeJS.ProcessEnv = {}): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [...command, ...args], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, NODEGRAD_BUILD: build, ...env },
  });
}

function mnist(...flags: string[]): string[] {
  const { stdout, stderr, status } = run(['mnist', ...flags]);
  expect([stderr, status]).toEqual(['', 0]);
  return stdout.trimEnd().split('\n');
}

const losses = (lines: string[]) =>
  lines.flatMap((line) => /loss ([\d.]+)/.exec(line)?.[1] ?? []).map(Number);
const accuracy = (lines: string[]) =>
  Number(/^test accuracy: (\d+\.\d\d)%$/.exec(lines.at(-1) ?? '')?.[1]);

describe('npm run example', () => {
  it('lists the examples without a name, and for a wrong one', () => {
    const listed = run([]);
    expect(listed.stdout).toMatch(/^ {2}mnist +Handwritten digits: .*MNIST\.$/m);
    expect(listed.status).toBe(0);
    const wrong = run(['mnits']);
    expect([wrong.stderr.trim(), wrong.status]).toEqual(['There is no example "mnits".', 1]);
  });

  it('takes flags from npm, and says where one got lost', () => {
    const { stdout } = run(['mnist', '--test', '10'], { npm_config_steps: '1' });
    expect(losses(stdout.split('\n'))).toHaveLength(1);
    const lost = run(['mnist', '2'], { npm_config_epochs: 'true' });
    expect(lost.stderr).toMatch(/npm kept the flag --epochs; write: npm run example mnist -- --ep/);
    expect(lost.status).toBe(1);
    expect(run(['mnist', '--batch', 'x']).stderr).toMatch(/It must be a whole number of 1 or more/);
    expect(run(['mnist', '--data', folder]).stderr).toMatch(/must have the file train-images-idx3/);
  });
});

describe('mnist', () => {
  it('learns in a few hundred steps, and prints the accuracy last', () => {
    const lines = mnist('--steps', '400', '--epochs', '1');
    const [first, , , last, mean] = losses(lines);
    expect(first).toBeLessThan(2.31);
    expect(last).toBeLessThan(1.9);
    expect(mean).toBe(last);
    expect(accuracy(lines)).toBeGreaterThan(80);
  });

  it('resumes to the same bits', async () => {
    const [whole, parts] = ['whole', 'parts'].map((name) => path.join(folder, name)) as [
      string,
      string,
    ];
    const common = ['--epochs', '1', '--batch', '500', '--test', '500'];
    const expected = mnist(...common, '--save', whole);
    mnist(...common, '--steps', '47', '--save', parts, '--save-every', '20');
    const resumed = mnist(...common, '--resume', parts, '--save', parts);
    expect(losses(resumed).at(-1)).toBe(losses(expected).at(-1));
    expect(resumed.at(-1)).toBe(expected.at(-1));
    const [a, b] = [await loadSafetensors(whole), await loadSafetensors(parts)];
    expect(b.metadata).toEqual(a.metadata);
    expect([...b.tensors.keys()]).toEqual([...a.tensors.keys()]);
    for (const [name, tensor] of a.tensors) {
      expect(b.tensors.get(name)?.data()).toEqual(tensor.data());
    }
  });

  it.each(accelerators)('has the losses of the CPU on %s', (device) => {
    const flags = ['--steps', '3', '--test', '100'];
    const [there, here] = [mnist(...flags, '--device', device.name), mnist(...flags)];
    expect(losses(there)).toHaveLength(1);
    expect(losses(there)[0]).toBeCloseTo(losses(here)[0] as number, 4);
  });
});
