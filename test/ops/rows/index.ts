import * as ng from '../../../lib/index.js';
import { at, build, type Nd } from '../../support/nd.js';
import type { Input, OpRow } from '../../support/op.js';

const rows = 6;
const width = 5;
const ones = (dtype: ng.DType): ng.DType => dtype;

function positions(shape: (n: number) => ng.Shape): Input {
  return { shape, dtype: 'int64', domain: { low: -0.49, high: rows - 0.51, integer: true } };
}

function indexErrors(op: string, call: (index: ng.Tensor) => ng.Tensor): OpRow['errors'] {
  return [
    {
      name: 'an index of fractions',
      call: (device) => call(ng.zeros([2], { device })),
      message: `${op}: the index must be int64, int32 or uint8, got float32`,
    },
    {
      name: 'an index of rank 2',
      call: (device) => call(ng.zeros([2, 1], { device, dtype: 'int64' })),
      message: `${op}: the index must be of rank 1, got [2,1]`,
    },
    {
      name: 'an index that is no tensor',
      call: () => call([0] as unknown as ng.Tensor),
      message: `${op}: index must be a tensor, got [0]`,
    },
  ];
}

export const indexRows: readonly OpRow[] = [
  {
    op: 'indexSelect',
    fn: (x, index) => ng.indexSelect(x as ng.Tensor, index as ng.Tensor),
    reference: (x: Nd, index: Nd) =>
      build([index.shape[0] as number, width], ([i, j]) =>
        at(x, [index.data[i as number] as number, j as number]),
      ),
    inputs: [{ shape: () => [rows, width] }, positions((n) => [n])],
    result: ones,
    exact: ['int32', 'int64', 'uint8', 'bool'],
    terms: (n) => n,
    large: 20_001,
    errors: indexErrors('indexSelect', (index) => {
      const device = index instanceof ng.Tensor ? index.device : 'cpu';
      return ng.indexSelect(ng.zeros([3], { device }), index);
    }),
  },
  {
    op: 'indexSelect',
    variant: 'of a vector',
    fn: (x, index) => ng.indexSelect(x as ng.Tensor, index as ng.Tensor),
    reference: (x: Nd, index: Nd) =>
      build([index.shape[0] as number], ([i]) => at(x, [index.data[i as number] as number])),
    inputs: [{ shape: () => [rows] }, positions((n) => [n])],
    terms: (n) => n,
  },
  {
    op: 'indexAdd',
    fn: (index, src) => ng.indexAdd([rows, width], index as ng.Tensor, src as ng.Tensor),
    reference: (index: Nd, src: Nd) =>
      build([rows, width], ([r, j]) => {
        let sum = 0;
        index.data.forEach((row, i) => {
          if (row === r) sum += at(src, [i, j as number]);
        });
        return sum;
      }),
    inputs: [positions((n) => [n]), { shape: (n) => [n, width] }],
    exact: ['int32', 'int64', 'uint8'],
    terms: (n) => n,
    large: 20_001,
    errors: [
      ...(indexErrors('indexAdd', (index) => {
        const device = index instanceof ng.Tensor ? index.device : 'cpu';
        return ng.indexAdd([3], index, ng.zeros([2], { device }));
      }) ?? []),
      {
        name: 'a source of another shape',
        call: (device) =>
          ng.indexAdd(
            [3, 4],
            ng.zeros([2], { device, dtype: 'int64' }),
            ng.zeros([2, 5], { device }),
          ),
        message: 'indexAdd: the source must be [2,4], got [2,5]',
      },
    ],
  },
];
