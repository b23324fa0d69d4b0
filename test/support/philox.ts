/**
 * Philox4x32-10 in JavaScript, from the paper: what the library's random numbers are compared with.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
 */

/** The high and low halves of a 32-bit product. */
function multiply(a: number, b: number): [number, number] {
  const product = BigInt(a >>> 0) * BigInt(b >>> 0);
  return [Number(product >> 32n), Number(product & 0xffffffffn)];
}

/** Four random words for a 64-bit counter under a 64-bit key. */
export function philox(key: bigint, counter: bigint): number[] {
  let [k0, k1] = [Number(key & 0xffffffffn), Number((key >> 32n) & 0xffffffffn)];
  let c = [Number(counter & 0xffffffffn), Number((counter >> 32n) & 0xffffffffn), 0, 0];
  for (let round = 0; round < 10; ++round) {
    const [c0, c1, c2, c3] = c as [number, number, number, number];
    const [high0, low0] = multiply(0xd2511f53, c0);
    const [high1, low1] = multiply(0xcd9e8d57, c2);
    c = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return c;
}

/** The word of element i of a draw. */
export function word(seed: bigint, offset: bigint, i: number): number {
  return philox(seed, offset + BigInt(Math.floor(i / 4)))[i % 4] as number;
}

/** Uniform in [0, 1), 24 bits. */
export function uniformAt(seed: bigint, offset: bigint, i: number): number {
  return (word(seed, offset, i) >>> 8) * 2 ** -24;
}

/** Normal, by the Box-Muller transform on pairs of words. */
export function normalAt(seed: bigint, offset: bigint, i: number): number {
  const pair = i - (i % 2);
  const u1 = ((word(seed, offset, pair) >>> 8) + 1) * 2 ** -24;
  const angle = 2 * Math.PI * uniformAt(seed, offset, pair + 1);
  const radius = Math.sqrt(-2 * Math.log(u1));
  return radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
}
