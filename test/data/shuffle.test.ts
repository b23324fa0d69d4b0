import { describe, expect, it } from 'vitest';
import { permutation, philox as philoxInto } from '../../lib/data/shuffle.js';
import { philox as referencePhilox } from '../support/philox.js';
import { Random } from '../support/random.js';

type Words = [number, number, number, number];

function philox([k0, k1]: readonly [number, number], counter: Words): number[] {
  const out = new Uint32Array(4);
  philoxInto(k0, k1, counter, out);
  return [...out];
}

/** The same by BigInt arithmetic, word for word from the papers. */
function referencePermutation(size: number, seed: bigint, epoch: number): number[] {
  const key = [Number(seed & 0xffffffffn), Number(seed >> 32n)] as const;
  const words: number[] = [];
  let block = 0;
  const next = () => {
    if (words.length === 0) words.push(...philox(key, [block++, 0, epoch, 1]));
    return BigInt(words.shift() as number);
  };
  const bounded = (range: bigint): bigint => {
    for (;;) {
      const product = next() * range;
      if ((product & 0xffffffffn) >= 2n ** 32n % range) return product >> 32n;
    }
  };
  const order = Array.from({ length: size }, (_, i) => i);
  for (let last = size - 1; last > 0; --last) {
    const chosen = Number(bounded(BigInt(last + 1)));
    [order[chosen], order[last]] = [order[last] as number, order[chosen] as number];
  }
  return order;
}

describe('philox', () => {
  it('gives the known answers of Random123', () => {
    const hex = (words: number[]) => words.map((w) => w.toString(16).padStart(8, '0')).join(' ');
    expect(hex(philox([0, 0], [0, 0, 0, 0]))).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8');
    const ones = 0xffffffff;
    expect(hex(philox([ones, ones], [ones, ones, ones, ones]))).toBe(
      '408f276d 41c83b0e a20bc7c6 6d5451fd',
    );
    expect(
      hex(philox([0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344])),
    ).toBe('d16cfe09 94fdcceb 5001e420 24126ea1');
  });

  it('agrees with the generator of tensors', () => {
    const random = new Random('philox');
    for (let i = 0; i < 100; ++i) {
      const [k0, k1, c0, c1] = [random.bits(), random.bits(), random.bits(), random.bits()];
      const key = BigInt(k0) | (BigInt(k1) << 32n);
      const counter = BigInt(c0) | (BigInt(c1) << 32n);
      expect(philox([k0, k1], [c0, c1, 0, 0])).toEqual(referencePhilox(key, counter));
    }
  });
});

describe('permutation', () => {
  it.each([0, 1, 2, 3, 31, 33, 1025])('holds each of %d numbers once', (size) => {
    const order = permutation(size, 7n, 3);
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i));
    expect([...order]).toEqual(referencePermutation(size, 7n, 3));
  });

  it('depends on all bits of the seed and on the epoch', () => {
    const orders = [
      permutation(100, 0n, 0),
      permutation(100, 1n, 0),
      permutation(100, 1n << 32n, 0),
      permutation(100, 1n << 62n, 0),
      permutation(100, 0n, 1),
      permutation(100, 0n, 2),
    ].map(String);
    expect(new Set(orders).size).toBe(orders.length);
    expect(String(permutation(100, 0n, 0))).toBe(orders[0]);
  });

  it('is even: each order of four comes as often as the others', () => {
    const counts = new Map<string, number>();
    const draws = 24 * 500;
    for (let epoch = 0; epoch < draws; ++epoch) {
      const order = String(permutation(4, 5n, epoch));
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    let chiSquare = 0;
    for (const n of counts.values()) chiSquare += (n - 500) ** 2 / 500;
    expect(counts.size).toBe(24);
    expect(chiSquare).toBeLessThan(49.7); // 23 degrees of freedom, p = 0.001
  });
});
