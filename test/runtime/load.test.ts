import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { device, deviceAvailable } from '../../lib/index.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

function run(code: string, env: Record<string, string>) {
  return spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], {
    encoding: 'utf8',
    cwd: root,
    env: { ...process.env, ...env },
  });
}

describe('loading', () => {
  it('says what was tried and what to do when there is no addon', () => {
    const { status, stderr } = run(`await import('./lib/index.ts')`, { NODEGRAD_BUILD: 'missing' });
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/nodegrad: the native addon could not be loaded on linux-/);
    expect(stderr).toContain('Tried: build/missing/Release');
    expect(stderr).toContain('npm rebuild nodegrad');
  });

  it('takes the instruction set that is asked for, and refuses unknown ones', () => {
    const code = `
      const { device, ones } = await import('./lib/index.ts');
      console.log(device('cpu').describe(), ones([4]).sum().item());`;
    expect(run(code, { NODEGRAD_CPU_ISA: 'v2' }).stdout).toMatch(/instruction set v2.* 4\n/);
    expect(run(code, { NODEGRAD_CPU_ISA: 'v9' }).stderr).toMatch(
      /NODEGRAD_CPU_ISA must name an instruction set of this build and processor, got v9/,
    );
  });

  it('says why a device is not there', () => {
    expect(() => device('gpu')).toThrow(/device: must be cpu, cuda, cuda:N or emulated, got "gpu"/);
    const cuda = deviceAvailable('cuda');
    if (!cuda.available) {
      expect(cuda.reason).not.toBe('');
      expect(() => device('cuda')).toThrow(/device: cuda is not there: .+/);
    }
    expect(() => device('cpu:7')).toThrow(/device: cpu has devices 0 to 0, got 7/);
  });
});
