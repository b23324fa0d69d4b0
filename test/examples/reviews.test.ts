import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { accelerators } from '../support/devices.js';
import { linesOf, runExample } from '../support/example.js';

const folder = mkdtempSync(path.join(tmpdir(), 'nodegrad-reviews-'));
afterAll(() => rmSync(folder, { recursive: true }));

const tiny = ['--reviews', '40', '--length', '20', '--batch', '16', '--epochs', '1'];

/** The numbers that follow a word, line by line. */
const numbersAfter = (lines: string[], word: string): number[] =>
  lines.flatMap((line) => new RegExp(`${word}:? ([\\d.]+)`).exec(line)?.[1] ?? []).map(Number);

/** A folder like aclImdb with a few reviews in it. */
function films(): string {
  const dir = path.join(folder, 'aclImdb');
  const texts = { pos: 'A <b>fine</b> film, I loved it.', neg: 'A dull film; I slept.' };
  for (const part of ['train', 'test']) {
    for (const [kind, text] of Object.entries(texts)) {
      mkdirSync(path.join(dir, part, kind), { recursive: true });
      for (let i = 0; i < 10; ++i) {
        writeFileSync(path.join(dir, part, kind, `${i}_7.txt`), `${text} ${'So. '.repeat(i)}`);
      }
    }
  }
  return dir;
}

describe('sentiment-lstm', () => {
  const small = [...tiny, '--hidden', '8'];

  it('learns the reviews it trains on', () => {
    const lines = linesOf(
      ...['sentiment-lstm', '--reviews', '600', '--length', '64', '--hidden', '48'],
      ...['--batch', '32', '--epochs', '6', '--lr', '0.003'],
    );
    const losses = numbersAfter(lines, 'mean loss');
    expect(losses).toHaveLength(6);
    expect(losses[5]).toBeLessThan(0.7 * (losses[0] as number));
    expect(numbersAfter(lines, 'held-out accuracy')).toHaveLength(6);
    expect(numbersAfter(lines, 'test accuracy')).toHaveLength(1);
  });

  it('resumes to the same bits', () => {
    const file = path.join(folder, 'resumed');
    const run = (epochs: string, ...more: string[]) =>
      linesOf('sentiment-lstm', ...small, '--epochs', epochs, ...more).map((line) =>
        line.replace(/, \d+ samples.*/, ''),
      );
    const whole = run('2');
    const first = run('1', '--save', file);
    expect(run('1', '--resume', file).at(-1)).toBe(first.at(-1));
    expect(run('2', '--resume', file).slice(-3)).toEqual(whole.slice(-3));
  });

  it('reads class folders and word vectors', () => {
    const vectors = path.join(folder, 'vectors.txt');
    const row = (word: string, value: number) => `${word}${` ${value}`.repeat(100)}\n`;
    writeFileSync(vectors, row('film', 0.5) + row('dull', -0.5) + row('absent', 1));
    const data = ['--data', films(), '--hidden', '8', '--batch', '4', '--epochs', '15'];
    const lines = linesOf('sentiment-lstm', ...data, '--lr', '0.02', '--vectors', vectors);
    expect(lines[0]).toBe('20 reviews of 330 words to train on');
    expect(lines[2]).toBe('14 words, of which 2 start from vectors');
    expect(numbersAfter(lines, 'test accuracy').at(-1)).toBe(100);
    const { stderr, status } = runExample(['sentiment-lstm', '--data', path.join(folder, 'none')]);
    expect(stderr).toMatch(/datasets.imdb: .*none must have {train,test}\/{pos,neg}/);
    expect(status).toBe(1);
  });

  it.each(accelerators)('has the accuracy of the CPU on $name', ({ name }) => {
    // The same initial weights, but other dropout: the CPU's random numbers were used for the weights.
    const on = (device: string) =>
      linesOf('sentiment-lstm', ...small, '--lr', '0', '--device', device);
    const [there, here] = [on(name), on('cpu')];
    expect(there.at(-1)).toBe(here.at(-1));
    const losses = [there, here].map((lines) => numbersAfter(lines, 'mean loss')[0] as number);
    expect(losses[0]).toBeCloseTo(losses[1] as number, 1);
  });
});

describe('keras-lstm', () => {
  const small = [...tiny, '--units', '8'];

  it('trains, validates and evaluates', () => {
    const lines = linesOf(
      ...['keras-lstm', '--reviews', '500', '--length', '50', '--units', '32'],
      ...['--epochs', '5', '--lr', '0.005', '--patience', '5'],
    );
    const losses = numbersAfter(lines, '- loss');
    expect(losses).toHaveLength(5);
    expect(losses[4]).toBeLessThan(0.8 * (losses[0] as number));
    expect(numbersAfter(lines, 'valAccuracy')).toHaveLength(5);
    expect(lines.find((line) => line.startsWith('embedding'))).toMatch(/\[–, 50, 32\] +320,000/);
    expect(numbersAfter([lines.at(-1) ?? ''], 'accuracy')[0]).toBeGreaterThan(0.6);
  });

  it('reads class folders', () => {
    const lines = linesOf('keras-lstm', '--data', films(), '--epochs', '1', '--units', '4');
    expect(lines[0]).toBe('20 reviews of 330 words to train on');
  });

  it('says what it expects where it gets images', () => {
    const { stderr, status } = runExample(['keras-lstm', '--mnist', '10']);
    expect(stderr.trim()).toBe(
      "sequential: layer 0 'embedding' expects integer indices below 10000 of rank 2, [N,T], got float32[8,28,28]",
    );
    expect(status).toBe(1);
  });

  it.each(accelerators)('has the losses of the CPU on $name', ({ name }) => {
    const on = (device: string) => linesOf('keras-lstm', ...small, '--device', device);
    const [there, here] = [on(name), on('cpu')].map((lines) => numbersAfter(lines, '- loss'));
    expect(there).toHaveLength(1);
    expect(there?.[0]).toBeCloseTo(here?.[0] as number, 3);
  });
});
