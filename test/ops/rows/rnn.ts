import * as ng from '../../../lib/index.js';
import { at, build, type Nd, nd } from '../../support/nd.js';
import type { Input, OpRow } from '../../support/op.js';

const gatesOf: Record<ng.RecurrentMode, number> = { lstm: 4, gru: 3, tanh: 1, relu: 1 };
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

interface Layer {
  mode: ng.RecurrentMode;
  directions: 1 | 2;
  batchFirst: boolean;
  bias: boolean;
  lengths: boolean;
  states: boolean;
}
interface Sizes {
  batch: number;
  steps: number;
  input: number;
  hidden: number;
}

/** Step t's share in what is compared. */
const share = (t: number): number => 1 - t / 4;

/** Inputs in the order x, the weights of each direction, lengths, h0, c0. */
function inputsOf(layer: Layer, sizes: (n: number) => Sizes): Input[] {
  const { mode, directions, batchFirst, bias, lengths, states } = layer;
  const gates = gatesOf[mode];
  const own: Input[] = [];
  const domain = { low: -0.7, high: 0.7 };
  own.push({
    shape: (n) => {
      const { batch, steps, input } = sizes(n);
      return batchFirst ? [batch, steps, input] : [steps, batch, input];
    },
  });
  for (let d = 0; d < directions; ++d) {
    own.push(
      { shape: (n) => [gates * sizes(n).hidden, sizes(n).input], domain },
      { shape: (n) => [gates * sizes(n).hidden, sizes(n).hidden], domain },
    );
    for (let i = 0; bias && i < 2; ++i) {
      own.push({ shape: (n) => [gates * sizes(n).hidden], domain });
    }
  }
  if (lengths) {
    own.push({
      shape: (n) => [sizes(n).batch],
      dtype: 'int64',
      // Beyond the ends too: lengths are taken into [0, T].
      domain: (n) => ({ low: -0.5, high: sizes(n).steps + 1, integer: true }),
    });
  }
  const state = (n: number) => [directions, sizes(n).batch, sizes(n).hidden];
  for (let i = 0; states && i < (mode === 'lstm' ? 2 : 1); ++i) own.push({ shape: state });
  return own;
}

/** The inputs by name. */
function parts<T>(layer: Layer, inputs: readonly T[]) {
  const each = layer.bias ? 4 : 2;
  let next = 1 + layer.directions * each;
  const weights = Array.from({ length: layer.directions }, (_, d) =>
    inputs.slice(1 + d * each, 1 + (d + 1) * each),
  );
  const lengths = layer.lengths ? inputs[next++] : undefined;
  return { x: inputs[0] as T, weights, lengths, h0: inputs[next], c0: inputs[next + 1] };
}

/** Σ share(t)·output + 2·hN + 3·cN, [B, D·H]. */
function run(layer: Layer, inputs: readonly ng.Tensor[]): ng.Tensor {
  const { x, weights, lengths, h0, c0 } = parts(layer, inputs);
  const { batchFirst, mode } = layer;
  const { output, hN, cN } = ng.recurrent(mode, x, weights, {
    batchFirst,
    lengths: lengths ?? null,
    h0: h0 ?? null,
    c0: c0 ?? null,
  });
  const axis = batchFirst ? 1 : 0;
  const steps = x.shape[axis] as number;
  const shares = ng
    .tensor(
      Array.from({ length: steps }, (_, t) => share(t)),
      [steps],
      { device: x.device },
    )
    .to(x.dtype);
  const rows = (state: ng.Tensor): ng.Tensor =>
    state.permute([1, 0, 2]).reshape([state.shape[1] as number, output.shape[2] as number]);
  const sum = output
    .mul(shares.reshape(batchFirst ? [1, steps, 1] : [steps, 1, 1]))
    .sum(axis)
    .add(rows(hN).mul(2));
  return cN ? sum.add(rows(cN).mul(3)) : sum;
}

