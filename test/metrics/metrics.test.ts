/** Metrics beside scikit-learn's values, in batches, eager and captured, on every device. */
import { describe, expect, it } from 'vitest';
import { capture, type DType, metrics, scope, type Tensor, tensor } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { readVectors } from '../support/vectors.js';

interface Case {
  kind: 'binary' | 'classes' | 'regression' | 'outputs';
  classes?: number;
  scores: number[];
  labels: number[];
  expected: Record<string, number | number[][]>;
}
const { cases } = readVectors<Case>('metrics');

type Any = metrics.Metric<unknown>;

/** Updates with batches of 17 rows, captured or not. */
async function computed(
  metric: Any,
  { kind, scores, labels, classes = 1 }: Case,
  device: (typeof devices)[number],
  dtype: DType,
  captured: boolean,
): Promise<unknown> {
  const update = (p: Tensor, t: Tensor): void => metric.update(p, t);
  const step = captured ? capture(update) : update;
  const columns = kind === 'outputs' ? classes : 1;
  const rows = labels.length / columns;
  for (let at = 0; at < rows; at += 17) {
    const end = Math.min(rows, at + 17);
    const part = scores.slice(at * classes, end * classes);
    const p = tensor(part, classes > 1 ? [end - at, classes] : [end - at, 1], { device });
    const shape = columns > 1 ? [end - at, columns] : [end - at];
    await step(p, tensor(labels.slice(at * columns, end * columns), shape, { device, dtype }));
  }
  const sums = metric.stateDict();
  expect(await metric.read()).toEqual(metric.compute());
  const result = metric.compute();
  metric.reset();
  metric.loadStateDict(sums);
  expect(metric.compute()).toEqual(result);
  metric.dispose();
  return result;
}

const made: Record<Case['kind'], Record<string, () => Any>> = {
  binary: {
    accuracy: () => new metrics.BinaryAccuracy(),
    precision: () => new metrics.Precision(),
    recall: () => new metrics.Recall(),
    f1: () => new metrics.F1(),
    confusion: () => new metrics.ConfusionMatrix(),
  },
  classes: {
    accuracy: () => new metrics.SparseCategoricalAccuracy(),
    top2: () => new metrics.TopKAccuracy({ k: 2 }),
    confusion: () => new metrics.ConfusionMatrix(),
    precision_macro: () => new metrics.Precision({ average: 'macro' }),
    precision_micro: () => new metrics.Precision({ average: 'micro' }),
    recall_macro: () => new metrics.Recall({ average: 'macro' }),
    recall_micro: () => new metrics.Recall({ average: 'micro' }),
    f1_macro: () => new metrics.F1({ average: 'macro' }),
    precision_weighted: () => new metrics.Precision({ average: 'weighted' }),
    recall_weighted: () => new metrics.Recall({ average: 'weighted' }),
    f1_weighted: () => new metrics.F1({ average: 'weighted' }),
    f1_micro: () => new metrics.F1({ average: 'micro' }),
  },
  regression: {
    mse: () => new metrics.MeanSquaredError(),
    mae: () => new metrics.MeanAbsoluteError(),
    rmse: () => new metrics.RootMeanSquaredError(),
    r2: () => new metrics.R2Score(),
  },
  outputs: { r2: () => new metrics.R2Score() },
};

