import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { accelerators } from '../support/devices.js';
import { linesOf, runExample } from '../support/example.js';

const folder = mkdtempSync(path.join(tmpdir(), 'nodegrad-loop-'));
afterAll(() => rmSync(folder, { recursive: true }));

const loop = (...flags: string[]): string[] => linesOf('custom-loop', ...flags);

/** What the run ends with: the mean loss of each epoch, and what the test says. */
function results(lines: readonly string[]) {
  const after = (start: string): number =>
    Number(lines.find((line) => line.startsWith(start))?.slice(10));
  const counts = lines.slice(-2).flatMap((line) => line.match(/\d+/g) ?? []);
  return {
    losses: lines.flatMap((line) => /mean loss ([\d.]+)/.exec(line)?.[1] ?? []).map(Number),
    counts: counts.map(Number) as [number, number, number, number],
    accuracy: after('accuracy'),
    precision: after('precision'),
    recall: after('recall'),
    f1: after('f1'),
  };
}

describe('custom-loop', () => {
  it('learns, with the same numbers by apply and by backward', () => {
    const flags = ['--size', '32', '--digits', '100', '--epochs', '4', '--batch', '16'];
    const [first, second] = ['apply', 'backward'].map((by) =>
      results(loop(...flags, '--by', by)),
    ) as [ReturnType<typeof results>, ReturnType<typeof results>];
    expect(second).toEqual(first);
    expect(first.losses).toHaveLength(4);
    expect(first.accuracy).toBeGreaterThan(0.8);
    const [eights, wrong, threes, missed] = first.counts; // the classes by name: three is 1
    expect(threes + wrong + eights + missed).toBe(100);
    const [precision, recall] = [threes / (threes + wrong), threes / (threes + missed)];
    expect(first.accuracy).toBeCloseTo((threes + eights) / 100, 4);
    expect(first.precision).toBeCloseTo(precision, 4);
    expect(first.recall).toBeCloseTo(recall, 4);
    expect(first.f1).toBeCloseTo((2 * precision * recall) / (precision + recall), 4);
  }, 120_000);

  it('resumes to the same numbers', () => {
    const file = path.join(folder, 'run');
    const small = ['--size', '24', '--digits', '20', '--batch', '8'];
    loop(...small, '--epochs', '1', '--save', file);
    const resumed = results(loop(...small, '--epochs', '2', '--resume', file));
    const whole = results(loop(...small, '--epochs', '2'));
    expect({ ...resumed, losses: resumed.losses[0] }).toEqual({
      ...whole,
      losses: whole.losses[1],
    });
  }, 120_000);

  it('says what is wrong with its flags', () => {
    const { stderr, status } = runExample(['custom-loop', '--by', 'hand']);
    expect(stderr).toMatch(
      /'--by <apply\|backward>' argument 'hand' is invalid. It must be apply or backward/,
    );
    expect(status).toBe(1);
  }, 60_000);

  it.each(accelerators)(
    'has the losses of the CPU on $name',
    ({ name }) => {
      const flags = ['--size', '22', '--digits', '4', '--batch', '4', '--epochs', '1'];
      const [there, here] = [name, 'cpu'].map((device) =>
        results(loop(...flags, '--device', device)),
      ) as [ReturnType<typeof results>, ReturnType<typeof results>];
      expect(there.losses).toHaveLength(1);
      there.losses.forEach((loss, i) => {
        expect(loss).toBeCloseTo(here.losses[i] as number, 3);
      });
    },
    120_000,
  );
});
