/** Samplers: which samples an epoch takes, in what order. Each is a function of seed and epoch. */
import { describe, expectBoolean, expectInteger, expectOptions } from '../check.js';
import { counted, permutation, RandomWords, seedFrom, shuffleInPlace } from './shuffle.js';

/** What a checkpoint keeps of a sampler: its seed, and what must be as it was. */
export type SamplerState = Readonly<Record<string, string | number | boolean>>;

interface Resumable {
  /** What {@link DataLoader.stateDict} keeps of it; nothing where left out. */
  stateDict?(): SamplerState;
  loadStateDict?(state: SamplerState): void;
}

/** The order of an epoch's samples, for the DataLoader's option `sampler`. */
export interface Sampler extends Resumable {
  /** Samples per epoch. */
  readonly length: number;
  /** Their numbers. The same for the same epoch, so that a run can resume. */
  order(epoch: number): Uint32Array;
}

/** The batches of an epoch, for the DataLoader's option `batchSampler`. */
export interface BatchSampler extends Resumable {
  /** Batches per epoch. */
  readonly length: number;
  /** The numbers of the samples of each batch. The same for the same epoch. */
  batches(epoch: number): readonly Uint32Array[];
}

/** A sampler that draws by a seed, which a resumed run takes over. */
abstract class Seeded implements Resumable {
  protected seed: bigint;

  constructor(
    private readonly op: string,
    seed: unknown,
    private readonly form: SamplerState,
  ) {
    this.seed = seedFrom(op, seed);
  }

  stateDict(): SamplerState {
    return { ...this.form, seed: String(this.seed) };
  }

  /** @throws RangeError where the sampler is not as it was, but for its seed */
  loadStateDict(state: SamplerState): void {
    for (const [name, value] of Object.entries(this.form)) {
      if (state[name] === value) continue;
      throw new RangeError(
        `${this.op}: ${name} must be ${state[name]} as in the saved state, got ${value}`,
      );
    }
    this.seed = seedFrom(this.op, state.seed);
  }
}

/** Sample numbers given as a list; each must be below `size`. */
export function expectIndices(op: string, indices: unknown, size: number): Uint32Array {
  if (!Array.isArray(indices) && !(indices instanceof Uint32Array)) {
    throw new TypeError(`${op}: indices must be an array of numbers, got ${describe(indices)}`);
  }
  for (const index of indices) expectInteger(op, 'an index', index, 0, size - 1);
  return Uint32Array.from(indices);
}

/** 0, 1, 2 … */
export class SequentialSampler implements Sampler {
  /** @param length number of samples */
  constructor(readonly length: number) {
    expectInteger('SequentialSampler', 'length', length, 0, 2 ** 32 - 1);
  }

  order(): Uint32Array {
    return counted(this.length);
  }
}

export interface SeedOption {
  /** Seed of the random order; that of the default generator (`manualSeed`) where left out. */
  seed?: number | bigint;
}

export interface RandomSamplerOptions extends SeedOption {
  /** Whether a sample may come more than once; false where left out. */
  replacement?: boolean;
  /** Samples per epoch; all where left out. */
  count?: number;
}

/** A random order, new in each epoch; with replacement, or of some samples only, by choice. */
export class RandomSampler extends Seeded implements Sampler {
  readonly length: number;
  private readonly replacement: boolean;

  /** @param samples number of samples to draw from */
  constructor(
    readonly samples: number,
    options: RandomSamplerOptions = {},
  ) {
    const op = 'RandomSampler';
    const {
      seed,
      replacement = false,
      count = samples,
    } = expectOptions(op, options, ['replacement', 'count', 'seed']);
    super(op, seed, { samples, replacement, count });
    expectInteger(op, 'samples', samples, 0, 2 ** 32 - 1);
    this.replacement = expectBoolean(op, 'replacement', replacement);
    const most = this.replacement && samples > 0 ? 2 ** 32 - 1 : samples;
    this.length = expectInteger(op, 'count', count, 0, most);
  }

  order(epoch: number): Uint32Array {
    if (!this.replacement) {
      return permutation(this.samples, this.seed, epoch).subarray(0, this.length);
    }
    const words = new RandomWords(this.seed, epoch, 'order');
    return new Uint32Array(this.length).map(() => words.below(this.samples));
  }
}

export interface WeightedSamplerOptions extends SeedOption {
  /** Samples per epoch; as many as there are weights where left out. */
  count?: number;
  /** Whether a sample may come more than once; true where left out. */
  replacement?: boolean;
}

/**
 * Samples drawn with given weights, as torch.utils.data.WeightedRandomSampler. Without replacement
 * by exponential keys: the `count` smallest of −ln(u)/w (Efraimidis and Spirakis 2006).
 * @param weights one per sample, 0 or more, not all 0; they need not add up to 1
 * @example new WeightedRandomSampler(labels.map((label) => 1 / countOf[label]))
 */
export class WeightedRandomSampler extends Seeded implements Sampler {
  readonly length: number;
  private readonly sums: Float64Array;
  private readonly weights: Float64Array;
  private readonly replacement: boolean;

