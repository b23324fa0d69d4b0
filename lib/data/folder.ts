/**
 * Class folders of images: `dir/cat/1.jpg`, `dir/dog/a/2.png`. Files are decoded ahead of training on
 * the threads of libuv, at most `concurrency` at a time; the DataLoader's `prefetch` bounds how many
 * batches wait.
 */
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import {
  describe,
  expectBoolean,
  expectInteger,
  expectOneOf,
  expectOptions,
  expectRange,
} from '../check.js';
import { cpu } from '../device.js';
import { tensor } from '../ops/fill.js';
import type { Tensor } from '../tensor.js';
import type { BatchPlace, Dataset } from './dataset.js';
import {
  type Augment,
  type AugmentOptions,
  augmented,
  decode,
  expectAugment,
  type Form,
} from './image.js';
import type { SeedOption } from './sampler.js';
import { RandomWords, seedFrom } from './shuffle.js';

export interface ImageFolderOptions extends SeedOption {
  /** Height and width of the images, or one number for both. */
  size: number | readonly [height: number, width: number];
  /** 3 for color, 1 for gray; 3 where left out. */
  channels?: 1 | 3;
  /** How images are resized; 'bilinear', with antialiasing where they shrink, where left out. */
  interpolation?: 'nearest' | 'bilinear';
  /** Whether sides are stretched to the size ('fill', the default) or cut off ('cover'). */
  fit?: 'fill' | 'cover';
  /** What pixels of 0 … 255 are multiplied by; 1/255 where left out; null leaves them uint8. */
  scale?: number | null;
  /** Random changes, drawn by seed, epoch and image. */
  augment?: AugmentOptions;
  /** Whether a broken file ends the run or is left out of its batch with a warning; 'throw'. */
  onError?: 'throw' | 'skip';
  /** How many images are decoded at once; as many as there are processors where left out. */
  concurrency?: number;
  /** Whether decoded images are kept in memory, H·W·C bytes each; false where left out. */
  cache?: boolean;
  /** The classes, in the order of their numbers; the folders by name where left out. */
  classes?: readonly string[];
}

const extensions = ['.jpg', '.jpeg', '.png', '.webp'];
/** Pictures that are not read, of which the user is told. */
const others = ['.avif', '.bmp', '.gif', '.heic', '.jfif', '.svg', '.tif', '.tiff'];

