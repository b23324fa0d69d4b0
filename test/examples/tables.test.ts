import { describe, expect, it } from 'vitest';
import { randomSplit, readCsv, TensorDataset } from '../../lib/index.js';
import { accelerators, devices } from '../support/devices.js';
import { linesOf } from '../support/example.js';

/** Solves A·x = b by elimination with pivots. */
function solve(a: readonly (readonly number[])[], b: readonly number[]): number[] {
  const rows = a.map((row, i) => [...row, b[i] as number]);
  const n = rows.length;
  for (let i = 0; i < n; ++i) {
    rows.sort((p, q) => (rows.indexOf(p) < i || rows.indexOf(q) < i ? 0 : abs(q[i]) - abs(p[i])));
    const pivot = rows[i] as number[];
    for (const row of rows.slice(i + 1)) {
      const factor = (row[i] as number) / (pivot[i] as number);
      for (let j = i; j <= n; ++j) row[j] = (row[j] as number) - factor * (pivot[j] as number);
    }
  }
  const x = new Array<number>(n).fill(0);
  for (let i = n - 1; i >= 0; --i) {
    const row = rows[i] as number[];
    const rest = x.reduce((sum, value, j) => sum + (j > i ? value * (row[j] as number) : 0), 0);
    x[i] = ((row[n] as number) - rest) / (row[i] as number);
  }
  return x;
}

function abs(value: number | undefined): number {
  return Math.abs(value ?? 0);
}

/** Weighted least squares by the normal equations; a last column of ones is the intercept. */
function leastSquares(x: number[][], y: number[], weight: number[] = y.map(() => 1)): number[] {
  const width = x[0]?.length ?? 0;
  const sum = (f: (row: number[], i: number) => number) =>
    x.reduce((s, row, i) => s + f(row, i), 0);
  const at = (row: number[], j: number): number => row[j] as number;
  const gram = Array.from({ length: width }, (_, j) =>
    Array.from({ length: width }, (_, k) =>
      sum((row, i) => (weight[i] as number) * at(row, j) * at(row, k)),
    ),
  );
  const moments = Array.from({ length: width }, (_, j) =>
    sum((row, i) => (weight[i] as number) * at(row, j) * (y[i] as number)),
  );
  return solve(gram, moments);
}

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);

function numbers(line: string | undefined): number[] {
  return (line?.match(/-?\d+(\.\d+)?/g) ?? []).map(Number);
}

describe('house-price', () => {
  it('finds the line, says that two features are one, and comes to the least squares of the sales', async () => {
    const found = linesOf('house-price', '--device', 'cpu');
    expect(found[1]).toBe('  intercept 50.0, slope 10.0');
    const [one, two] = [numbers(found[3]), numbers(found[4])];
    expect(found[3]).not.toBe(found[4]);
    for (const [size = 0, rooms = 0, intercept = 0, error = 1] of [one, two]) {
      expect(size + rooms / 50).toBeCloseTo(2, 1);
      expect([intercept, error]).toEqual([20, 0]);
    }
    expect(found[6]).toMatch(/badly posed/);

    const features = ['beds', 'baths', 'sqft', 'latitude', 'longitude'] as const;
    const table = await readCsv('examples/data/sacramento-homes.csv');
    const all = new TensorDataset(table.tensor(features), table.tensor(['price']));
    const [train] = randomSplit(all, [0.8, 0.2], { seed: 0 });
    const rows = Array.from(train.indices, (i) =>
      features.map((name) => table.numbers(name)[i] as number),
    );
    const prices = Array.from(train.indices, (i) => table.numbers('price')[i] as number);
    // Around the means: longitudes hardly differ beside their size.
    const means = features.map(
      (_, j) => rows.reduce((s, row) => s + (row[j] as number), 0) / rows.length,
    );
    const centred = rows.map((row) => [...row.map((v, j) => v - (means[j] as number)), 1]);
    const expected = leastSquares(centred, prices);
    features.forEach((name, j) => {
      const slope = numbers(found.find((line) => line.trimStart().startsWith(name)))[0] as number;
      expect(Math.abs(slope / (expected[j] as number) - 1), name).toBeLessThan(2e-3);
    });
    const errors = centred.map((row, i) => dot(row, expected) - (prices[i] as number));
    const rmse = Math.sqrt(dot(errors, errors) / errors.length);
    const [trained] = numbers(found.find((line) => line.includes('train: error')));
    expect(Math.abs((trained as number) / rmse - 1)).toBeLessThan(1e-4);
  }, 120_000);

  it.each(accelerators)(
    'has the slopes of the CPU on $name',
    ({ name }) => {
      const [there, here] = [name, 'cpu'].map((device) =>
        linesOf('house-price', '--device', device, '--steps', '12'),
      ) as [string[], string[]];
      const slopes = (lines: string[]): number[] =>
        lines.filter((line) => line.endsWith('each')).map((line) => numbers(line)[0] as number);
      expect(slopes(there)).toHaveLength(5);
      slopes(here).forEach((slope, i) => {
        expect(Math.abs((slopes(there)[i] as number) / slope - 1)).toBeLessThan(1e-2);
      });
    },
    120_000,
  );
});