describe.each(devices)('metrics on $name', (device) => {
  it.each(cases.map((vector, i) => [`${vector.kind} ${i}`, vector] as const))(
    'are scikit-learn’s: %s',
    async (_, vector) => {
      const dtypes: DType[] = vector.kind === 'classes' ? ['int64'] : ['float32'];
      if (vector.kind === 'binary') dtypes.push('int64');
      for (const [name, make] of Object.entries(made[vector.kind])) {
        for (const dtype of dtypes) {
          for (const captured of [false, true]) {
            const found = await computed(make(), vector, device, dtype, captured);
            const wanted = vector.expected[name];
            if (typeof wanted !== 'number') expect(found).toEqual(wanted);
            else expect(found, name).toBeCloseTo(wanted, 10);
          }
        }
      }
    },
  );

  it('follow the curve: exactly, and by thresholds', async () => {
    for (const vector of cases.filter(({ kind }) => kind === 'binary')) {
      const { scores, labels } = vector;
      const exact = vector.expected.auc as number;
      const [p, t] = [tensor(scores, { device }), tensor(labels, { device })];
      expect(metrics.rocAuc(p, t)).toBeCloseTo(exact, 12);
      const fine = new metrics.AUC({ thresholds: 2001 });
      expect(await computed(fine, vector, device, 'float32', true)).toBeCloseTo(exact, 2);
      // Keras's formula, by definition: true and false positives above each of 200 thresholds.
      const steps = Array.from({ length: 200 }, (_, i) => 1 - i / 199);
      steps[0] = 1 + 1e-7;
      steps[199] = -1e-7;
      const share = (label: number, above: number): number => {
        const own = scores.filter((_, i) => labels[i] === label);
        return own.filter((score) => score > above).length / own.length;
      };
      const points = steps.map((above) => [share(0, above), share(1, above)] as const);
      const area = points.slice(1).reduce((sum, [x, y], i) => {
        const [x0, y0] = points[i] as readonly [number, number];
        return sum + ((x - x0) * (y + y0)) / 2;
      }, 0);
      const rough = await computed(new metrics.AUC(), vector, device, 'float32', false);
      expect(rough).toBeCloseTo(area, 3);
    }
  });

  it('decide what accuracy is by shapes', () => {
    scope(() => {
      const accuracy = new metrics.Accuracy();
      const of = (p: number[][], t: number[] | number[][]): number => {
        accuracy.reset();
        accuracy.update(tensor(p, { device }), tensor(t, { device }));
        return accuracy.compute();
      };
      expect(of([[0.4], [0.6], [0.7]], [0, 1, 0])).toBeCloseTo(2 / 3, 12);
      expect(of([[0.4], [0.6], [0.7]], [[0], [1], [0]])).toBeCloseTo(2 / 3, 12);
      expect(
        of(
          [
            [1, 2, 0],
            [3, 1, 0],
          ],
          [1, 2],
        ),
      ).toBe(0.5);
      expect(
        of(
          [
            [1, 2, 0],
            [3, 1, 0],
          ],
          [
            [0, 1, 0],
            [1, 0, 0],
          ],
        ),
      ).toBe(1);
      accuracy.dispose();
    });
  });
});

describe.each(devices)('rows of several labels, on $name,', (device) => {
  // Right, predicted and actual counts by hand: label 0: 1, 2, 2; label 1: 2, 2, 3; label 2: 0, 1, 0;
  // label 3 does not occur; of all 3, 5, 5.
  const scores = [
    [0.9, 0.8, 0.1, 0.5],
    [0.7, 0.2, 0.6, 0.1],
    [0.4, 0.9, 0.3, 0.2],
  ];
  const labels = [
    [1, 1, 0, 0],
    [0, 1, 0, 0],
    [1, 1, 0, 0],
  ];
  const expected = [
    [metrics.Precision, (1 / 2 + 1) / 4, (2 / 2 + 3) / 5, 3 / 5],
    [metrics.Recall, (1 / 2 + 2 / 3) / 4, (2 / 2 + 2) / 5, 3 / 5],
    [metrics.F1, (1 / 2 + 4 / 5) / 4, (2 / 2 + 12 / 5) / 5, 3 / 5],
  ] as const;
  it.each([false, true])(
    'are averaged over labels as scikit-learn has it; captured: %s',
    async (captured) => {
      for (const [Kind, ...values] of expected) {
        for (const [i, average] of (['macro', 'weighted', 'micro'] as const).entries()) {
          const metric = new Kind({ average, multilabel: true });
          const update = (p: Tensor, t: Tensor): void => metric.update(p, t);
          const step = captured ? capture(update) : update;
          for (const [row, score] of scores.entries()) {
            await step(tensor([score], { device }), tensor([labels[row] as number[]], { device }));
          }
          expect(metric.compute(), `${metric.name} ${average}`).toBeCloseTo(
            values[i] as number,
            12,
          );
          metric.dispose();
        }
      }
    },
  );
});

