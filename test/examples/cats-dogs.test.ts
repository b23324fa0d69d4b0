import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { accelerators } from '../support/devices.js';
import { linesOf, runExample } from '../support/example.js';

const folder = mkdtempSync(path.join(tmpdir(), 'nodegrad-pictures-'));
afterAll(() => rmSync(folder, { recursive: true }));

const numbers = (lines: readonly string[], name: string): number[] =>
  lines.flatMap((line) => new RegExp(` ${name}: ([\\d.e-]+)`).exec(line)?.[1] ?? []).map(Number);

/** Pictures of two classes in mixed sizes and formats: dark cats, bright dogs. */
async function writePictures(dir: string, count: number): Promise<void> {
  for (const [name, background] of Object.entries({ cat: '#203040', dog: '#d0c0b0' })) {
    mkdirSync(path.join(dir, name), { recursive: true });
    for (let i = 0; i < count; ++i) {
      const size = { width: 20 + 7 * i, height: 50 - 3 * i };
      await sharp({ create: { ...size, channels: 3, background } }).toFile(
        path.join(dir, name, `${i}.${i % 2 ? 'png' : 'jpg'}`),
      );
    }
  }
}

describe('cats-dogs', () => {
  it('learns threes and eights that it writes, says so, and takes them away', () => {
    const flags = ['--size', '32', '--digits', '60', '--epochs', '4', '--batch', '16'];
    const lines = linesOf('cats-dogs', ...flags);
    const dir = /written as pictures to (.*)$/.exec(lines[0] ?? '')?.[1] as string;
    expect(existsSync(dir)).toBe(false);
    expect(lines[1]).toBe('120 pictures of eight and three, 60 to test on');
    expect(lines.filter((line) => /waited .* for data/.test(line))).toHaveLength(4);
    const losses = numbers(lines, 'loss');
    expect(losses).toHaveLength(5);
    expect(losses[3]).toBeLessThan((losses[0] as number) / 2);
    expect(Number(/^test accuracy: ([\d.]+)%$/.exec(lines.at(-1) ?? '')?.[1])).toBeGreaterThan(80);
  }, 120_000);

  it('takes folders by class, split by name or in train and test, and resumes', async () => {
    const [whole, split] = ['whole', 'split'].map((name) => path.join(folder, name)) as [
      string,
      string,
    ];
    await writePictures(whole, 10);
    await writePictures(path.join(split, 'train'), 8);
    await writePictures(path.join(split, 'test'), 10);
    for (const name of ['cat', 'dog']) {
      for (let i = 0; i < 8; ++i) {
        rmSync(path.join(split, 'test', name, `${i}.${i % 2 ? 'png' : 'jpg'}`));
      }
    }
    const common = ['--size', '24', '--batch', '4'];
    const first = linesOf('cats-dogs', ...common, '--data', whole, '--epochs', '2');
    expect(first[0]).toBe('16 pictures of cat and dog, 4 to test on');
    const file = path.join(folder, 'checkpoint');
    const [out, save] = [
      ['--out', path.join(folder, 'out')],
      ['--save', file],
    ];
    linesOf('cats-dogs', ...common, ...out, '--data', split, '--epochs', '1', ...save);
    const flags = ['--data', split, '--epochs', '2', '--resume', file];
    const second = linesOf('cats-dogs', ...common, ...out, ...flags);
    expect(numbers(second, 'loss')).toEqual(numbers(first, 'loss').slice(1));
    expect(readFileSync(path.join(folder, 'out/loss.svg'), 'utf8')).toMatch(
      /<polyline points="\S+,/,
    );
    expect(readdirSync(path.join(folder, 'out/events/train'))).toHaveLength(2);
  }, 120_000);

  it('says what is wrong with a folder, and leaves out what is broken if asked to', async () => {
    const none = path.join(folder, 'none');
    mkdirSync(path.join(none, 'cat'), { recursive: true });
    writeFileSync(path.join(none, 'cat', 'a.jpg'), 'no picture');
    const one = runExample(['cats-dogs', '--data', none]);
    expect(one.stderr).toMatch(/none must have two classes, got cat/);
    expect(one.status).toBe(1);
    const broken = path.join(folder, 'broken');
    await writePictures(broken, 5);
    writeFileSync(path.join(broken, 'cat', '0.jpg'), 'no picture');
    const flags = ['--data', broken, '--size', '24', '--epochs', '1'];
    const skipped = runExample(['cats-dogs', ...flags, '--skip', '1']);
    expect(skipped.stderr).toMatch(/Warning: ImageFolder: skipped: .*0\.jpg is no image/);
    expect(skipped.status).toBe(0);
  }, 60_000);

  it.each(accelerators)(
    'has the losses of the CPU on $name',
    ({ name }) => {
      const flags = ['--size', '22', '--digits', '4', '--batch', '4', '--epochs', '1'];
      const [there, here] = [name, 'cpu'].map((device) =>
        numbers(linesOf('cats-dogs', ...flags, '--device', device), 'loss'),
      ) as [number[], number[]];
      expect(there).toHaveLength(2);
      there.forEach((loss, i) => {
        expect(loss).toBeCloseTo(here[i] as number, 3);
      });
    },
    120_000,
  );
});
