import * as ng from '../../../lib/index.js';
import { type Nd, nd } from '../../support/nd.js';
import type { OpRow } from '../../support/op.js';
import { uniformAt } from '../../support/philox.js';

const seed = 20_261_122n;

/** Dropout of a fresh generator: the same elements at every call. */
function row(p: number, shape: (n: number) => ng.Shape, more: Partial<OpRow> = {}): OpRow {
  const generator = new ng.Generator(seed);
  return {
    op: 'dropout',
    variant: `p = ${p} of [${shape(7)}]`,
    fn: (x) => {
      generator.manualSeed(seed);
      return ng.dropout(x as ng.Tensor, p, true, generator);
    },
    reference: (x: Nd) =>
      nd(
        x.shape,
        x.data.map((v, i) => (uniformAt(seed, 0n, i) < 1 - p ? v / (1 - p) : 0)),
      ),
    inputs: [{ shape }],
    large: 70_001,
    ...more,
  };
}

export const dropoutRows: readonly OpRow[] = [
  row(0.5, (n) => [n], {
    errors: [
      {
        name: 'a probability above 1',
        call: (device) => ng.dropout(ng.zeros([2], { device }), 1.5),
        message: 'dropout: p must be in [0,1], got 1.5',
      },
      {
        name: 'integers',
        call: (device) => ng.dropout(ng.zeros([2], { device, dtype: 'int32' })),
        message: 'dropout: needs a floating dtype, got int32',
      },
      {
        name: 'a generator that is none',
        call: (device) =>
          ng.dropout(ng.zeros([2], { device }), 0.5, true, 7 as unknown as ng.Generator),
        message: 'dropout: generator must be a Generator, got 7',
      },
    ],
  }),
  row(0.3, (n) => [n, 3]),
  row(1, (n) => [2, n]),
  row(0, (n) => [n], { large: 100 }),
];
