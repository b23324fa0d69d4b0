/** Values that no function expects, drawn by fast-check, and the ends of what numbers can be. */
import fc from 'fast-check';
import type { Random } from '../support/random.js';

const numbers = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  0,
  -0,
  1,
  -1,
  2,
  3,
  7,
  -2,
  0.5,
  -1.5,
  8,
  9,
  255,
  256,
  1024,
  1e-300,
  1e300,
  2 ** 31,
  -(2 ** 31),
  2 ** 32,
  2 ** 40,
  2 ** 46,
  2 ** 53,
  2 ** 53 - 1,
  -(2 ** 53),
  2 ** 63,
  1e21,
];
const others: unknown[] = [
  undefined,
  null,
  true,
  false,
  '',
  'cpu',
  'float32',
  'cuda',
  'mean',
  '0',
  0n,
  1n,
  -1n,
  2n ** 63n,
  2n ** 64n,
  Symbol('s'),
  [],
  [[]],
  [0],
  [-1],
  [1, -1, -1],
  [2 ** 31, 2 ** 31],
  [2 ** 53 - 1, 2],
  [0, 2 ** 40, 2 ** 40],
  [Number.NaN],
  [0.5],
  [undefined],
  ['1'],
  [1, [2]],
  new Array(9).fill(1),
  new Array(3),
  {},
  { length: 2 },
  { shape: [2], dtype: 'float32' },
  { dtype: 'float16' },
  { dtype: 'complex64' },
  { device: 'gpu' },
  { device: null },
  { axis: 0 },
  Object.create(null),
  new Map(),
  new Map([['weight', 1]]),
  new Set([1]),
  new Date(0),
  /x/,
  new Error('x'),
  () => 1,
  async () => 1,
  new ArrayBuffer(8),
  new DataView(new ArrayBuffer(8)),
  new Float32Array(0),
  new Float32Array(3),
  new Float64Array(2),
  new Int32Array(4),
  new BigInt64Array(2),
  new BigUint64Array(2),
  new Uint8Array(5),
  new Uint16Array(2),
  new Int8Array(1),
  Promise.resolve(1),
  new WeakMap(),
  new Proxy({}, {}),
  globalThis,
];
const cyclic: unknown[] = [1];
cyclic.push(cyclic);
others.push(cyclic);

/** A table of garbage; the same for the same seed. */
export function garbageTable(seed: number): readonly unknown[] {
  const anything = fc.anything({
    maxDepth: 2,
    maxKeys: 3,
    withBigInt: true,
    withDate: true,
    withMap: true,
    withSet: true,
    withNullPrototype: true,
    withObjectString: true,
    withTypedArray: true,
    withSparseArray: true,
  });
  const drawn = fc.sample(
    fc.oneof(
      { weight: 3, arbitrary: anything as fc.Arbitrary<unknown> },
      { weight: 1, arbitrary: fc.double() },
      { weight: 1, arbitrary: fc.integer({ min: -10, max: 10 }) },
      { weight: 1, arbitrary: fc.maxSafeInteger() },
      { weight: 1, arbitrary: fc.string() },
      { weight: 1, arbitrary: fc.bigInt() },
      {
        weight: 2,
        arbitrary: fc.array(fc.oneof(fc.integer({ min: -3, max: 9 }), fc.double()), {
          maxLength: 10,
        }),
      },
    ),
    { numRuns: 2000, seed },
  );
  return [...drawn, ...others, ...others, ...numbers, ...numbers];
}

/** One of the table, or a fresh function of it. */
export function garbage(table: readonly unknown[], random: Random): unknown {
  return table[random.integer(0, table.length - 1)];
}
