import * as ng from '../../../lib/index.js';
import { at, build, type Nd } from '../../support/nd.js';
import type { Input, OpRow } from '../../support/op.js';

const name = 'scaledDotProductAttention';

interface Masks {
  causal?: boolean;
  mask?: Nd;
  /** Whether the mask keeps where it is 1, instead of being added. */
  keeps?: boolean;
  padding?: Nd;
  scale?: number;
}

function attention(q: Nd, k: Nd, v: Nd, masks: Masks): Nd {
  const [batch, heads, queries, width] = q.shape as [number, number, number, number];
  const [, own, keys] = k.shape as [number, number, number];
  const scale = masks.scale ?? 1 / Math.sqrt(width);
  const wide = v.shape[3] as number;
  const out = build([batch, heads, queries, wide], () => 0);
  for (let b = 0; b < batch; ++b) {
    for (let h = 0; h < heads; ++h) {
      const shared = Math.floor((h * own) / heads);
      for (let i = 0; i < queries; ++i) {
        const scores = Array.from({ length: keys }, (_, j) => {
          if (masks.causal && j > i) return Number.NEGATIVE_INFINITY;
          if (masks.padding && at(masks.padding, [b, j]) !== 0) return Number.NEGATIVE_INFINITY;
          const m = masks.mask ? at(masks.mask, [b, h, i, j]) : 0;
          if (masks.keeps && m === 0) return Number.NEGATIVE_INFINITY;
          let sum = 0;
          for (let d = 0; d < width; ++d) sum += at(q, [b, h, i, d]) * at(k, [b, shared, j, d]);
          return sum * scale + (masks.keeps ? 0 : m);
        });
        const top = Math.max(...scores);
        if (top === Number.NEGATIVE_INFINITY) continue;
        const weights = scores.map((s) => Math.exp(s - top));
        const total = weights.reduce((a, b) => a + b, 0);
        for (let d = 0; d < wide; ++d) {
          const sum = weights.reduce((part, w, j) => part + w * at(v, [b, shared, j, d]), 0);
          out.data[((b * heads + h) * queries + i) * wide + d] = sum / total;
        }
      }
    }
  }
  return out;
}

interface Sizes {
  heads?: [number, number];
  width?: number;
  /** Keys for n queries. */
  keys?: (n: number) => number;
}

function inputs({ heads: [many, few] = [2, 2], width = 8, keys = (n) => n }: Sizes): Input[] {
  const kv: Input = { shape: (n) => [2, few, keys(n), width] };
  return [{ shape: (n) => [2, many, n, width] }, kv, kv];
}

const common: Pick<OpRow, 'op' | 'sizes' | 'terms' | 'wider'> = {
  op: name,
  sizes: [0, 2, 5, 33],
  terms: (n) => n + 8,
  wider: {
    by: { float32: 3, bfloat16: 2, float16: 2, float64: 10 },
    because: 'the weights, their exponentials and the upstream sums round one after another',
  },
};

function call(options: ng.AttentionOptions) {
  return (q: ng.Tensor, k: ng.Tensor, v: ng.Tensor): ng.Tensor =>
    ng.scaledDotProductAttention(q, k, v, options);
}

type Three = [ng.Tensor, ng.Tensor, ng.Tensor];

const zeros = (device: ng.Device, ...shape: number[]): ng.Tensor => ng.zeros(shape, { device });

const errors: OpRow['errors'] = [
  {
    name: 'shapes that do not fit',
    call: (device) => {
      const q = zeros(device, 1, 2, 3, 4);
      return ng.scaledDotProductAttention(q, q, zeros(device, 1, 2, 5, 4));
    },
    message: `${name}: shapes must be […,T,D], […,S,D] and […,S,Dv], got [1,2,3,4], [1,2,3,4] and [1,2,5,4]`,
  },
  {
    name: 'heads that do not divide',
    call: (device) => {
      const k = zeros(device, 1, 2, 3, 4);
      return ng.scaledDotProductAttention(zeros(device, 1, 3, 3, 4), k, k);
    },
    message: `${name}: the heads of k must divide those of q, got 2 and 3`,
  },
  {
    name: 'a mask that does not broadcast',
    call: (device) => {
      const q = zeros(device, 1, 2, 3, 4);
      return ng.scaledDotProductAttention(q, q, q, { mask: zeros(device, 2, 3) });
    },
    message: `${name}: the mask must broadcast to [1,2,3,3], got [2,3]`,
  },
  {
    name: 'padding of another shape',
    call: (device) => {
      const q = zeros(device, 1, 2, 3, 4);
      return ng.scaledDotProductAttention(q, q, q, { keyPadding: zeros(device, 1, 3) });
    },
    message: `${name}: the key padding must be bool[1,3], got float32[1,3]`,
  },
  {
    name: 'lengths of another shape',
    call: (device) => {
      const q = zeros(device, 1, 2, 3, 4);
      return ng.scaledDotProductAttention(q, q, q, {
        lengths: ng.zeros([2], { device, dtype: 'int64' }),
      });
    },
    message: `${name}: lengths must be [1], got a tensor int64[2]`,
  },
  {
    name: 'samples that do not broadcast',
    call: (device) => {
      const q = zeros(device, 2, 2, 3, 4);
      const k = zeros(device, 3, 2, 3, 4);
      return ng.scaledDotProductAttention(q, k, k);
    },
    message: `${name}: the sizes of samples must be equal or 1, got 2, 3, 3`,
  },
  {
    name: 'a chance above 1',
    call: (device) => {
      const q = zeros(device, 1, 2, 3, 4);
      return ng.scaledDotProductAttention(q, q, q, { dropout: 2 });
    },
    message: `${name}: dropout must be in [0,1], got 2`,
  },
];

