/** Ctrl-C: examples end after the step in progress, save what they were asked to, and say so. */
import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { command, root } from '../support/example.js';

const folder = mkdtempSync(path.join(tmpdir(), 'nodegrad-stop-'));
const pictures = path.join(folder, 'pictures');
const films = path.join(folder, 'films');
const out = path.join(folder, 'out');
afterAll(() => rmSync(folder, { recursive: true }));

/** Few samples to train on and many to test on, so that a signal finds the test in progress. */
beforeAll(async () => {
  const file = path.join(folder, 'picture.png');
  await sharp({ create: { width: 8, height: 8, channels: 3, background: '#204060' } }).toFile(file);
  for (const [part, count] of Object.entries({ train: 2, test: 200 })) {
    for (const name of ['cat', 'dog']) {
      const dir = path.join(pictures, part, name);
      mkdirSync(dir, { recursive: true });
      for (let i = 0; i < count; ++i) copyFileSync(file, path.join(dir, `${i}.png`));
    }
    for (const name of ['pos', 'neg']) {
      const dir = path.join(films, part, name);
      mkdirSync(dir, { recursive: true });
      const review = 'A film to see. '.repeat(25);
      for (let i = 0; i < count; ++i) writeFileSync(path.join(dir, `${i}_7.txt`), review);
    }
  }
});

/** Runs an example, sends SIGINT once it has written `mark`, and returns how it ended. */
async function interrupt(mark: RegExp, args: readonly string[]) {
  const child = spawn(process.execPath, [...command, ...args], { cwd: root });
  let output = '';
  let sent = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      output += text;
      if (mark.test(output) && !sent) sent = child.kill('SIGINT');
    });
  }
  const status = await new Promise((resolve) => child.on('close', resolve));
  return { status, lines: output.trimEnd().split('\n') };
}

const small = ['--size', '22', '--batch', '4'];
const reviews = ['--reviews', '40', '--length', '20', '--batch', '8'];

describe('in training, Ctrl-C ends the run and saves', () => {
  it.each([
    ['cats-dogs', /Epoch 2\//, [...small, '--digits', '4', '--out', out]],
    ['custom-loop', /epoch 2\//, [...small, '--digits', '4']],
    ['mnist', /step +100/, []],
    ['gan', /epoch-1 step/, ['--images', '3300', '--batch', '4', '--judged', '10', '--width', '2']],
    ['keras-lstm', /Epoch 2\//, [...reviews, '--units', '4', '--patience', '100000']],
    ['sentiment-lstm', /epoch 2\//, [...reviews, '--hidden', '4']],
  ])('%s', async (name, mark, flags) => {
    const file = path.join(folder, name);
    const args = [name, ...flags, '--epochs', '100000', '--save', file];
    const { status, lines } = await interrupt(mark, args);
    expect(lines.at(-1)).toBe(`interrupted; go on with --resume ${file}`);
    expect(status).toBe(130);
    expect(existsSync(file)).toBe(true);
    const written = /written as pictures to (.*)$/.exec(lines[0] ?? '')?.[1];
    expect(written !== undefined && existsSync(written)).toBe(false);
  });
});

describe('in the test that ends a run, Ctrl-C ends it without a result', () => {
  it.each([
    ['cats-dogs', /Test:/, ['--data', pictures, '--batch', '4', '--out', out]],
    ['custom-loop', /mean loss/, ['--data', pictures, '--batch', '4']],
    ['mnist', /mean loss/, ['--steps', '1', '--batch', '4', '--device', 'emulated']],
    ['keras-lstm', /parameters:/, ['--data', films]],
    ['sentiment-lstm', /held-out/, ['--data', films, '--held', '0.5', '--batch', '2']],
  ])('%s', async (name, mark, flags) => {
    const { status, lines } = await interrupt(mark, [name, ...flags, '--epochs', '1']);
    expect(lines.at(-1)).toBe('interrupted');
    expect(status).toBe(130);
  });
});
