import { describe, expect, it } from 'vitest';
import {
  arange,
  type DType,
  dtypes,
  eye,
  full,
  getDefaultDevice,
  linspace,
  logspace,
  ones,
  onesLike,
  scope,
  setDefaultDevice,
  tensor,
  zeros,
  zerosLike,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { wrap } from '../support/op.js';

describe.each(devices)('creation on $name', (device) => {
  it('fills every dtype at every size', () => {
    scope(() => {
      for (const dtype of dtypes) {
        for (const n of [0, 1, 31, 33, 1025]) {
          const x = full([n], 3, { device, dtype });
          expect([x.shape, x.dtype, x.device]).toEqual([[n], dtype, device]);
          expect(x.data().length).toBe(n);
          expect([...x.data()].map(Number).every((v) => v === wrap(dtype, 3))).toBe(true);
        }
      }
      expect(zeros([2, 2], { device }).toArray()).toEqual([
        [0, 0],
        [0, 0],
      ]);
      expect(ones([2], { device, dtype: 'bool' }).toArray()).toEqual([true, true]);
      expect(full([], 1.5, { device }).item()).toBe(1.5);
      expect(full([1], -7, { device, dtype: 'int64' }).item()).toBe(-7);
    });
  });

  it('makes alike', () => {
    scope(() => {
      const x = zeros([2, 3], { device, dtype: 'int32' });
      expect(onesLike(x).toArray()).toEqual([
        [1, 1, 1],
        [1, 1, 1],
      ]);
      const y = zerosLike(x, { dtype: 'float16' });
      expect([y.shape, y.dtype, y.device]).toEqual([[2, 3], 'float16', device]);
    });
  });

  it('counts', () => {
    scope(() => {
      expect(arange(5, { device }).toArray()).toEqual([0, 1, 2, 3, 4]);
      expect(arange(5, { device }).dtype).toBe('int64');
      expect(arange(2, 5, { device }).toArray()).toEqual([2, 3, 4]);
      expect(arange(5, 0, -2, { device }).toArray()).toEqual([5, 3, 1]);
      expect(arange(0, 1, 0.25, { device }).toArray()).toEqual([0, 0.25, 0.5, 0.75]);
      expect(arange(0, 1, 0.25, { device }).dtype).toBe('float32');
      expect(arange(3, 1, { device }).toArray()).toEqual([]);
      const counted: DType[] = ['float32', 'float64', 'bfloat16', 'float16', 'int32', 'uint8'];
      for (const dtype of counted) {
        const x = arange(1, 8, 2, { device, dtype });
        expect([x.dtype, x.toArray()]).toEqual([dtype, [1, 3, 5, 7]]);
      }
      const long = arange(1025, { device }).data() as BigInt64Array;
      expect(long[1024]).toBe(1024n);
      const steps = arange(0, 100, 0.1, { device, dtype: 'float64' }).data();
      expect(steps.length).toBe(1000);
      expect(steps[999]).toBeCloseTo(99.9, 10);
    });
  });

  it('takes nested arrays', () => {
    scope(() => {
      const x = tensor(
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
        { device },
      );
      expect([x.shape, x.dtype]).toEqual([[2, 3], 'float32']);
      expect(x.toArray()).toEqual([
        [1, 2, 3],
        [4, 5, 6],
      ]);
      expect(tensor(5, { device }).shape).toEqual([]);
      expect(tensor([], { device }).shape).toEqual([0]);
      expect(tensor([[], []], { device }).shape).toEqual([2, 0]);
      expect(tensor([1, 2, 3, 4], [2, 2], { device }).toArray()).toEqual([
        [1, 2],
        [3, 4],
      ]);
      expect(tensor([[[1]], [[2]]], { device }).shape).toEqual([2, 1, 1]);
    });
  });

  it('takes bigints and booleans', () => {
    scope(() => {
      const x = tensor([1n, -(2n ** 60n)], { device });
      expect(x.dtype).toBe('int64');
      expect(x.toArray()).toEqual([1n, -(2n ** 60n)]);
      expect(tensor([1n, 2n], { device }).toArray()).toEqual([1, 2]);
      expect(tensor(2n ** 60n, { device }).item()).toBe(2n ** 60n);
      const flags = tensor([true, false], { device });
      expect([flags.dtype, flags.toArray()]).toEqual(['bool', [true, false]]);
      expect(tensor([true, 2], { device }).toArray()).toEqual([1, 2]);
      expect(tensor([1, 0, 2], { device, dtype: 'bool' }).toArray()).toEqual([true, false, true]);
      expect(tensor([1.9, -1.9], { device, dtype: 'int32' }).toArray()).toEqual([1, -1]);
    });
  });

  it('takes typed arrays and copies them', () => {
    scope(() => {
      const source = Float32Array.of(1, 2, 3, 4);
      const x = tensor(source, [2, 2], { device });
      source[0] = 9;
      expect(x.toArray()).toEqual([
        [1, 2],
        [3, 4],
      ]);
      expect(tensor(Uint8Array.of(1, 255), { device }).dtype).toBe('uint8');
      expect(tensor(Int32Array.of(-1), { device }).dtype).toBe('int32');
      expect(tensor(BigInt64Array.of(-1n), { device }).dtype).toBe('int64');
      expect(tensor(Float64Array.of(0.1), { device }).item()).toBe(0.1);
      expect(tensor(Float64Array.of(0.1), { device, dtype: 'float32' }).item()).toBe(
        Math.fround(0.1),
      );
      const part = Float32Array.of(0, 1, 2, 3).subarray(1, 3);
      expect(tensor(part, { device }).toArray()).toEqual([1, 2]);
    });
  });

  it('reads back what it was given', async () => {
    const x = tensor(
      [
        [1, 2],
        [3, 4],
      ],
      { device },
    );
    expect([...(await x.read())]).toEqual([1, 2, 3, 4]);
    expect([...(await x.T.read())]).toEqual([1, 3, 2, 4]);
    x.dispose();
  });

  it('refuses what is no tensor', () => {
    const refuses = (call: () => unknown, message: string | RegExp): void =>
      expect(() => scope(call)).toThrow(message);
    refuses(
      () => tensor([[1, 2], [3]], { device }),
      'tensor: nested arrays must have one length per axis',
    );
    refuses(() => tensor([1, [2]] as never, { device }), 'tensor: ');
    refuses(
      () => tensor([[1], 2] as never, { device }),
      'tensor: values must be numbers, bigints or booleans',
    );
    refuses(
      () => tensor(['a'] as never, { device }),
      'tensor: values must be numbers, bigints or booleans',
    );
    refuses(
      () => tensor([1, 2, 3], [2, 2], { device }),
      'tensor: float32[2,2] takes 16 bytes, got 12',
    );
    refuses(
      () => tensor([1], { device, dtype: 'float8' as DType }),
      'tensor: dtype must be one of float32,',
    );
    refuses(
      () => tensor([1.5], { device, dtype: 'int64' }),
      'tensor: int64 values must be safe integers',
    );
    refuses(
      () => tensor([1], { device, dtype: 'int32', requiresGrad: true }),
      'requireGrad: needs a floating dtype',
    );
    refuses(() => full([2], '3' as never, { device }), 'full: the value must be a number, got "3"');
    refuses(
      () => full([2.5], 1, { device }),
      'full: a shape must be an array of at most 8 integers',
    );
    refuses(() => full([-1], 1, { device }), 'full: sizes must not be negative, got -1');
    refuses(() => full([2 ** 30, 2 ** 30], 1, { device }), 'full: too many elements, got shape');
    refuses(() => arange(0, 1, 0, { device }), 'arange: step must not be 0');
    refuses(
      () => arange(0, 1, 0.5, { device, dtype: 'int32' }),
      'arange: int32 needs integers, got 0, 1, 0.5',
    );
    refuses(() => arange(Number.NaN, { device }), 'arange: numbers must be finite, got NaN');
    refuses(() => arange('5' as never, { device }), /^arange: /);
    refuses(
      () => zeros([1], { device: 'gpu' }),
      'device: must be cpu, cuda, cuda:N or emulated, got',
    );
  });
});

describe.each(devices)('spaced numbers on $name', (device) => {
  it('linspace has both ends, evenly apart', () => {
    scope(() => {
      for (const dtype of ['float32', 'float64'] as const) {
        const values = linspace(-2, 3, 1001, { device, dtype }).data();
        values.forEach((x, i) => {
          const exact = -2 + (5 * i) / 1000;
          const rounded = dtype === 'float32' ? Math.fround(exact) : exact;
          expect(Math.abs(Number(x) - rounded)).toBeLessThanOrEqual(1e-15);
        });
      }
      expect(linspace(3, 7, 1, { device }).toArray()).toEqual([3]);
      expect(linspace(3, 7, 0, { device }).shape).toEqual([0]);
      expect(linspace(0, 1, 3, { device, dtype: 'bfloat16' }).toArray()).toEqual([0, 0.5, 1]);
      expect(() => linspace(0, 1, 3, { device, dtype: 'int32' })).toThrow(
        'linspace: needs a floating dtype, got int32',
      );
      expect(() => linspace(0, 1, -1, { device })).toThrow(
        'linspace: steps must be an integer of 0 or more, got -1',
      );
    });
  });

  it('logspace has powers of its base', () => {
    scope(() => {
      expect(logspace(0, 3, 4, 2, { device }).toArray()).toEqual([1, 2, 4, 8]);
      const tens = logspace(-1, 1, 3, undefined, { device, dtype: 'float64' }).data();
      [0.1, 1, 10].forEach((x, i) => {
        expect(Number(tens[i])).toBeCloseTo(x, 12);
      });
      expect(logspace(0, 2, 3, 4, { device, dtype: 'float16' }).toArray()).toEqual([1, 4, 16]);
      expect(() => logspace(0, 1, 2, 10, { device, dtype: 'bool' })).toThrow(
        'logspace: needs a floating dtype, got bool',
      );
    });
  });

  it('eye refuses negative sizes', () => {
    expect(() => eye(-1, 2, { device })).toThrow(
      'eye: each size must be an integer of 0 or more, got -1',
    );
  });
});

it('makes tensors on the default device', () => {
  const before = getDefaultDevice();
  for (const device of devices) {
    setDefaultDevice(device);
    scope(() => expect(tensor([1]).device).toBe(device));
  }
  setDefaultDevice(before);
});
