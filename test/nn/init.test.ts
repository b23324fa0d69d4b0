import { beforeEach, describe, expect, it } from 'vitest';
import { Generator, manualSeed, nn, scope, type Tensor, zeros } from '../../lib/index.js';
import { expectSameBits } from '../support/compare.js';
import { cpu, devices } from '../support/devices.js';
import { readVectors } from '../support/vectors.js';

const { init } = nn;

interface Case {
  shape: number[];
  mode: 'fanIn' | 'fanOut';
  nonlinearity: nn.init.Nonlinearity;
  a: number;
  bound: number;
  std: number;
}

function statistics(x: Tensor): { mean: number; std: number; largest: number } {
  const values = Array.from(x.detach().data() as Float32Array);
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
  return { mean, std: Math.sqrt(variance), largest: Math.max(...values.map(Math.abs)) };
}

beforeEach(() => manualSeed(5));

describe('initialisers', () => {
  it.each(readVectors<Case>('initialisers').cases)(
    'Kaiming has the bounds of PyTorch: $shape, $mode, $nonlinearity, $a',
    ({ shape, mode, nonlinearity, a, bound, std }) => {
      scope(() => {
        const weight = zeros(shape);
        const n = weight.size;
        const options = { mode, nonlinearity, a };
        const uniform = statistics(init.kaimingUniform(weight, options));
        expect(uniform.largest).toBeLessThanOrEqual(bound * (1 + 1e-6));
        expect(uniform.largest).toBeGreaterThan(bound * (1 - 20 / n));
        expect(Math.abs(uniform.mean)).toBeLessThan((5 * std) / Math.sqrt(n));
        expect(Math.abs(uniform.std / std - 1)).toBeLessThan(5 / Math.sqrt(n));
        const normal = statistics(init.kaimingNormal(weight, options));
        expect(Math.abs(normal.mean)).toBeLessThan((5 * std) / Math.sqrt(n));
        expect(Math.abs(normal.std / std - 1)).toBeLessThan(5 / Math.sqrt(n));
      });
    },
  );

  it('Xavier has the bound and deviation of its formula', () => {
    scope(() => {
      const weight = zeros([40, 60]);
      const bound = 2 * Math.sqrt(6 / 100);
      expect(statistics(init.xavierUniform(weight, 2)).largest).toBeLessThanOrEqual(bound);
      expect(statistics(weight).largest).toBeGreaterThan(bound * 0.99);
      expect(statistics(init.xavierNormal(weight)).std / Math.sqrt(2 / 100)).toBeCloseTo(1, 1);
    });
  });

  it('truncated normals keep within their bounds and have the moments of the formula', () => {
    scope(() => {
      const n = 40_000;
      const x = zeros([n]);
      init.truncatedNormal(x, 0.5, 2, -1, 3);
      const values = Array.from(x.data() as Float32Array);
      expect(Math.min(...values)).toBeGreaterThanOrEqual(-1);
      expect(Math.max(...values)).toBeLessThanOrEqual(3);
      // Of N(0.5, 2²) between -1 and 3, by numeric integration.
      let [mass, mean, square] = [0, 0, 0];
      for (let i = 0; i < 4000; ++i) {
        const at = -1 + (i + 0.5) / 1000;
        const density = Math.exp(-0.5 * ((at - 0.5) / 2) ** 2);
        mass += density;
        mean += at * density;
        square += at * at * density;
      }
      mean /= mass;
      const std = Math.sqrt(square / mass - mean * mean);
      const found = statistics(x);
      expect(Math.abs(found.mean - mean)).toBeLessThan((4 * std) / Math.sqrt(n));
      expect(Math.abs(found.std / std - 1)).toBeLessThan(4 / Math.sqrt(n));
      // A far tail, where drawing again would take forever.
      init.truncatedNormal(x, 0, 1, 5, 6);
      const tail = statistics(x);
      expect(tail.mean).toBeGreaterThan(5.1);
      expect(tail.mean).toBeLessThan(5.25);
      expect(tail.largest).toBeLessThanOrEqual(6);
      expect(init.truncatedNormal(x, 1, 0).mean().item()).toBe(1);
    });
  });

  it.each([[[5, 3]], [[3, 5]], [[4, 4]], [[6, 2, 3, 3]], [[0, 3]]])(
    'orthogonal weights of %j are orthonormal',
    (shape) => {
      scope(() => {
        const weight = init.orthogonal(zeros(shape, { dtype: 'float64' }), 2);
        if (weight.size === 0) return;
        const rows = shape[0] as number;
        const matrix = weight.reshape([rows, weight.size / rows]);
        const wide = rows <= weight.size / rows;
        const gram = wide ? matrix.matmul(matrix.T) : matrix.T.matmul(matrix);
        const expected = init.eye(zeros(gram.shape, { dtype: 'float64' })).mul(4);
        expect(Number(gram.sub(expected).abs().max().item())).toBeLessThan(1e-12);
      });
    },
  );

  it('orthogonal weights are the Q of a positive diagonal, also in many blocks', () => {
    scope(() => {
      const [rows, columns] = [70, 90];
      const place = { dtype: 'float64' } as const;
      const q = init.orthogonal(zeros([rows, columns], place), 1, new Generator(3));
      const gram = q.matmul(q.T).sub(init.eye(zeros([rows, rows], place)));
      expect(Number(gram.abs().max().item())).toBeLessThan(1e-13);
      // The matrix they were made of is L·Q with L lower triangular.
      const a = init.normal(zeros([rows, columns], place), 0, 1, new Generator(3));
      const lower = a.matmul(q.T).toArray() as number[][];
      for (const [i, row] of lower.entries()) {
        expect(row[i]).toBeGreaterThan(0);
        for (const value of row.slice(i + 1)) expect(Math.abs(value)).toBeLessThan(1e-11);
      }
    });
  });

  it('fills with the identity', () => {
    scope(() => {
      expect(init.eye(zeros([2, 3])).toArray()).toEqual([
        [1, 0, 0],
        [0, 1, 0],
      ]);
      expect(() => init.eye(zeros([2]))).toThrow('eye: needs a matrix, got [2]');
      expect(() => init.orthogonal(zeros([2]))).toThrow(
        'orthogonal: needs a weight of rank 2 or more, got [2]',
      );
      expect(() => init.truncatedNormal(zeros([2]), 0, 1, 2, 1)).toThrow(
        'truncatedNormal: high must be in [2,Infinity], got 1',
      );
    });
  });

  it('uniform, normal and constants fill in place', () => {
    scope(() => {
      const x = zeros([2000]);
      expect(init.uniform(x, 2, 4)).toBe(x);
      const u = statistics(x);
      expect(u.mean).toBeCloseTo(3, 1);
      expect(u.largest).toBeLessThan(4);
      init.normal(x, 1, 0.5);
      expect(statistics(x).mean).toBeCloseTo(1, 1);
      expect(statistics(x).std).toBeCloseTo(0.5, 1);
      expect(init.constant(x, 7).mean().item()).toBe(7);
      expect(init.ones(x).sum().item()).toBe(2000);
      expect(init.zeros(x).sum().item()).toBe(0);
    });
  });

  it('take a generator', () => {
    const fills: ((x: Tensor, generator: Generator) => Tensor)[] = [
      (x, generator) => init.uniform(x, 0, 1, generator),
      (x, generator) => init.xavierUniform(x, 1, generator),
      (x, generator) => init.xavierNormal(x, 1, generator),
      (x, generator) => init.kaimingUniform(x, { generator }),
      (x, generator) => init.kaimingNormal(x, { generator }),
      (x, generator) => init.orthogonal(x, 1, generator),
    ];
    scope(() => {
      for (const [i, fill] of fills.entries()) {
        const [a, b] = [zeros([5, 10]), zeros([5, 10])];
        expectSameBits(fill(a, new Generator(4)), fill(b, new Generator(4)), `fill ${i}`);
      }
    });
  });

  it('fill in the dtype of the tensor', () => {
    scope(() => {
      const wide = zeros([20, 20], { dtype: 'float64' });
      for (const fill of [
        (x: Tensor) => init.uniform(x, 0, 0.3),
        (x: Tensor) => init.normal(x),
        (x: Tensor) => init.truncatedNormal(x),
        init.kaimingUniform,
      ]) {
        const rounded = fill(wide).to('float32', 'float64');
        expect(Number(rounded.eq(wide).to('float32').mean().item()), String(fill)).toBeLessThan(
          0.1,
        );
      }
      const many = zeros([20_000], { dtype: 'float64' });
      for (const [fill, mean, std] of [
        [(x: Tensor) => init.uniform(x, 1, 3), 2, 1 / Math.sqrt(3)],
        [(x: Tensor) => init.normal(x, 1, 2), 1, 2],
      ] as const) {
        const found = statistics(fill(many));
        expect(Math.abs(found.mean - mean)).toBeLessThan((4 * std) / Math.sqrt(many.size));
        expect(Math.abs(found.std / std - 1)).toBeLessThan(0.02);
      }
      expect(() => init.uniform(many, 1, 0)).toThrow(
        'uniform: high must be in [1,Infinity], got 0',
      );
      expect(() => init.normal(many, 0, -1)).toThrow('normal: std must be in [0,Infinity], got -1');
      expect(init.constant(zeros([1], { dtype: 'float64' }), 0.1).item()).toBe(0.1);
      const whole = zeros([2], { dtype: 'int64' });
      expect(init.constant(whole, 2 ** 53 - 1).toArray()).toEqual([2 ** 53 - 1, 2 ** 53 - 1]);
      expect(init.constant(whole, 2n ** 62n + 1n).toArray()).toEqual([
        2n ** 62n + 1n,
        2n ** 62n + 1n,
      ]);
      expect(init.constant(whole, 2.5).toArray()).toEqual([2, 2]);
      expect(init.constant(zeros([1]), 3n).item()).toBe(3);
    });
  });

  it('Linear starts uniform within 1/√in, weight and bias', () => {
    const layer = new nn.Linear(100, 80);
    const weight = statistics(layer.weight);
    expect(weight.largest).toBeLessThanOrEqual(0.1);
    expect(weight.largest).toBeGreaterThan(0.099);
    expect(statistics(layer.bias as Tensor).largest).toBeLessThanOrEqual(0.1);
    expect(statistics(layer.bias as Tensor).largest).toBeGreaterThan(0.09);
  });

  it('have gains', () => {
    expect(init.calculateGain('linear')).toBe(1);
    expect(init.calculateGain('tanh')).toBeCloseTo(5 / 3, 12);
    expect(init.calculateGain('relu')).toBeCloseTo(Math.SQRT2, 12);
    expect(init.calculateGain('leakyRelu', 0.2)).toBeCloseTo(Math.sqrt(2 / 1.04), 12);
    expect(init.calculateGain('selu')).toBe(0.75);
  });

  it('refuse what they cannot fill', () => {
    expect(() => init.kaimingUniform(zeros([3]))).toThrow(
      'init: fans need a weight of rank 2 or more, got [3]',
    );
    expect(() => init.calculateGain('swish' as never)).toThrow(/^calculateGain: /);
    expect(() => init.uniform(3 as never)).toThrow(/^uniform: /);
    expect(() => init.constant(zeros([2]), 'x' as never)).toThrow(/^constant: /);
    expect(() => init.kaimingUniform(zeros([2, 2]), { mode: 'fan' as never })).toThrow(/^kaiming/);
  });
});

describe.each(devices)('initialisers on $name', (device) => {
  it('draw the bits of the CPU', () => {
    scope(() => {
      for (const fill of [init.kaimingUniform, init.kaimingNormal, init.xavierNormal]) {
        manualSeed(8);
        const here = fill(zeros([9, 7], { device }));
        manualSeed(8);
        const there = fill(zeros([9, 7], { device: cpu }));
        expectSameBits(here, there, fill.name);
      }
      manualSeed(8);
      const here = new nn.Linear(5, 4, { device });
      manualSeed(8);
      expectSameBits(here.weight.detach(), new nn.Linear(5, 4).weight.detach(), 'Linear');
    });
  });
});