export const attentionRows: readonly OpRow[] = [
  {
    ...common,
    fn: (...args) => call({})(...(args as Three)),
    reference: (q, k, v) => attention(q as Nd, k as Nd, v as Nd, {}),
    inputs: inputs({ keys: (n) => n + 3 }),
    sizes: [0, 2, 33, 70],
    large: 300,
    errors,
  },
  {
    ...common,
    variant: 'causal',
    fn: (...args) => call({ isCausal: true })(...(args as Three)),
    reference: (q, k, v) => attention(q as Nd, k as Nd, v as Nd, { causal: true }),
    inputs: inputs({ width: 16 }),
    sizes: [0, 2, 33, 70],
    large: 333,
  },
  {
    ...common,
    variant: 'causal, fewer keys, scaled, heads shared',
    fn: (...args) => call({ isCausal: true, scale: 0.7 })(...(args as Three)),
    reference: (q, k, v) => attention(q as Nd, k as Nd, v as Nd, { causal: true, scale: 0.7 }),
    inputs: inputs({ heads: [4, 2], width: 5, keys: (n) => Math.ceil((2 * n) / 3) }),
  },
  {
    ...common,
    variant: 'with a bool mask',
    fn: (q, k, v, mask) => call({ mask: mask as ng.Tensor })(...([q, k, v] as Three)),
    reference: (q, k, v, mask) =>
      attention(q as Nd, k as Nd, v as Nd, { mask: mask as Nd, keeps: true }),
    inputs: [...inputs({}), { shape: (n) => [n, n], dtype: 'bool' }],
    large: 130,
  },
  {
    ...common,
    variant: 'with an added mask',
    sizes: [2, 5, 33],
    fn: (q, k, v, mask) => call({ mask: mask as ng.Tensor })(...([q, k, v] as Three)),
    reference: (q, k, v, mask) => attention(q as Nd, k as Nd, v as Nd, { mask: mask as Nd }),
    inputs: [
      ...inputs({ heads: [4, 1], width: 12 }),
      {
        shape: (n) => [2, 1, n, n],
        dtype: 'float32',
        domain: { low: -3, high: 3, integer: true },
      },
    ],
  },
  {
    ...common,
    variant: 'with a mask that learns',
    sizes: [2, 5, 33],
    fn: (q, k, v, mask) => call({ mask: mask as ng.Tensor })(...([q, k, v] as Three)),
    reference: (q, k, v, mask) => attention(q as Nd, k as Nd, v as Nd, { mask: mask as Nd }),
    inputs: [...inputs({ heads: [4, 2] }), { shape: (n) => [4, n, n] }],
    wider: {
      by: { float32: 3, bfloat16: 4, float16: 4, float64: 10 },
      because: 'scores and weights are stored in the dtype',
    },
  },
  {
    ...common,
    variant: 'with padding',
    fn: (q, k, v, padding) => call({ keyPadding: padding as ng.Tensor })(...([q, k, v] as Three)),
    reference: (q, k, v, padding) =>
      attention(q as Nd, k as Nd, v as Nd, { padding: padding as Nd }),
    inputs: [
      ...inputs({ heads: [3, 1], width: 20, keys: (n) => n + 7 }),
      { shape: (n) => [2, n + 7], dtype: 'bool' },
    ],
  },
  {
    ...common,
    variant: 'of narrower values, one sample and head of keys for all',
    sizes: [2, 5],
    fn: (...args) => call({})(...(args as Three)),
    reference: (q, k, v) => attention(q as Nd, k as Nd, v as Nd, {}),
    inputs: [
      { shape: (n) => [2, 3, n, 8] },
      { shape: (n) => [1, 1, n + 1, 8] },
      { shape: (n) => [1, 1, n + 1, 5] },
    ],
  },
  {
    ...common,
    variant: 'of one head without an axis',
    sizes: [5],
    fn: (...args) => call({ isCausal: true })(...(args as Three)),
    reference: (...args) => {
      const [q, k, v] = args as [Nd, Nd, Nd];
      const [batch, ...rest] = q.shape as [number, ...number[]];
      const of = (x: Nd): Nd => ({ ...x, shape: [batch, 1, ...x.shape.slice(1)] });
      return { ...attention(of(q), of(k), of(v), { causal: true }), shape: [batch, ...rest] };
    },
    inputs: [{ shape: (n) => [2, n, 8] }, { shape: (n) => [2, n, 8] }, { shape: (n) => [2, n, 8] }],
  },
  ...[48, 64, 100, 132].map(
    (width): OpRow => ({
      ...common,
      variant: `${width} wide`,
      sizes: [3],
      fn: (...args) => call({ isCausal: true })(...(args as Three)),
      reference: (q, k, v) => attention(q as Nd, k as Nd, v as Nd, { causal: true }),
      inputs: inputs({ heads: [1, 1], width }),
      terms: (n) => n + width,
    }),
  ),
];
