import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import {
  type DType,
  dtypes,
  full,
  ones,
  scope,
  type Tensor,
  tensor,
  where,
} from '../../lib/index.js';
import { valuesOf } from '../support/compare.js';
import { cpu, devices } from '../support/devices.js';
import { wrap } from '../support/op.js';
import { floatingDTypes } from '../support/tolerance.js';
import { readVectors } from '../support/vectors.js';

interface Promotion {
  a: DType;
  b: DType;
  arrays: DType;
  scalar: DType;
  div: DType;
}

interface Call {
  op: string;
  arguments: (number | { dtype: DType; values: number[] })[];
  dtype: DType;
  values: (number | boolean)[];
}

const functions = { ...ng } as unknown as Record<string, unknown>;
const floating = (dtype: DType): boolean => (floatingDTypes as readonly DType[]).includes(dtype);

/** Floats before integers before bool; of two floats the wider, of the two halves float32. */
function promoted(a: DType, b: DType): DType {
  if (a === b) return a;
  if (floating(a) !== floating(b)) return floating(a) ? a : b;
  if (floating(a)) return a === 'float64' || b === 'float64' ? 'float64' : 'float32';
  if (a === 'bool') return b;
  if (b === 'bool') return a;
  return a === 'int64' || b === 'int64' ? 'int64' : 'int32';
}

/** 16-bit floats by their definition: a number rounded to p significant bits, halves to even. */
function toHalf(x: number, bits: number, least: number, most: number): number {
  if (!Number.isFinite(x) || x === 0) return x;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(x))), least);
  const unit = 2 ** (exponent - bits + 1);
  const scaled = x / unit;
  const below = Math.floor(scaled);
  const rest = scaled - below;
  const up = rest > 0.5 || (rest === 0.5 && below % 2 !== 0);
  const rounded = (up ? below + 1 : below) * unit;
  return Math.abs(rounded) > most ? Math.sign(x) * Number.POSITIVE_INFINITY : rounded;
}

/** The value of x after a cast. */
function stored(dtype: DType, x: number): number {
  switch (dtype) {
    case 'float32':
      return Math.fround(x);
    case 'bfloat16':
      return toHalf(Math.fround(x), 8, -126, (2 - 2 ** -7) * 2 ** 127);
    case 'float16':
      return toHalf(Math.fround(x), 11, -14, 65504);
    default:
      return wrap(dtype, x);
  }
}

const samples = [
  0,
  1,
  -1,
  1.5,
  -1.5,
  2.9,
  -2.9,
  0.1,
  100.6,
  255,
  1 + 2 ** -8,
  1 + 3 * 2 ** -9,
  1 + 2 ** -11,
  1 + 3 * 2 ** -12,
  65504,
  65519,
  65520,
  1e-7,
  6e-8,
  2.9e-8,
  1e-20,
  3.3e38,
  -1e5,
];