/** The logistic curve of largest likelihood, by Newton's method. */
function newton(x: number[][], y: number[]): number[] {
  let w = new Array<number>(x[0]?.length ?? 0).fill(0);
  for (let i = 0; i < 30; ++i) {
    const z = x.map((row) => dot(row, w));
    const p = z.map((v) => 1 / (1 + Math.exp(-v)));
    const weight = p.map((v) => v * (1 - v));
    const target = z.map(
      (v, k) => v + ((y[k] as number) - (p[k] as number)) / (weight[k] as number),
    );
    w = leastSquares(x, target, weight);
  }
  return w;
}

describe('disease', () => {
  it('comes to the curve of Newton’s method and to 95% of unseen tumours', () => {
    const found = linesOf('disease', '--device', 'cpu');
    const table = [
      ...[
        [32, 118, 0],
        [38, 135, 0],
        [41, 122, 0],
        [45, 150, 1],
        [47, 128, 0],
        [52, 139, 0],
      ],
      ...[
        [55, 124, 0],
        [58, 160, 1],
        [61, 131, 1],
        [64, 148, 0],
        [68, 142, 1],
        [71, 165, 1],
      ],
    ] as [number, number, number][];
    const w = newton(
      table.map(([age, pressure]) => [age / 10, pressure / 10, 1]),
      table.map(([, , ill]) => ill),
    );
    const asked = found.filter((line) => line.includes('ill with probability')).map(numbers);
    expect(asked).toHaveLength(3);
    for (const [age = 0, pressure = 0, p] of asked) {
      const expected = 1 / (1 + Math.exp(-dot([age / 10, pressure / 10, 1], w)));
      expect(Math.abs((p as number) - expected), `${age} ${pressure}`).toBeLessThan(5e-3);
    }
    const value = (name: string): number =>
      numbers(found.find((line) => line.trim().startsWith(name)))[0] as number;
    expect(value('binaryAccuracy')).toBeGreaterThanOrEqual(0.95);
    const [[tn = 0, fp = 0], [fn = 0, tp = 0]] = found.slice(-2).map(numbers) as [
      number[],
      number[],
    ];
    expect(value('binaryAccuracy')).toBeCloseTo((tn + tp) / (tn + fp + fn + tp), 3);
    expect(value('precision')).toBeCloseTo(tp / (tp + fp), 3);
    expect(value('recall')).toBeCloseTo(tp / (tp + fn), 3);
    expect(value('auc')).toBeGreaterThan(0.98);
  }, 120_000);

  it.each(devices.map(({ name }) => name))(
    'runs on %s',
    (device) => {
      const found = linesOf('disease', '--device', device, '--epochs', '2');
      expect(found.filter((line) => line.includes('in the first epoch'))).toHaveLength(2);
    },
    120_000,
  );
});

describe.each(devices.map(({ name }) => name))('sigmoid-net on %s', (device) => {
  it('learns exclusive or, and its loss falls at every step', () => {
    const epochs = device === 'cpu' ? '400' : '8';
    const found = linesOf('sigmoid-net', '--device', device, '--epochs', epochs);
    const rows = found.filter((text) => text.includes(' xor '));
    expect(rows).toHaveLength(4);
    for (const line of device === 'cpu' ? rows : []) {
      const [a, b, p = 0.5] = numbers(line);
      expect(Math.round(p), line).toBe(a === b ? 0 : 1);
    }
    const [, first = 0, last = 0] =
      /loss (\S+) at first, (\S+) at/.exec(found[1] ?? '')?.map(Number) ?? [];
    expect(last).toBeLessThan(first);
    const losses = found.filter((text) => text.includes(' step ')).map((text) => numbers(text)[1]);
    expect(losses).toHaveLength(10);
    for (let i = 1; i < losses.length; ++i) {
      expect(losses[i] as number).toBeLessThan(losses[i - 1] as number);
    }
  }, 120_000);
});
