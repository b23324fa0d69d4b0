import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  annotate,
  capture,
  type Device,
  matmul,
  ones,
  profile,
  randn,
  scope,
  type Tensor,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';

describe('profile', () => {
  it('counts and times calls and kernels', () => {
    scope(() => {
      const w = randn([64, 64], { requiresGrad: true });
      const run = profile(
        () =>
          annotate('part', () => {
            for (let i = 0; i < 3; ++i) matmul(w, w).tanh().sum().backward();
            return 7;
          }),
        { shapes: true },
      );
      expect(run.result).toBe(7);
      const rows = run.summary();
      const row = (name: string, kind = 'call') =>
        rows.filter((r) => r.name === name && r.kind === kind).reduce((n, r) => n + r.calls, 0);
      expect(row('tanh')).toBe(3);
      expect(row('tanhBackward')).toBe(3);
      expect(row('part', 'span')).toBe(1);
      const tanh = rows.find((r) => r.name === 'tanh' && r.kind === 'call');
      expect(tanh?.shape).toEqual([64, 64]);
      expect(tanh?.total).toBeGreaterThan(0);
      expect(tanh?.kernels).toBeGreaterThan(0);
      expect(tanh?.kernels).toBeLessThanOrEqual(tanh?.total as number);
      expect(tanh?.longest).toBeLessThanOrEqual(tanh?.total as number);
      const part = rows.find((r) => r.kind === 'span');
      expect(part?.total).toBeGreaterThanOrEqual(tanh?.total as number);
      expect(run.peakBytes).toBeGreaterThanOrEqual(2 * 64 * 64 * 4);
      expect(run.table()).toMatch(/^name +kind +calls +total ms/);
      expect(run.table()).toMatch(/\ntanh +call +3 .*\[64,64\]\n/);
    });
  });

  it.each(devices)('times the kernels that calls launched on $name', (device) => {
    scope(() => {
      const x = ones([300], { device });
      const run = profile(() => x.tanh().add(x.exp()).sum().item());
      const rows = run.summary();
      for (const name of ['tanh', 'exp', 'add', 'sum']) {
        const of = (kind: string) => rows.find((row) => row.name === name && row.kind === kind);
        expect(of('call')?.kernels, name).toBeGreaterThan(0);
      }
      const total = (kind: string, what: 'kernels' | 'total'): number =>
        rows.filter((row) => row.kind === kind).reduce((sum, row) => sum + row[what], 0);
      expect(total('call', 'kernels')).toBeCloseTo(total('kernel', 'total'), 6);
    });
  });

  it('counts a replay of a GPU as one kernel', async () => {
    const [, device] = devices as [Device, Device];
    const step = capture((x: Tensor) => x.tanh().mul(2));
    const x = ones([100], { device });
    for (let i = 0; i < 2; ++i) await step(x);
    const run = await profile(async () => (await step(x)).sum().item());
    step.dispose();
    const kernels = run.summary().filter((row) => row.kind === 'kernel');
    expect(kernels.find((row) => row.name === 'replay')?.calls).toBe(1);
    expect(kernels.some((row) => row.name === 'tanh')).toBe(false);
  });

  it('sees what is replayed, and writes a trace', async () => {
    const step = capture((x: Tensor) => x.tanh().mul(2));
    const x = ones([1000]);
    for (let i = 0; i < 2; ++i) await step(x);
    await x.device.synchronize();
    const run = await profile(async () => {
      for (let i = 0; i < 4; ++i) await step(x);
      return (await step(x)).sum().item();
    });
    step.dispose();
    expect(run.result).toBeCloseTo(2000 * Math.tanh(1), 1);
    const kernels = run.summary().filter((row) => row.kind === 'kernel');
    expect(kernels.find((row) => row.name === 'tanh')?.calls).toBe(5);
    const folder = mkdtempSync(path.join(os.tmpdir(), 'nodegrad-profile-'));
    run.save(path.join(folder, 'trace.json'));
    const trace = JSON.parse(readFileSync(path.join(folder, 'trace.json'), 'utf8'));
    rmSync(folder, { recursive: true });
    const events = trace.traceEvents as { ph: string; name: string; ts: number; dur?: number }[];
    expect(events.filter((e) => e.ph === 'X' && e.name === 'replay')).toHaveLength(5);
    for (const event of events) expect(event.ts).toBeGreaterThanOrEqual(0);
    for (const event of events) if (event.ph === 'X') expect(event.dur).toBeGreaterThanOrEqual(0);
    expect(events.some((e) => e.ph === 'C')).toBe(true);
  });

  it('is one at a time, ends with an error, and is off afterwards', async () => {
    expect(() =>
      profile(() => {
        profile(() => 0);
      }),
    ).toThrow('profile: a profile is being made already');
    await expect(profile(async () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    const run = profile(() => 0);
    ones([2]).add(1).dispose();
    expect(run.summary()).toEqual([]);
    expect(annotate('outside', () => 3)).toBe(3);
  });
});