  constructor(weights: readonly number[] | Float64Array, options: WeightedSamplerOptions = {}) {
    const op = 'WeightedRandomSampler';
    if (!Array.isArray(weights) && !(weights instanceof Float64Array)) {
      throw new TypeError(`${op}: weights must be an array of numbers, got ${describe(weights)}`);
    }
    const {
      count = weights.length,
      replacement = true,
      seed,
    } = expectOptions(op, options, ['count', 'replacement', 'seed']);
    super(op, seed, { samples: weights.length, replacement, count });
    this.weights = Float64Array.from(weights);
    this.sums = new Float64Array(weights.length);
    let total = 0;
    this.weights.forEach((weight, i) => {
      if (!(weight >= 0 && weight < Number.POSITIVE_INFINITY)) {
        throw new RangeError(`${op}: weights must be finite and 0 or more, got ${weight} at ${i}`);
      }
      total += weight;
      this.sums[i] = total;
    });
    const usable = this.weights.filter((weight) => weight > 0).length;
    if (usable === 0)
      throw new RangeError(`${op}: weights must not all be 0, got ${weights.length}`);
    this.replacement = expectBoolean(op, 'replacement', replacement);
    this.length = expectInteger(op, 'count', count, 0, this.replacement ? 2 ** 32 - 1 : usable);
    this.seed = seedFrom(op, seed);
  }

  order(epoch: number): Uint32Array {
    const words = new RandomWords(this.seed, epoch, 'weights');
    if (this.replacement) return new Uint32Array(this.length).map(() => this.draw(words.uniform()));
    const keys = this.weights.map((weight) => -Math.log(1 - words.uniform()) / weight);
    return counted(this.weights.length)
      .filter((i) => (this.weights[i] as number) > 0)
      .sort((a, b) => (keys[a] as number) - (keys[b] as number) || a - b)
      .slice(0, this.length);
  }

  /** The first sample whose running sum is above the share `u` of the total. */
  private draw(u: number): number {
    const { sums } = this;
    const wanted = u * (sums[sums.length - 1] as number);
    let low = 0;
    let high = sums.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((sums[middle] as number) > wanted) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Given samples only, in a random order that is new in each epoch. */
export class SubsetRandomSampler extends Seeded implements Sampler {
  readonly length: number;
  private readonly indices: Uint32Array;

  constructor(indices: readonly number[] | Uint32Array, options: SeedOption = {}) {
    const op = 'SubsetRandomSampler';
    const chosen = expectIndices(op, indices, 2 ** 32);
    super(op, expectOptions(op, options, ['seed']).seed, { count: chosen.length });
    this.indices = chosen;
    this.length = chosen.length;
  }

  order(epoch: number): Uint32Array {
    return shuffleInPlace(this.indices.slice(), new RandomWords(this.seed, epoch, 'order'));
  }
}

export interface BucketSamplerOptions extends SeedOption {
  /** Samples per batch. */
  batchSize: number;
  /** Whether samples and batches come in a random order; true where left out. */
  shuffle?: boolean;
  /** How many batches are sorted by length together; 100 where left out. */
  pool?: number;
  /** Whether to leave out batches that are not full; false where left out. */
  dropLast?: boolean;
}

/**
 * Batches of samples of like length, so that little is padded: the samples in random order, cut into
 * pools of `pool` batches, each pool sorted by length and cut into batches, the batches shuffled.
 * @param lengths the length of each sample
 * @example new DataLoader(data, { batchSampler: new BucketSampler(data.lengths, { batchSize: 64 }) })
 */
export class BucketSampler extends Seeded implements BatchSampler {
  readonly length: number;
  readonly batchSize: number;
  private readonly lengths: Float64Array;
  private readonly shuffle: boolean;
  private readonly pool: number;

  constructor(lengths: ArrayLike<number>, options: BucketSamplerOptions) {
    const op = 'BucketSampler';
    if (typeof lengths?.length !== 'number' || typeof lengths === 'string') {
      throw new TypeError(`${op}: lengths must be an array of numbers, got ${describe(lengths)}`);
    }
    const {
      batchSize,
      shuffle = true,
      pool = 100,
      dropLast = false,
      seed,
    } = expectOptions(op, options, ['batchSize', 'shuffle', 'pool', 'dropLast', 'seed']);
    super(op, seed, { samples: lengths.length, batchSize, shuffle, pool, dropLast });
    this.lengths = Float64Array.from(lengths);
    for (const length of this.lengths) expectInteger(op, 'a length', length, 0);
    this.batchSize = expectInteger(op, 'batchSize', batchSize, 1);
    this.pool = expectInteger(op, 'pool', pool, 1);
    this.shuffle = expectBoolean(op, 'shuffle', shuffle);
    const batches = this.lengths.length / batchSize;
    this.length = expectBoolean(op, 'dropLast', dropLast)
      ? Math.floor(batches)
      : Math.ceil(batches);
  }

  batches(epoch: number): Uint32Array[] {
    const { lengths, batchSize, length } = this;
    const words = new RandomWords(this.seed, epoch, 'buckets');
    const order = counted(lengths.length);
    if (this.shuffle) shuffleInPlace(order, words);
    const used = order.subarray(0, length * batchSize);
    const found: Uint32Array[] = [];
    for (let at = 0; at < used.length; at += this.pool * batchSize) {
      // A stable sort: samples of one length stay in their random order.
      const pool = Array.from(used.subarray(at, at + this.pool * batchSize)).sort(
        (a, b) => (lengths[a] as number) - (lengths[b] as number),
      );
      for (let i = 0; i < pool.length; i += batchSize) {
        found.push(Uint32Array.from(pool.slice(i, i + batchSize)));
      }
    }
    if (!this.shuffle) return found;
    return Array.from(shuffleInPlace(counted(found.length), words), (i) => found[i] as Uint32Array);
  }
}
