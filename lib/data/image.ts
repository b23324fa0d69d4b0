/**
 * Decoding and changing images by sharp, an optional peer dependency, on the threads of libuv: the
 * event loop stays free. Pixels are uint8 [H, W, C].
 */
import type { Sharp } from 'sharp';
import { expectBoolean, expectInteger, expectOptions, expectRange } from '../check.js';
import type { RandomWords } from './shuffle.js';

type SharpFunction = typeof import('sharp')['default'];
let loading: Promise<SharpFunction> | null = null;

/** @internal sharp's function, loaded when the first image is; where it is absent so are its types. */
export function loadSharp(op: string): Promise<unknown> {
  loading ??= import('sharp').then((module) => module.default);
  return loading.catch((error) => {
    loading = null;
    throw new Error(`${op}: images need the package sharp: run \`npm install sharp\``, {
      cause: error,
    });
  });
}

/** What images are decoded to. */
export interface Form {
  height: number;
  width: number;
  channels: 1 | 3;
  interpolation: 'nearest' | 'bilinear';
  fit: 'fill' | 'cover';
}

/** Random changes; each is left out where its option is. */
export interface AugmentOptions {
  /** Images are resized this many pixels larger on both axes, and a window of the size is cut out. */
  crop?: number;
  /** Whether half of the images are mirrored left to right. */
  flip?: boolean;
  /** Rotation by up to so many degrees either way, with black corners. */
  rotate?: number;
  /** The brightness factor is drawn from [1 − b, 1 + b]. */
  brightness?: number;
  /** The contrast factor, about middle gray, is drawn from [1 − c, 1 + c]. */
  contrast?: number;
  /** The saturation factor is drawn from [1 − s, 1 + s]; color images only. */
  saturation?: number;
}

export type Augment = Required<AugmentOptions>;

export function expectAugment(op: string, options: AugmentOptions | undefined): Augment {
  const {
    crop = 0,
    flip = false,
    rotate = 0,
    ...jitter
  } = expectOptions(op, options, [
    'crop',
    'flip',
    'rotate',
    'brightness',
    'contrast',
    'saturation',
  ]);
  const { brightness = 0, contrast = 0, saturation = 0 } = jitter;
  for (const [name, value] of Object.entries({ brightness, contrast, saturation })) {
    expectRange(op, name, value, 0, 1);
  }
  return {
    crop: expectInteger(op, 'crop', crop, 0, 1024),
    flip: expectBoolean(op, 'flip', flip),
    rotate: expectRange(op, 'rotate', rotate, 0, 180),
    brightness,
    contrast,
    saturation,
  };
}

/** A file's pixels in the given form. */
export async function decode(file: string, form: Form): Promise<Uint8Array> {
  const sharp = (await loadSharp('ImageFolder')) as SharpFunction;
  const { height, width, channels, interpolation, fit } = form;
  const nearest = interpolation === 'nearest';
  const image = sharp(file, { failOn: 'error', sequentialRead: true })
    .removeAlpha()
    .toColourspace(channels === 1 ? 'b-w' : 'srgb');
  if (!nearest) image.resize(width, height, { fit, kernel: 'linear' });
  const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  const pixels = nearest ? nearestPixels(data, info, form) : data;
  return info.channels === channels ? pixels : repeated(pixels, info.channels, channels);
}

/**
 * The pixels in which the middles of the form's lie, as Pillow has them. (sharp's own kernel first
 * leaves out whole rows and columns, and so picks pixels beside.)
 */
function nearestPixels(
  data: Uint8Array,
  from: { width: number; height: number; channels: number },
  { width, height, fit }: Form,
): Uint8Array {
  const { channels } = from;
  const least = Math.min(from.width / width, from.height / height);
  const places = (count: number, size: number): number[] => {
    const span = fit === 'cover' ? least * count : size;
    const begin = (size - span) / 2;
    return Array.from({ length: count }, (_, i) => Math.floor(begin + ((i + 0.5) * span) / count));
  };
  const columns = places(width, from.width);
  const out = new Uint8Array(height * width * channels);
  let at = 0;
  for (const y of places(height, from.height)) {
    for (const x of columns) {
      const pixel = (y * from.width + x) * channels;
      for (let c = 0; c < channels; ++c) out[at++] = data[pixel + c] as number;
    }
  }
  return out;
}

/** Pixels with other channels: the first, once or three times. */
function repeated(data: Uint8Array, from: number, to: number): Uint8Array {
  const pixels = data.length / from;
  const out = new Uint8Array(pixels * to);
  for (let i = 0; i < pixels; ++i) out.fill(data[i * from] as number, i * to, (i + 1) * to);
  return out;
}

/** Random changes of one image, drawn in a fixed order. */
export async function augmented(
  pixels: Uint8Array,
  form: Form,
  augment: Augment,
  words: RandomWords,
): Promise<Uint8Array> {
  const sharp = (await loadSharp('ImageFolder')) as SharpFunction;
  const { height, width, channels } = form;
  const large = { width: width + augment.crop, height: height + augment.crop };
  const raw = (sizes: { width: number; height: number }) => ({ raw: { ...sizes, channels } });
  const left = words.below(augment.crop + 1);
  const top = words.below(augment.crop + 1);
  const mirrored = words.next() < 2 ** 31;
  const angle = words.between(-augment.rotate, augment.rotate);
  const factor = (range: number) => words.between(1 - range, 1 + range);
  const brightness = factor(augment.brightness);
  const contrast = factor(augment.contrast);
  const saturation = factor(augment.saturation);

  let image: Sharp = sharp(pixels, raw(large));
  if (augment.flip && mirrored) image = image.flop();
  let [dx, dy] = [0, 0];
  if (augment.rotate > 0) {
    const turned = await image
      .rotate(angle, { background: '#000' })
      .raw()
      .toBuffer({ resolveWithObject: true });
    const { info, data } = turned;
    dx = Math.floor((info.width - large.width) / 2);
    dy = Math.floor((info.height - large.height) / 2);
    image = sharp(data, raw({ width: info.width, height: info.height }));
  }
  image = image.extract({ left: left + dx, top: top + dy, width, height });
  if (augment.saturation > 0 && channels === 3) image = image.modulate({ saturation });
  if (augment.brightness > 0 || augment.contrast > 0) {
    image = image.linear(brightness * contrast, 128 * (1 - contrast));
  }
  const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  return info.channels === channels ? data : repeated(data, info.channels, channels);
}
