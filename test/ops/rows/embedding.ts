import * as ng from '../../../lib/index.js';
import { at, build, type Nd } from '../../support/nd.js';
import type { Input, OpRow } from '../../support/op.js';

const rows = 6;
const width = 5;

function positions(shape: (n: number) => ng.Shape): Input {
  return { shape, dtype: 'int64', domain: { low: -0.49, high: rows - 0.51, integer: true } };
}

function row(shape: (n: number) => ng.Shape, more: Partial<OpRow> = {}): OpRow {
  return {
    op: 'embedding',
    variant: `by [${shape(7)}]`,
    fn: (weight, index) => ng.embedding(weight as ng.Tensor, index as ng.Tensor),
    reference: (weight: Nd, index: Nd) =>
      build([...index.shape, width], (place) =>
        at(weight, [at(index, place.slice(0, -1)), place.at(-1) as number]),
      ),
    inputs: [{ shape: () => [rows, width] }, positions(shape)],
    terms: (n) => n,
    ...more,
  };
}

const call = (index: ng.Tensor, paddingIdx?: number): ng.Tensor =>
  ng.embedding(ng.zeros([3, 2], { device: index.device }), index, {
    ...(paddingIdx !== undefined && { paddingIdx }),
  });

export const embeddingRows: readonly OpRow[] = [
  row((n) => [n], {
    large: 20_001,
    errors: [
      {
        name: 'indices that are not int64',
        call: (device) => call(ng.zeros([2], { device })),
        message: 'embedding: the index must be int64, int32 or uint8, got float32',
      },
      {
        name: 'a table of rank 1',
        call: (device) =>
          ng.embedding(ng.zeros([3], { device }), ng.zeros([2], { device, dtype: 'int64' })),
        message: 'embedding: the weight must be a floating [V,D], got float32[3]',
      },
      {
        name: 'a padding row that is not there',
        call: (device) => call(ng.zeros([2], { device, dtype: 'int64' }), 3),
        message: 'embedding: paddingIdx must be an integer in [-3,2], got 3',
      },
    ],
  }),
  row((n) => [3, n]),
  row(() => [], { sizes: [1] }),
  {
    ...row((n) => [n]),
    variant: 'of a wide table',
    sizes: [0, 1, 31, 33, 264, 1025],
    inputs: [{ shape: (n) => [4, n] }, { ...positions(() => [3]), domain: { low: 0, high: 3 } }],
    reference: (weight: Nd, index: Nd) =>
      build([3, weight.shape[1] as number], ([i, j]) =>
        at(weight, [index.data[i as number] as number, j as number]),
      ),
  },
];