function listed(dir: string, recursive: boolean) {
  try {
    return readdirSync(dir, { withFileTypes: true, recursive });
  } catch (error) {
    throw new Error(`ImageFolder: cannot read ${dir}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** The pictures of a class. */
function filesOf(dir: string): string[] {
  const entries = listed(dir, true).filter((entry) => !entry.isDirectory());
  const of = (types: readonly string[]) =>
    entries.filter((entry) => types.includes(path.extname(entry.name).toLowerCase()));
  const [found, left] = [of(extensions), of(others)];
  const read = `${extensions.join(', ')} are read`;
  if (found.length === 0) {
    throw new Error(`ImageFolder: the class ${dir} must have pictures (${read}), got none`);
  }
  if (left.length > 0) {
    const such = `${left.length} files such as ${left[0]?.name}`;
    process.emitWarning(`ImageFolder: left out in ${dir}: ${such}; ${read}`);
  }
  return found
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name))
    .sort((a, b) => (a < b ? -1 : 1));
}

/** Pixels [H, W, C] as planes [C, H, W], scaled, in one pass. */
function writePlanes(
  pixels: Uint8Array,
  channels: number,
  scale: number,
  out: Float32Array | Uint8Array,
): void {
  const area = out.length / channels;
  for (let c = 0; c < channels; ++c) {
    for (let i = 0, from = c; i < area; ++i, from += channels) {
      out[c * area + i] = (pixels[from] as number) * scale;
    }
  }
}

/** Runs at most so many tasks at once, in their order. */
class Lanes {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly count: number) {}

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.running >= this.count) await new Promise<void>((go) => this.waiting.push(go));
    else ++this.running;
    try {
      return await task();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else --this.running;
    }
  }
}

/**
 * Images in class folders, as batches of float32 [B, C, H, W] and labels int64 [B].
 * @example
 * const data = new ImageFolder('train', { size: 150, augment: { flip: true, crop: 16 } });
 * const loader = new DataLoader(data, { batchSize: 32, shuffle: true, prefetch: 4 });
 */
export class ImageFolder implements Dataset<[images: Tensor, labels: Tensor]> {
  readonly length: number;
  /** The names of the classes, in the order of their numbers. */
  readonly classes: readonly string[];
  /** The files, sorted by class and name. */
  readonly files: readonly string[];
  /** The class of each file. */
  readonly labels: readonly number[];
  /** The broken files met so far, where they are skipped. */
  readonly skipped = new Set<string>();
  private readonly form: Form;
  private readonly decoded: Form;
  private readonly augment: Augment | null;
  private readonly scale: number | null;
  private readonly skip: boolean;
  private readonly seed: bigint;
  private readonly lanes: Lanes;
  private readonly cache: Map<number, Uint8Array> | null;

  constructor(dir: string, options: ImageFolderOptions) {
    const op = 'ImageFolder';
    if (typeof dir !== 'string') {
      throw new TypeError(`${op}: the folder must be a path, got ${describe(dir)}`);
    }
    const {
      size,
      channels = 3,
      scale = 1 / 255,
      augment,
      classes,
    } = expectOptions(op, options, [
      'size',
      'channels',
      'interpolation',
      'fit',
      'scale',
      'augment',
      'onError',
      'concurrency',
      'cache',
      'classes',
      'seed',
    ]);
    const { interpolation = 'bilinear', fit = 'fill', onError = 'throw', cache = false } = options;
    const sizes = typeof size === 'number' ? [size, size] : size;
    if (!Array.isArray(sizes) || sizes.length !== 2) {
      throw new TypeError(`${op}: size must be a number or [height,width], got ${describe(size)}`);
    }
    const [height, width] = sizes.map((n) => expectInteger(op, 'size', n, 1, 16_384));
    if (channels !== 1 && channels !== 3) {
      throw new RangeError(`${op}: channels must be 1 or 3, got ${describe(channels)}`);
    }
    expectOneOf(op, 'interpolation', interpolation, ['nearest', 'bilinear']);
    expectOneOf(op, 'fit', fit, ['fill', 'cover']);
    this.form = { height: height as number, width: width as number, channels, interpolation, fit };
    this.augment = augment === undefined ? null : expectAugment(op, augment);
    const more = this.augment?.crop ?? 0;
    this.decoded = {
      ...this.form,
      height: this.form.height + more,
      width: this.form.width + more,
    };
    this.scale = scale === null ? null : expectRange(op, 'scale', scale, -1e6, 1e6);
    this.skip = expectOneOf(op, 'onError', onError, ['throw', 'skip']) === 'skip';
    this.seed = seedFrom(op, options.seed);
    const lanes = options.concurrency ?? availableParallelism();
    this.lanes = new Lanes(expectInteger(op, 'concurrency', lanes, 1, 1024));
    this.cache = expectBoolean(op, 'cache', cache) ? new Map() : null;

    const folders = listed(dir, false)
      .filter((entry) => !entry.isFile() && !entry.name.startsWith('.'))
      .map((entry) => entry.name)
      .sort();
    if (classes !== undefined && !Array.isArray(classes)) {
      throw new TypeError(`${op}: classes must be an array of names, got ${describe(classes)}`);
    }
    for (const name of classes ?? []) {
      if (folders.includes(name)) continue;
      throw new Error(
        `${op}: ${dir} has no folder ${name}, it has ${folders.join(', ') || 'none'}`,
      );
    }
    this.classes = classes ?? folders;
    const perClass = this.classes.map((name) => filesOf(path.join(dir, name)));
    this.files = perClass.flat();
    this.labels = perClass.flatMap((files, label) => files.map(() => label));
    this.length = this.files.length;
    if (this.length === 0) {
      throw new Error(
        `${op}: ${dir} must have folders of ${extensions.join(', ')} files, got none`,
      );
    }
  }

  async batch(indices: Uint32Array, place?: BatchPlace): Promise<[images: Tensor, labels: Tensor]> {
    const all = await Promise.all(
      Array.from(indices, (index) => this.lanes.run(() => this.image(index, place?.epoch ?? 0))),
    );
    const kept = Array.from(indices).filter((_, i) => all[i] !== null);
    const { height, width, channels } = this.form;
    const sizes = [kept.length, channels, height, width];
    const count = channels * height * width;
    const [pixels, scale] =
      this.scale === null
        ? [new Uint8Array(kept.length * count), 1]
        : [new Float32Array(kept.length * count), this.scale];
    all
      .filter((found) => found !== null)
      .forEach((found, row) => {
        writePlanes(found, channels, scale, pixels.subarray(row * count, (row + 1) * count));
      });
    const images = tensor(pixels, sizes, { device: cpu });
    const labels = BigInt64Array.from(kept, (index) => BigInt(this.labels[index] as number));
    return [images, tensor(labels, { device: cpu })];
  }

  /** The pixels of an image; null where it is broken and skipped. */
  private async image(index: number, epoch: number): Promise<Uint8Array | null> {
    const file = this.files[index] as string;
    if (this.skipped.has(file)) return null;
    let pixels = this.cache?.get(index);
    if (!pixels) {
      try {
        pixels = await decode(file, this.decoded);
      } catch (error) {
        return this.broken(file, error as Error);
      }
      this.cache?.set(index, pixels);
    }
    if (!this.augment) return pixels;
    const words = new RandomWords(this.seed, epoch, 'change', index);
    return augmented(pixels, this.form, this.augment, words);
  }

  private broken(file: string, error: Error): null {
    if (error.message.includes('npm install')) throw error;
    // libvips keeps one text for all its threads, so that of two broken files one may find none.
    const said = error.message.trim().split('\n')[0];
    const reason = !said || said === 'Unknown error' ? 'its data are damaged' : said;
    const why = `${file} is no image that can be read: ${reason}`;
    if (!this.skip) throw new Error(`ImageFolder: ${why}`, { cause: error });
    this.skipped.add(file);
    process.emitWarning(`ImageFolder: skipped: ${why}`);
    return null;
  }
}
