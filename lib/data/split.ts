/** Splitting a dataset by a seed: at random, or with the same share of each class in every part. */
import { describe, expectOptions } from '../check.js';
import { Tensor } from '../tensor.js';
import { type Dataset, expectDataset } from './dataset.js';
import type { SeedOption } from './sampler.js';
import { Subset } from './samples.js';
import { permutation, RandomWords, seedFrom, shuffleInPlace } from './shuffle.js';

/** One part per entry. */
export type Parts<P extends readonly number[], B> = { -readonly [At in keyof P]: Subset<B> };

/**
 * The sizes of parts: counts that add up to `total`, or fractions that add up to 1, of which each
 * part gets its share rounded down and the first parts one more until all are given (PyTorch's rule).
 */
function sizes(op: string, parts: readonly number[], total: number): number[] {
  if (!Array.isArray(parts) || !parts.every((part) => typeof part === 'number' && part >= 0)) {
    throw new TypeError(`${op}: parts must be fractions or counts, got ${describe(parts)}`);
  }
  const sum = parts.reduce((a, b) => a + b, 0);
  const whole = parts.every(Number.isInteger);
  if (whole && sum === total && parts.length > 0) return [...parts];
  if (Math.abs(sum - 1) > 1e-6) {
    throw new RangeError(
      `${op}: parts must be fractions of sum 1 or counts of sum ${total}, got ${describe(parts)}`,
    );
  }
  const found = parts.map((part) => Math.floor(total * part + 1e-9));
  let left = total - found.reduce((a, b) => a + b, 0);
  for (let i = 0; left > 0; i = (i + 1) % found.length) {
    if ((parts[i] as number) === 0) continue;
    found[i] = (found[i] as number) + 1;
    --left;
  }
  return found;
}

/**
 * Parts of a dataset at random; the same for the same seed.
 * @param parts fractions of sum 1, or counts of sum `dataset.length`
 * @example const [train, test] = randomSplit(data, [0.8, 0.2], { seed: 42 });
 */
export function randomSplit<B, const P extends readonly number[]>(
  dataset: Dataset<B>,
  parts: P,
  options: SeedOption = {},
): Parts<P, B> {
  const { length } = expectDataset('randomSplit', dataset);
  const order = permutation(
    length,
    seedFrom('randomSplit', expectOptions('randomSplit', options, ['seed']).seed),
    0,
    'split',
  );
  let at = 0;
  return sizes('randomSplit', parts, length).map((size) => {
    const mine = order.slice(at, at + size);
    at += size;
    return new Subset(dataset, mine);
  }) as unknown as Parts<P, B>;
}

/**
 * Parts of a dataset at random, in each of which every class has the same share, as far as whole
 * samples allow.
 * @param labels the class of each sample: a tensor [N], numbers or strings
 * @param fractions of sum 1
 * @example const [train, test] = stratifiedSplit(data, labels, [0.8, 0.2], { seed: 42 });
 */
export function stratifiedSplit<B, const P extends readonly number[]>(
  dataset: Dataset<B>,
  labels: Tensor | readonly (number | string | bigint)[],
  fractions: P,
  options: SeedOption = {},
): Parts<P, B> {
  const op = 'stratifiedSplit';
  const { length } = expectDataset(op, dataset);
  const values: unknown = labels instanceof Tensor ? labels.data() : labels;
  if ((!Array.isArray(values) && !ArrayBuffer.isView(values)) || !('length' in values)) {
    throw new TypeError(`${op}: labels must be a tensor or an array, got ${describe(labels)}`);
  }
  const list = values as ArrayLike<number | string | bigint>;
  if (list.length !== length) {
    throw new RangeError(`${op}: labels must be one per sample, got ${list.length} for ${length}`);
  }
  const words = new RandomWords(
    seedFrom(op, expectOptions(op, options, ['seed']).seed),
    0,
    'split',
  );
  const classes = new Map<unknown, number[]>();
  for (let i = 0; i < length; ++i) {
    const found = classes.get(list[i]);
    if (found) found.push(i);
    else classes.set(list[i], [i]);
  }
  sizes(op, fractions, 1);
  const parts: number[][] = fractions.map(() => []);
  // Where a class cannot be cut evenly, the part that is furthest behind its share gets the sample.
  let given = 0;
  for (const members of classes.values()) {
    const order = shuffleInPlace(Uint32Array.from(members), words);
    const counts = fractions.map((share) => Math.floor(share * order.length + 1e-9));
    const owed = order.length - counts.reduce((a, b) => a + b, 0);
    given += order.length;
    for (let i = 0; i < owed; ++i) {
      const behind = fractions.map(
        (share, part) =>
          share * given - (parts[part] as number[]).length - (counts[part] as number),
      );
      const most = behind.indexOf(Math.max(...behind));
      counts[most] = (counts[most] as number) + 1;
    }
    let at = 0;
    counts.forEach((count, part) => {
      for (let i = 0; i < count; ++i) (parts[part] as number[]).push(order[at++] as number);
    });
  }
  return parts.map(
    (part) => new Subset(dataset, shuffleInPlace(Uint32Array.from(part), words)),
  ) as unknown as Parts<P, B>;
}