describe.each(devices)('dtypes on $name', (device) => {
  it('promotes every pair', () => {
    scope(() => {
      for (const a of dtypes) {
        for (const b of dtypes) {
          const x = ones([3], { dtype: a, device });
          const y = ones([3], { dtype: b, device });
          const expected = promoted(a, b);
          expect(x.mul(y).dtype, `${a}·${b}`).toBe(expected);
          expect([...x.mul(y).data()].map(Number)).toEqual([1, 1, 1]);
          expect(x.div(y).dtype, `${a}/${b}`).toBe(floating(expected) ? expected : 'float32');
          expect(x.eq(y).dtype).toBe('bool');
          expect(where(x.gt(0), x, y).dtype).toBe(expected);
        }
      }
    });
  });

  it('promotes as torch.result_type does, beside scalars and numbers, too', () => {
    const { cases, numbers } = readVectors<Promotion>('promotion') as unknown as {
      cases: Promotion[];
      numbers: { a: DType; whole: DType; real: DType }[];
    };
    scope(() => {
      for (const { a, b, arrays, scalar, div } of cases) {
        const x = ones([2], { dtype: a, device });
        const y = ones([2], { dtype: b, device });
        const s = ones([], { dtype: b, device });
        expect(x.mul(y).dtype, `${a}[2]·${b}[2]`).toBe(arrays);
        expect(x.mul(s).dtype, `${a}[2]·${b}[]`).toBe(scalar);
        expect(s.mul(x).dtype, `${b}[]·${a}[2]`).toBe(scalar);
        expect(where(x.gt(0), x, s).dtype).toBe(scalar);
        expect(x.div(y).dtype, `${a}/${b}`).toBe(div);
        expect([...x.mul(s).data()].map(Number)).toEqual([1, 1]);
      }
      for (const { a, whole, real } of numbers) {
        const x = ones([2], { dtype: a, device });
        expect(x.add(2).dtype, `${a} + 2`).toBe(whole);
        expect(x.add(2.5).dtype, `${a} + 2.5`).toBe(real);
      }
    });
  });

  it('gives the dtypes and values that PyTorch gives for integers', () => {
    const { calls } = readVectors<Promotion>('promotion') as unknown as { calls: Call[] };
    expect(calls.length).toBeGreaterThan(50);
    scope(() => {
      for (const { op, arguments: given, dtype, values } of calls) {
        const args = given.map((a) =>
          typeof a === 'number' ? a : tensor(a.values, { dtype: a.dtype, device }),
        );
        const result = (functions[op] as (...args: unknown[]) => Tensor)(...args);
        const text = `${op} of ${JSON.stringify(given)}`;
        expect(result.dtype, text).toBe(dtype);
        expect([...result.data()].map(Number), text).toEqual(values.map(Number).map(Math.fround));
      }
    });
  });

  it('compares integers with numbers beyond their range as mathematics does', () => {
    scope(() => {
      const ranges = { uint8: [0, 255], int32: [-(2 ** 31), 2 ** 31 - 1], int64: [-3, 3] } as const;
      for (const dtype of ['uint8', 'int32', 'int64'] as const) {
        const x = tensor([...ranges[dtype]], { dtype, device });
        const flags = (of: Tensor): number[] => [...of.data()].map(Number);
        const beyond = dtype === 'int64' ? 2 ** 64 : 2 ** 32 + 1;
        for (const far of [beyond, Number.POSITIVE_INFINITY]) {
          for (const name of ['lt', 'le', 'ne'] as const)
            expect(flags(x[name](far))).toEqual([1, 1]);
          for (const name of ['gt', 'ge', 'eq'] as const)
            expect(flags(x[name](far))).toEqual([0, 0]);
          for (const name of ['gt', 'ge', 'ne'] as const)
            expect(flags(x[name](-far))).toEqual([1, 1]);
          for (const name of ['lt', 'le', 'eq'] as const)
            expect(flags(x[name](-far))).toEqual([0, 0]);
        }
        const full = tensor([1, 2], { dtype, device });
        expect(flags(full.logicalAnd(beyond))).toEqual([1, 1]);
        expect(flags(full.logicalXor(-beyond))).toEqual([0, 0]);
      }
    });
  });

  it('refuses numbers that an integer dtype does not hold, where they would be wrong', () => {
    scope(() => {
      const x = tensor([200, 3], { dtype: 'uint8', device });
      expect(x.clamp(-5, 300).toArray()).toEqual([200, 3]);
      expect(x.maximum(-1).toArray()).toEqual([200, 3]);
      expect(x.minimum(256).toArray()).toEqual([200, 3]);
      expect(x.add(300).toArray()).toEqual([244, 47]);
      expect(x.mul(-1).toArray()).toEqual([56, 253]);
      for (const name of ['maximum', 'clampMin', 'remainder', 'fmod', 'floorDivide'] as const) {
        const message = `${name}: a number beside uint8 must be in [0,255], got 300`;
        expect(() => x[name](300)).toThrow(message);
      }
      expect(() => x.minimum(-1)).toThrow('minimum: a number beside uint8 must be in [0,255]');
      expect(() => x.pow(-1)).toThrow('pow: an integer has no negative integer power, got -1');
      expect(() => x.hardtanh()).toThrow('hardtanh: needs a dtype that holds -1, got uint8');
      expect(x.to('int64').add(2 ** 64).dtype).toBe('float32');

      expect(full([2], 2 ** 32, { dtype: 'bool', device }).toArray()).toEqual([true, true]);
      expect(full([1], 0.5, { dtype: 'bool', device }).toArray()).toEqual([true]);
      for (const [dtype, value] of [
        ['uint8', 300],
        ['uint8', -1],
        ['int32', 2 ** 31],
        ['int64', 2 ** 63],
        ['int64', Number.NaN],
      ] as const) {
        const message = `full: an element of ${dtype} must be in [`;
        expect(() => full([1], value, { dtype, device })).toThrow(message);
      }
      const mask = x.gt(100);
      expect(() => x.maskedFill(mask, Number.NEGATIVE_INFINITY)).toThrow(
        'maskedFill: an element of uint8 must be in [0,255], got -inf',
      );
      expect(x.maskedFill(mask, 7.5).toArray()).toEqual([7, 3]);
      expect(() => where(mask, x, 256)).toThrow('where: an element of uint8 must be in [0,255]');
    });
  });

  it('takes arrays of integers that no dtype has', () => {
    scope(() => {
      const cases = [
        [Int8Array.of(-128, 127), 'int32'],
        [Int16Array.of(-32768, 1), 'int32'],
        [Uint16Array.of(65535, 1), 'int32'],
        [Uint32Array.of(2 ** 32 - 1, 1), 'int64'],
        [Uint8ClampedArray.of(255, 1), 'uint8'],
      ] as const;
      for (const [array, dtype] of cases) {
        const made = tensor(array, { device });
        expect(made.dtype).toBe(dtype);
        expect(made.toArray()).toEqual([...array]);
        expect(tensor(array, [2, 1], { dtype: 'float32', device }).toArray()).toEqual(
          [...array].map((v) => [Math.fround(v)]),
        );
      }
    });
  });

  it('keeps the dtype beside a number', () => {
    scope(() => {
      for (const dtype of dtypes) {
        const x = ones([2], { dtype, device });
        const whole = dtype === 'bool' ? 'int64' : dtype;
        expect(x.add(2).dtype, `${dtype} + 2`).toBe(whole);
        expect(x.mul(0.5).dtype, `${dtype}·0.5`).toBe(floating(dtype) ? dtype : 'float32');
        expect([...x.mul(0.5).data()].map(Number)).toEqual([0.5, 0.5]);
      }
      expect(() =>
        ones([2], { dtype: 'bool', device }).sub(ones([2], { dtype: 'bool', device })),
      ).toThrow('sub: bool tensors have no difference, use logicalXor');
    });
  });

  it('casts floats by rounding and to integers by truncation', () => {
    scope(() => {
      const x = tensor(Float64Array.from(samples), { device: cpu }).to(device);
      const source = ['float64', 'float32'] as const;
      for (const from of source) {
        const wide = x.to(from);
        const values = [...valuesOf(wide).data];
        for (const dtype of dtypes) {
          const small = values.filter(
            (v) =>
              dtype.startsWith('float') ||
              dtype === 'bfloat16' ||
              (v > -1 && v < 256) ||
              (dtype.startsWith('int') && Math.abs(v) < 2 ** 31),
          );
          const actual = valuesOf(tensor(Float64Array.from(small)).to(device).to(from).to(dtype));
          small.forEach((value, i) => {
            expect(actual.data[i], `${from} ${value} to ${dtype}`).toBe(stored(dtype, value) + 0);
          });
        }
      }
    });
  });

  it('casts between all dtypes', () => {
    scope(() => {
      const values = [0, 1, 2, 100, 200];
      for (const from of dtypes) {
        for (const to of dtypes) {
          const x = tensor(values, { device, dtype: from });
          const expected = values.map((v) => wrap(to, wrap(from, v)));
          const actual = x.to(to);
          expect(actual.dtype).toBe(to);
          expect([...valuesOf(actual).data], `${from} to ${to}`).toEqual(expected);
        }
      }
    });
  });

  it('saturates floats beyond an integer dtype and makes NaN 0', () => {
    scope(() => {
      const x = tensor([1e20, -1e20, Number.NaN, Number.POSITIVE_INFINITY], { device });
      expect([...x.to('int32').data()]).toEqual([2147483647, -2147483648, 0, 2147483647]);
      expect([...x.to('uint8').data()]).toEqual([255, 0, 0, 255]);
      expect([...(x.to('int64').data() as BigInt64Array)]).toEqual([
        2n ** 63n - 1n,
        -(2n ** 63n),
        0n,
        2n ** 63n - 1n,
      ]);
      expect(x.to('bool').toArray()).toEqual([true, true, true, true]);
    });
  });

  it('wraps wide integers', () => {
    scope(() => {
      const x = tensor([-1n, 2n ** 32n + 5n, 300n], { device });
      expect([...x.to('int32').data()]).toEqual([-1, 5, 300]);
      expect([...x.to('uint8').data()]).toEqual([255, 5, 44]);
    });
  });
});
