import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

const out = mkdtempSync(path.join(os.tmpdir(), 'nodegrad-gpu-'));
afterAll(() => rmSync(out, { recursive: true }));

/** A rehearsal: how it ended, and its summary. */
function rehearse(...args: string[]): { status: number | null; stderr: string; summary: string } {
  const given = ['scripts/gpu.mjs', '--device', 'emulated', '--out', out, ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, given, { encoding: 'utf8' });
  return { status, stderr, summary: stdout.slice(stdout.indexOf('== summary')) };
}

describe('scripts/gpu.mjs', () => {
  it('runs stages in their order, keeps their logs and sums up', () => {
    const { status, summary } = rehearse('table', 'code');
    expect(summary).toMatch(/^ok +code +\d+ s\nok +table +\d+ s$/m);
    expect(readFileSync(path.join(out, 'code.log'), 'utf8')).toContain('no machine code');
    expect(status).toBe(0);
  });

  it('ends a stage at its limit, and says why it failed', () => {
    const { status, summary } = rehearse('memcheck', '--minutes', '0.01');
    expect(summary).toMatch(/^FAILED +memcheck +\d+ s\n +gpu: stopped after 0.0 minutes$/m);
    expect(status).toBe(1);
  });

  it('begins no stage that the time of all does not reach', () => {
    const { status, summary } = rehearse('code', '--total', '0.1');
    expect(summary).toMatch(/^not reached +code/m);
    expect(status).toBe(1);
  });

  it('refuses stages and limits that make no sense', () => {
    expect(rehearse('everything').stderr).toMatch(/the stages are tests, .*, got everything/);
    expect(rehearse('--minutes', 'few').stderr).toContain('must be above 0, got NaN');
  });

  it('names a Python without PyTorch', () => {
    const { status, summary } = rehearse('optim', '--python', 'no-python');
    expect(summary).toContain('missing: no-python has no PyTorch');
    expect(status).toBe(1);
  });
});
