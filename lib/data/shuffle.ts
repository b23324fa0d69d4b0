/**
 * The order of an epoch: a permutation by Fisher and Yates (Durstenfeld's form), with random words
 * from Philox4x32-10 under the key `seed` and the counter [block, 0, epoch, 1]. Tensors draw with
 * the last word 0 (core/philox.h), so shuffling neither shares nor disturbs their numbers.
 * Bounded integers without bias: Lemire, "Fast random integer generation in an interval" (2019).
 */

/** The high 32 bits of the product of two 32-bit words. */
function highProduct(a: number, b: number): number {
  const [ah, al, bh, bl] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const low = al * bl;
  const mid = ah * bl;
  const mid2 = al * bh;
  const carry = (low >>> 16) + (mid & 0xffff) + (mid2 & 0xffff);
  return (ah * bh + (mid >>> 16) + (mid2 >>> 16) + (carry >>> 16)) >>> 0;
}

/** Four random words for a counter of four words under a key of two. */
export function philox(
  key: readonly [number, number],
  counter: readonly [number, number, number, number],
): [number, number, number, number] {
  let [k0, k1] = key;
  let [c0, c1, c2, c3] = counter;
  for (let round = 0; round < 10; ++round) {
    const n0 = highProduct(0xcd9e8d57, c2) ^ c1 ^ k0;
    const n2 = highProduct(0xd2511f53, c0) ^ c3 ^ k1;
    c1 = Math.imul(0xcd9e8d57, c2);
    c3 = Math.imul(0xd2511f53, c0);
    c0 = n0;
    c2 = n2;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  return [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
}

/** A source of random words. */
function words(seed: bigint, epoch: number): () => number {
  const key = [Number(seed & 0xffffffffn), Number((seed >> 32n) & 0xffffffffn)] as const;
  let block = 0;
  let ready: readonly number[] = [];
  let used = 4;
  return () => {
    if (used === 4) {
      ready = philox(key, [block++, 0, epoch, 1]);
      used = 0;
    }
    return ready[used++] as number;
  };
}

/** 0 … size-1 in the random order of an epoch; size below 2³². */
export function permutation(size: number, seed: bigint, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length: size }, (_, i) => i);
  const next = words(seed, epoch);
  for (let last = size - 1; last > 0; --last) {
    const range = last + 1;
    let word = next();
    const unfair = (2 ** 32 - range) % range;
    while (Math.imul(word, range) >>> 0 < unfair) word = next();
    const chosen = highProduct(word, range);
    const value = order[chosen] as number;
    order[chosen] = order[last] as number;
    order[last] = value;
  }
  return order;
}