describe.each(devices)('what no metric can judge, on $name,', (device) => {
  const three = [
    [0.7, 0.2, 0.1],
    [0.1, 0.8, 0.1],
  ];
  const broken = [[Number.NaN, 0.5, 0.1], three[1] as number[]];
  const one = [0.2, 0.7];
  const several = [
    [1, 1, 0],
    [0, 0.5, 0.5],
  ];
  const twos = [
    [2, 0.5, 0],
    [0, 2, 0],
  ];
  const cases: [string, () => Any, number[] | number[][], number[] | number[][], number][] = [
    ['a class too many', () => new metrics.SparseCategoricalAccuracy(), three, [0, 3], 1],
    ['classes below 0', () => new metrics.TopKAccuracy({ k: 2 }), three, [-1, -1], 2],
    ['NaN scores', () => new metrics.TopKAccuracy({ k: 2 }), broken, [0, 1], 1],
    ['NaN scores', () => new metrics.Accuracy(), broken, [0, 1], 1],
    ['NaN beside one-hot targets', () => new metrics.CategoricalAccuracy(), broken, three, 1],
    ['rows of two labels', () => new metrics.F1({ average: 'macro' }), three, several, 1],
    ['rows of two labels', () => new metrics.ConfusionMatrix(), three, several, 1],
    ['rows of two labels', () => new metrics.Accuracy(), three, several, 1],
    ['rows of two labels', () => new metrics.TopKAccuracy({ k: 2 }), three, several, 1],
    ['labels of 2', () => new metrics.F1({ average: 'micro', multilabel: true }), three, twos, 2],
    ['half classes', () => new metrics.ConfusionMatrix(), three, [0, 1.5], 1],
    ['a class of -1', () => new metrics.ConfusionMatrix(), three, [-1, 1], 1],
    ['NaN scores', () => new metrics.F1({ average: 'macro' }), broken, [0, 1], 1],
    ['labels of 5', () => new metrics.BinaryAccuracy(), one, [5, 1], 1],
    ['NaN scores', () => new metrics.BinaryAccuracy(), [Number.NaN, 1], [0, 1], 1],
    ['NaN scores', () => new metrics.AUC(), [Number.NaN, 1], [0, 1], 1],
    ['scores above 1', () => new metrics.AUC(), [3, 1], [0, 1], 1],
  ];
  it.each(cases)('%s, is told: case %#', (_, make, scores, labels, count) => {
    scope(() => {
      const metric = make();
      const dtype = [labels].flat(2).every(Number.isInteger) ? 'int64' : 'float32';
      metric.update(tensor(scores, { device }), tensor(labels, { device, dtype }));
      expect(() => metric.compute()).toThrow(
        new RegExp(`^${metric.name}: .* must be .*, got ${count} of another kind$`),
      );
      metric.reset();
      metric.dispose();
    });
  });
});

it('r2 keeps the digits of targets far from 0', () => {
  const of = (values: number[]) =>
    tensor(
      values.map((v) => 1e8 + v),
      { dtype: 'float64' },
    );
  const r2 = new metrics.R2Score();
  r2.update(of([0, 1]), of([0, 1]));
  r2.update(of([2.5]), of([2]));
  expect(r2.compute()).toBeCloseTo(0.875, 10);
  const whole = tensor([1, 4, 3, 4], { dtype: 'int64' });
  expect(metrics.rocAuc(whole, tensor([0, 1, 1, 0]))).toBe(0.625);
  expect(() => metrics.rocAuc(tensor([Number.NaN, 1]), tensor([0, 1]))).toThrow(
    'rocCurve: scores must be numbers and labels in [0,1], got NaN and 0 in row 0',
  );
});

it('say what does not fit', () => {
  const [p, t] = [tensor([[0.1, 0.9]]), tensor([0, 1])];
  expect(() => new metrics.MeanSquaredError().update(p, tensor([1]))).toThrow(
    'mse: shapes must be equal, got [1,2] and [1]',
  );
  expect(() => new metrics.SparseCategoricalAccuracy().update(p, t)).toThrow(
    'sparseCategoricalAccuracy: needs scores [N,C] and classes [N], got [1,2] and [2]',
  );
  const precision = new metrics.Precision();
  expect(() =>
    precision.update(tensor([[0.1, 0.2, 0.7]]), tensor([2], { dtype: 'int64' })),
  ).toThrow('precision: average binary needs 2 classes, got 3; choose macro, weighted or micro');
  expect(() => precision.update(p, tensor([1]))).toThrow(
    'precision: needs scores of 3 classes, got [1,2]',
  );
  const whole = tensor([0, 1, 2], { dtype: 'int64' });
  expect(() => new metrics.ConfusionMatrix().update(whole, whole)).toThrow(
    'confusionMatrix: classes must be given where predictions are integers, got',
  );
  expect(new metrics.MeanSquaredError().compute()).toBeNaN();
  const labels = new metrics.F1({ average: 'macro', multilabel: true });
  expect(() => labels.update(p, t)).toThrow(
    'f1: needs probabilities and labels [N,L], got [1,2] and [2]',
  );
  expect(labels.compute()).toBe(0);
  expect(() => new metrics.F1({ multilabel: true })).toThrow(
    'F1: average must be macro, weighted or micro of labels, got binary',
  );
});