/** h and c after one step of one row. */
function cell(
  mode: ng.RecurrentMode,
  [wih, whh, bih, bhh]: Nd[],
  x: number[],
  h: number[],
  c: number[],
): [number[], number[]] {
  const size = h.length;
  const product = (w: Nd, row: number, v: number[]): number =>
    v.reduce((sum, value, i) => sum + value * at(w, [row, i]), 0);
  const fromX = (g: number, j: number): number =>
    product(wih as Nd, g * size + j, x) + (bih?.data[g * size + j] ?? 0);
  const fromH = (g: number, j: number): number =>
    product(whh as Nd, g * size + j, h) + (bhh?.data[g * size + j] ?? 0);
  const both = (g: number, j: number): number => fromX(g, j) + fromH(g, j);
  if (mode === 'lstm') {
    const next = c.map(
      (value, j) => sigmoid(both(1, j)) * value + sigmoid(both(0, j)) * Math.tanh(both(2, j)),
    );
    return [next.map((value, j) => sigmoid(both(3, j)) * Math.tanh(value)), next];
  }
  if (mode === 'gru') {
    const next = h.map((value, j) => {
      const z = sigmoid(both(1, j));
      const candidate = Math.tanh(fromX(2, j) + sigmoid(both(0, j)) * fromH(2, j));
      return (1 - z) * candidate + z * value;
    });
    return [next, c];
  }
  const f = mode === 'tanh' ? Math.tanh : (v: number) => Math.max(v, 0);
  return [h.map((_, j) => f(both(0, j))), c];
}

function reference(layer: Layer, inputs: readonly Nd[]): Nd {
  const { mode, directions, batchFirst } = layer;
  const { x, weights, lengths, h0, c0 } = parts(layer, inputs);
  const [first, second, input] = x.shape as [number, number, number];
  const [batch, steps] = batchFirst ? [first, second] : [second, first];
  const hidden = weights[0]?.[1]?.shape[1] as number;
  const out = nd([batch, directions * hidden], new Float64Array(batch * directions * hidden));
  for (let d = 0; d < directions; ++d) {
    for (let b = 0; b < batch; ++b) {
      const length = Math.min(Math.max(lengths?.data[b] ?? steps, 0), steps);
      const start = (state: Nd | undefined): number[] =>
        Array.from({ length: hidden }, (_, j) => (state ? at(state, [d, b, j]) : 0));
      let [h, c] = [start(h0), start(c0)];
      const add = (j: number, value: number): void => {
        out.data[(b * directions + d) * hidden + j] =
          (out.data[(b * directions + d) * hidden + j] as number) + value;
      };
      for (let s = 0; s < length; ++s) {
        const t = d === 0 ? s : length - 1 - s;
        const own = Array.from({ length: input }, (_, i) =>
          at(x, batchFirst ? [b, t, i] : [t, b, i]),
        );
        [h, c] = cell(mode, weights[d] as Nd[], own, h, c);
        for (let j = 0; j < hidden; ++j) add(j, share(t) * (h[j] as number));
      }
      for (let j = 0; j < hidden; ++j) {
        add(j, 2 * (h[j] as number) + (mode === 'lstm' ? 3 * (c[j] as number) : 0));
      }
    }
  }
  return build(out.shape, (index) => at(out, index));
}

const plain = {
  directions: 1,
  batchFirst: false,
  bias: true,
  lengths: false,
  states: true,
} as const;
const rich = { directions: 2, batchFirst: true, bias: true, lengths: true, states: true } as const;
const bare = {
  directions: 1,
  batchFirst: true,
  bias: false,
  lengths: false,
  states: false,
} as const;

const halves: OpRow['wider'] = {
  by: { bfloat16: 4, float16: 4 },
  because: 'gates, h and their gradients are rounded at every step',
};

