/**
 * The order of an epoch: a permutation by Fisher and Yates (Durstenfeld's form), with random words
 * from Philox4x32-10 under the key `seed` and the counter [block, place, epoch, purpose]. Tensors draw with
 * the last word 0 (core/philox.h), so shuffling neither shares nor disturbs their numbers.
 * Bounded integers without bias: Lemire, "Fast random integer generation in an interval" (2019).
 */
import { expectInteger } from '../check.js';
import { defaultGenerator } from '../ops/random.js';

/** The high 32 bits of the product of two 32-bit words. */
function highProduct(a: number, b: number): number {
  const ah = a >>> 16;
  const al = a & 0xffff;
  const bh = b >>> 16;
  const bl = b & 0xffff;
  const first = Math.imul(ah, bl);
  const second = Math.imul(al, bh);
  const carry = (Math.imul(al, bl) >>> 16) + (first & 0xffff) + (second & 0xffff);
  return (Math.imul(ah, bh) + (first >>> 16) + (second >>> 16) + (carry >>> 16)) >>> 0;
}

/** Writes the four random words for a counter of four words under a key of two. */
export function philox(
  k0: number,
  k1: number,
  counter: readonly [number, number, number, number],
  out: Uint32Array,
): void {
  let [c0, c1, c2, c3] = counter;
  let key0 = k0;
  let key1 = k1;
  for (let round = 0; round < 10; ++round) {
    const n0 = highProduct(0xcd9e8d57, c2) ^ c1 ^ key0;
    const n2 = highProduct(0xd2511f53, c0) ^ c3 ^ key1;
    c1 = Math.imul(0xcd9e8d57, c2);
    c3 = Math.imul(0xd2511f53, c0);
    c0 = n0;
    c2 = n2;
    key0 = (key0 + 0x9e3779b9) | 0;
    key1 = (key1 + 0xbb67ae85) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** What random words are drawn for; the last word of the counter, so that no use shares another's. */
export const purposes = {
  order: 1,
  split: 2,
  weights: 3,
  buffer: 4,
  buckets: 5,
  change: 6,
} as const;
export type Purpose = keyof typeof purposes;

/** A source of random words: one for each seed, epoch, purpose and place. */
export class RandomWords {
  private readonly ready = new Uint32Array(4);
  private readonly k0: number;
  private readonly k1: number;
  private readonly purpose: number;
  private block = 0;
  private used = 4;

  constructor(
    seed: bigint,
    private readonly epoch: number,
    purpose: Purpose,
    private readonly place = 0,
  ) {
    this.k0 = Number(seed & 0xffffffffn) | 0;
    this.k1 = Number(seed >> 32n) | 0;
    this.purpose = purposes[purpose];
  }

  next(): number {
    if (this.used === 4) {
      philox(this.k0, this.k1, [this.block++, this.place, this.epoch, this.purpose], this.ready);
      this.used = 0;
    }
    return this.ready[this.used++] as number;
  }

  /** A number of 0 … range-1, all equally likely; range up to 2³²-1. */
  below(range: number): number {
    let word = this.next();
    if (Math.imul(word, range) >>> 0 < range) {
      const unfair = (2 ** 32 - range) % range;
      while (Math.imul(word, range) >>> 0 < unfair) word = this.next();
    }
    return highProduct(word, range);
  }

  /** A number in [0, 1), of 53 random bits. */
  uniform(): number {
    return ((this.next() >>> 5) * 2 ** 26 + (this.next() >>> 6)) * 2 ** -53;
  }

  /** A number in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }
}

/** A seed as 64 bits; that of the default generator (`manualSeed`) where left out. */
export function seedFrom(op: string, seed: unknown = defaultGenerator.initialSeed): bigint {
  const whole = typeof seed === 'string' && /^\d{1,19}$/.test(seed) ? BigInt(seed) : seed;
  const seed64 = typeof whole === 'bigint' ? whole : BigInt(expectInteger(op, 'seed', whole, 0));
  if (seed64 < 0n || seed64 >= 2n ** 63n) {
    throw new RangeError(`${op}: seed must be in [0,2⁶³), got ${seed64}`);
  }
  return seed64;
}

/** 0 … size-1. */
export function counted(size: number): Uint32Array {
  const order = new Uint32Array(size);
  for (let i = 0; i < size; ++i) order[i] = i;
  return order;
}

/** Puts numbers into a random order, in place. */
export function shuffleInPlace(order: Uint32Array, words: RandomWords): Uint32Array {
  for (let last = order.length - 1; last > 0; --last) {
    const chosen = words.below(last + 1);
    const value = order[chosen] as number;
    order[chosen] = order[last] as number;
    order[last] = value;
  }
  return order;
}

/** 0 … size-1 in the random order of an epoch; size below 2³². */
export function permutation(
  size: number,
  seed: bigint,
  epoch: number,
  purpose: Purpose = 'order',
): Uint32Array {
  return shuffleInPlace(counted(size), new RandomWords(seed, epoch, purpose));
}
