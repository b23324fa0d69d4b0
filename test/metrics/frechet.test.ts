import { describe, expect, it } from 'vitest';
import { metrics, type Tensor, tensor } from '../../lib/index.js';
import { devices } from '../support/devices.js';

/** N points of F numbers by formula. */
function cloud(n: number, f: number, a: number, b: number): number[][] {
  return Array.from({ length: n }, (_, i) =>
    Array.from({ length: f }, (__, j) => Math.sin(a * i * (j + 1) + b * j) + 0.1 * j * Math.cos(i)),
  );
}

const shifted = (rows: number[][], by: number) => rows.map((row) => row.map((v) => v + by));

describe.each(devices.map((device) => [device.name, device] as const))('on %s', (_, device) => {
  const on = (rows: number[][]): Tensor => tensor(rows, { device, dtype: 'float64' });

  it('is the value of scipy.linalg.sqrtm, in one update or several', () => {
    const [x, y] = [cloud(40, 5, 0.7, 0.3), shifted(cloud(60, 5, 1.1, 0.5), 0.2)];
    const distance = new metrics.FrechetDistance();
    distance.update(on(x), on(y));
    expect(distance.compute()).toBeCloseTo(0.3433921067572112, 10);
    distance.reset();
    distance.update(on(x.slice(0, 10)), on(y.slice(0, 33)));
    distance.update(on(x.slice(10)), on(y.slice(33)));
    expect(distance.compute()).toBeCloseTo(0.3433921067572112, 10);
  });

  it('holds where features do not vary', () => {
    const cut = (rows: number[][]) =>
      rows.map((row) => row.map((v, j) => (j === 2 ? 0 : Math.max(0, v))));
    const x = cut(cloud(50, 6, 0.7, 0.3));
    const y = cut(shifted(cloud(50, 6, 1.1, 0.5), -0.4));
    const distance = new metrics.FrechetDistance();
    distance.update(on(x), on(y));
    expect(distance.compute()).toBeCloseTo(0.3798684653386, 10);
    distance.reset();
    distance.update(on(x), on(x));
    expect(distance.compute()).toBeCloseTo(0, 10);
  });
});

describe('FrechetDistance', () => {
  it('of one feature is that of two normal distributions', () => {
    const distance = new metrics.FrechetDistance();
    expect(distance.compute()).toBeNaN();
    const column = (values: number[]) => tensor(values, [values.length, 1]);
    distance.update(column([1, 3]), column([6, 10])); // means 2 and 8, deviations √2 and √8
    expect(distance.compute()).toBeCloseTo(36 + (Math.SQRT2 - Math.sqrt(8)) ** 2, 10);
  });

  it('takes features only', () => {
    const x = tensor([[1, 2]]);
    expect(() => new metrics.FrechetDistance().update(x, tensor([[1, 2, 3]]))).toThrow(
      /frechetDistance: needs features \[N,F\] and \[M,F\]/,
    );
  });
});