function row(
  what: string,
  layer: Layer,
  sizes: (n: number) => Sizes,
  of: readonly number[],
  more: Partial<OpRow> = {},
): OpRow {
  return {
    op: 'rnn',
    variant: `${layer.mode}, ${what}`,
    fn: (...inputs) => run(layer, inputs),
    reference: (...inputs) => reference(layer, inputs),
    inputs: inputsOf(layer, sizes),
    sizes: of,
    terms: (n) => {
      const { batch, steps, input, hidden } = sizes(n);
      return batch * steps + input + 4 * hidden;
    },
    wider: halves,
    ...more,
  };
}

const weightsOf = (hidden: number): ng.Tensor[] => [
  ng.zeros([4 * hidden, 2]),
  ng.zeros([4 * hidden, hidden]),
];
const errors: OpRow['errors'] = [
  {
    name: 'an input that is not of 3 axes',
    call: () => ng.recurrent('lstm', ng.zeros([3, 2]), [weightsOf(2)]),
    message: 'recurrent: the input must have 3 axes, got [3,2]',
  },
  {
    name: 'integers',
    call: () => ng.recurrent('lstm', ng.zeros([3, 1, 2], { dtype: 'int32' }), [weightsOf(2)]),
    message: 'recurrent: needs a floating dtype, got int32',
  },
  {
    name: 'weights of another input',
    call: () => ng.recurrent('lstm', ng.zeros([3, 1, 3]), [weightsOf(2)]),
    message: 'recurrent: weight_ih must be float32[8,3], got float32[8,2]',
  },
  {
    name: 'a hidden state of no units',
    call: () => ng.recurrent('lstm', ng.zeros([3, 1, 2]), [weightsOf(0)]),
    message: 'recurrent: weight_hh must be [4·H,H] with H of 1 or more, got [0,0]',
  },
  {
    name: 'three directions',
    call: () =>
      ng.recurrent(
        'lstm',
        ng.zeros([3, 1, 2]),
        [1, 2, 3].map(() => weightsOf(2)),
      ),
    message: 'recurrent: directions must be 1 or 2, got 3',
  },
  {
    name: 'one weight',
    call: () => ng.recurrent('lstm', ng.zeros([3, 1, 2]), [[ng.zeros([8, 2])]]),
    message: 'recurrent: needs 2 or 4 weights per direction, got 1 for 1',
  },
  {
    name: 'lengths of another batch',
    call: () =>
      ng.recurrent('lstm', ng.zeros([3, 1, 2]), [weightsOf(2)], {
        lengths: ng.zeros([2], { dtype: 'int64' }),
      }),
    message: 'recurrent: lengths must be int64[1], got int64[2]',
  },
  {
    name: 'a state c of a GRU',
    call: () =>
      ng.recurrent('gru', ng.zeros([3, 1, 2]), [[ng.zeros([6, 2]), ng.zeros([6, 2])]], {
        c0: ng.zeros([1, 1, 2]),
      }),
    message: 'recurrent: has no state c',
  },
];

const modes = ['lstm', 'gru', 'tanh', 'relu'] as const;

export const rnnRows: readonly OpRow[] = [
  ...modes.map((mode, i) =>
    row(
      'hidden size n',
      { mode, ...plain },
      (n) => ({ batch: 2, steps: 2, input: 2, hidden: n }),
      [1, 16, 33],
      i === 0 ? { errors } : {},
    ),
  ),
  ...modes.map((mode) =>
    row(
      'n rows, both directions, lengths',
      { mode, ...rich },
      (n) => ({ batch: n, steps: 4, input: 3, hidden: 3 }),
      [0, 1, 9, 17],
    ),
  ),
  ...modes.map((mode) =>
    row(
      'n steps, no biases, no states',
      { mode, ...bare },
      (n) => ({ batch: 2, steps: n, input: 2, hidden: 2 }),
      [0, 1, 6],
    ),
  ),
  row(
    'lengths and units of several vectors',
    { mode: 'lstm', ...rich },
    (n) => ({ batch: 3, steps: 3, input: 2, hidden: n }),
    [3],
    { large: 150 },
  ),
];
