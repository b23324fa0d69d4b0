import * as ng from '../../../lib/index.js';
import { map, type Nd } from '../../support/nd.js';
import type { OpRow } from '../../support/op.js';

const same = (x: Nd): Nd => map(x, (v) => v);
const integers = ['int32', 'int64', 'uint8', 'bool'] as const;
const matrix = { shape: (n: number): ng.Shape => [n, 3] };

export const copyRows: readonly OpRow[] = [
  {
    op: 'cast',
    variant: 'and back',
    fn: (x) => (x as ng.Tensor).to('float64').to((x as ng.Tensor).dtype),
    reference: same,
    inputs: [matrix],
    exact: integers,
    errors: [
      {
        name: 'an unknown dtype',
        call: (device) => ng.zeros([2], { device }).cast('float8' as ng.DType),
        message: /^cast: dtype must be one of float32, .*, got "?float8"?$/,
      },
      {
        name: 'what is neither device nor dtype',
        call: (device) => ng.zeros([2], { device }).to(3 as never),
        message: 'to: expected a device or a dtype, got 3',
      },
    ],
  },
  {
    op: 'contiguous',
    fn: (x) => (x as ng.Tensor).contiguous(),
    reference: same,
    inputs: [matrix],
    exact: integers,
  },
  {
    op: 'clone',
    fn: (x) => (x as ng.Tensor).clone(),
    reference: same,
    inputs: [matrix],
    exact: integers,
  },
  {
    op: 'toDevice',
    fn: (x) => {
      const from = (x as ng.Tensor).device;
      return (x as ng.Tensor).to('cpu').mul(2).to(from);
    },
    reference: (x) => map(x, (v) => 2 * v),
    inputs: [matrix],
    exact: ['int32', 'int64'],
  },
];
