import * as ng from '../../../lib/index.js';
import { at, build, type Nd } from '../../support/nd.js';
import type { OpRow } from '../../support/op.js';

const base = 100;
const layers = new Map<string, ng.nn.RotaryPositions>();

/** The layer on the queries [..., T, D], with tables of the width that it computes in. */
function turn(x: ng.Tensor, offset: number): ng.Tensor {
  const [length, width] = x.shape.slice(-2) as [number, number];
  const dtype = x.dtype === 'float64' ? 'float64' : 'float32';
  const place = { device: x.device, dtype, base } as const;
  const key = [x.device.name, dtype, length, width, offset].join();
  const layer = layers.get(key) ?? new ng.nn.RotaryPositions(length + offset + 1, width, place);
  layers.set(key, layer);
  return layer.forward(x, offset);
}

function turned(x: Nd, offset: number): Nd {
  const width = x.shape.at(-1) as number;
  const half = width / 2;
  return build(x.shape, (index) => {
    const [t, d] = index.slice(-2) as [number, number];
    const angle = (t + offset) * base ** ((-2 * (d % half)) / width);
    const other = at(x, [...index.slice(0, -1), (d + half) % width]);
    return at(x, index) * Math.cos(angle) + (d < half ? -other : other) * Math.sin(angle);
  });
}

const wider: OpRow['wider'] = {
  by: { float32: 4 },
  because: 'an angle rounds its cosine and sine where a table is kept in float32',
};

export const rotaryRows: readonly OpRow[] = [
  {
    op: 'rotary',
    variant: 'of pairs, from position 3',
    fn: (x) => turn(x as ng.Tensor, 3),
    reference: (x: Nd) => turned(x, 3),
    inputs: [{ shape: (n) => [2, n, 6] }],
    sizes: [0, 1, 33],
    wider,
    errors: [
      {
        name: 'integers',
        call: (device) => {
          const x = ng.zeros([3, 6], { device, dtype: 'int32' });
          return new ng.nn.RotaryPositions(4, 6, { device }).forward(x);
        },
        message: 'RotaryPositions: needs a floating dtype, got int32',
      },
      {
        name: 'more positions than there are',
        call: (device) =>
          new ng.nn.RotaryPositions(4, 6, { device }).forward(ng.zeros([3, 6], { device }), 2),
        message: 'RotaryPositions: x must be [...,T,6] with T up to 2, got a tensor float32[3,6]',
      },
    ],
  },
  {
    op: 'rotary',
    variant: 'of vectors',
    fn: (x) => turn(x as ng.Tensor, 0),
    reference: (x: Nd) => turned(x, 0),
    inputs: [{ shape: (n) => [n, 16] }],
    sizes: [5, 33],
    large: 4097,
    wider,
  },
];
