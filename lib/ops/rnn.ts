/**
 * Recurrent layers over whole sequences: LSTM, GRU and vanilla RNN, by PyTorch's formulas.
 *
 *   LSTM  i, f, o = σ(…), g = tanh(…);  c' = f·c + i·g;  h' = o·tanh(c')
 *   GRU   r, z = σ(…), n = tanh(W_in·x + b_in + r·(W_hn·h + b_hn));  h' = (1 - z)·n + z·h
 *   RNN   h' = tanh(…) or relu(…)
 *
 * where … is W_ih·x + b_ih + W_hh·h + b_hh, gates in the order i f g o and r z n. The products with
 * x and the weights' gradients are one product over all steps each; backward keeps the gates and c.
 */
import { forProduct } from '../autocast.js';
import { type Gradient, type Rule, record } from '../autograd.js';
import {
  describe,
  expectBoolean,
  expectOneOf,
  expectOptions,
  expectTensor,
  optionalTensor,
} from '../check.js';
import { native } from '../native.js';
import { type Shape, type Tensor, take } from '../tensor.js';
import { type OpRows, ruleOf } from './define.js';
import { deferredProduct, matmulCodes, product } from './gemm.js';
import { split } from './parts.js';
import { sum } from './reduce.js';
import { reshape, select, transpose } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    rnn(
      mode: number,
      x: Handle,
      batchFirst: boolean,
      directions: number,
      lengths: Handle | undefined,
      h0: Handle | undefined,
      c0: Handle | undefined,
      weights: Numbers,
      precision: number,
      library: number,
    ): void;
  }
  interface NativeKernels {
    rnnBackward(
      mode: number,
      dout: Handle,
      out: Handle,
      gates: Handle,
      cells: Handle,
      batchFirst: boolean,
      lengths: Handle | undefined,
      h0: Handle | undefined,
      c0: Handle | undefined,
      weights: Numbers,
      precision: number,
    ): void;
  }
}

const op = 'recurrent';
const modes = ['lstm', 'gru', 'tanh', 'relu'] as const;
/** Which cell: LSTM, GRU, or a vanilla RNN with tanh or ReLU. */
export type RecurrentMode = (typeof modes)[number];

interface Attributes {
  mode: number;
  batchFirst: boolean;
  directions: number;
  lengths: boolean;
  h0: boolean;
  c0: boolean;
}

// Saved: x, the output with its states, gates, cells, the weights, then lengths, h0 and c0.
const fixedSaves = 4;

const recurrentRule: Rule<Attributes> = (dout, saved, attributes, needs) => {
  const { mode, batchFirst, directions } = attributes;
  const [x, out, gates, cells] = saved as [Tensor, Tensor, Tensor, Tensor];
  let next = saved.length;
  const c0 = attributes.c0 ? saved[--next] : undefined;
  const h0 = attributes.h0 ? saved[--next] : undefined;
  const lengths = attributes.lengths ? saved[--next] : undefined;
  const weights = saved.slice(fixedSaves, next) as Tensor[];
  const each = weights.length / directions;
  native.rnnBackward(
    mode,
    dout.h,
    out.h,
    gates.h,
    cells.h,
    batchFirst,
    lengths?.h,
    h0?.h,
    c0?.h,
    weights.flatMap((weight, i) => (i % each === 1 ? [weight.h] : [])),
    matmulCodes()[0],
  );
  const [dInput, dHidden, previous, dh0, dc0] = [0, 1, 2, 3, 4].map((at) => take(at, x.device)) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const [, first, second, size] = gates.shape as [number, number, number, number];
  const rows = first * second;
  const input = reshape(x, [rows, x.shape[2] as number]);
  const gradients: Gradient[] = [null];
  let dx: Tensor | null = null;
  for (let d = 0; d < directions; ++d) {
    const at = 1 + d * each;
    const weight = weights[d * each] as Tensor;
    const dProjected = reshape(select(dInput, 0, d), [rows, size]);
    const dRecurrent = reshape(select(dHidden, 0, d), [rows, size]);
    if (needs[0]) {
      if (dx) native.matmulInto(dx.h, dProjected.h, weight.h, 1, true, ...matmulCodes());
      else dx = product(dProjected, weight);
    }
    gradients.push(
      needs[at] ? deferredProduct(transpose(dProjected), input) : null,
      needs[at + 1] ? deferredProduct(transpose(dRecurrent), select(previous, 0, d)) : null,
    );
    if (each === 2) continue;
    const sums = needs[at + 2] || needs[at + 3] ? sum(dProjected, 0) : null;
    // Only the GRU's third gate multiplies what b_hh is added to.
    gradients.push(sums, mode === modes.indexOf('gru') && sums ? sum(dRecurrent, 0) : sums);
  }
  if (dx) gradients[0] = reshape(dx, x.shape);
  if (h0) gradients.push(dh0);
  if (c0) gradients.push(dc0);
  return gradients;
};

export const rnnOps: OpRows<'rnn'> = {
  rnn: {
    family: 'rnn',
    summary: 'a layer of LSTM, GRU or RNN cells over whole sequences',
    dtypes: 'floating',
    gradient: recurrentRule,
  },
};

export interface RecurrentOptions {
  /** Whether x and the output are [B, T, …] rather than [T, B, …]; false where left out. */
  batchFirst?: boolean;
  /** int64 [B]: how many steps each row has, at most T; all of them where left out. */
  lengths?: Tensor | null;
  /** The first h, [D, B, H]; zeros where left out. */
  h0?: Tensor | null;
  /** The first c of an LSTM, [D, B, H]; zeros where left out. */
  c0?: Tensor | null;
}

export interface RecurrentResult {
  /** [T, B, D·H] or [B, T, D·H]: h of every step, zeros beyond a row's length. */
  output: Tensor;
  /** [D, B, H]: h after each row's own last step. */
  hN: Tensor;
  /** [D, B, H]: c likewise, of an LSTM. */
  cN: Tensor | null;
}

/**
 * One recurrent layer over a whole sequence, in one direction or both (D of them); the second goes
 * backwards from each row's own last step. {@link nn.LSTM} and its like are made of it.
 * @param sequence x: [T, B, I], or [B, T, I] where `batchFirst`
 * @param weights per direction W_ih [G·H, I], W_hh [G·H, H] and, or not, b_ih and b_hh [G·H], with
 *   G = 4 (LSTM), 3 (GRU) or 1
 */
export function recurrent(
  mode: RecurrentMode,
  sequence: Tensor,
  weights: readonly (readonly Tensor[])[],
  options: RecurrentOptions = {},
): RecurrentResult {
  const code = modes.indexOf(expectOneOf(op, 'mode', mode, modes));
  const x = forProduct(expectTensor(op, sequence, 'x'));
  const found = expectOptions(op, options, ['batchFirst', 'lengths', 'h0', 'c0']);
  const batchFirst = expectBoolean(op, 'batchFirst', found.batchFirst ?? false);
  const lengths = optionalTensor(op, found.lengths, 'lengths');
  const h0 = forProduct(optionalTensor(op, found.h0, 'h0'));
  const c0 = forProduct(optionalTensor(op, found.c0, 'c0'));
  if (!Array.isArray(weights) || !weights.every((own) => Array.isArray(own))) {
    throw new TypeError(
      `${op}: weights must be an array of tensors per direction, got ${describe(weights)}`,
    );
  }
  const flat = (weights as Tensor[][])
    .flat()
    .map((weight) => forProduct(expectTensor(op, weight, 'each weight')));
  const directions = weights.length;
  native.rnn(
    code,
    x.h,
    batchFirst,
    directions,
    lengths?.h,
    h0?.h,
    c0?.h,
    flat.map((weight) => weight.h),
    ...matmulCodes(),
  );
  const [out, gates, cells] = [0, 1, 2].map((at) => take(at, x.device)) as [Tensor, Tensor, Tensor];
  const states = [...(h0 ? [h0] : []), ...(c0 ? [c0] : [])];
  const attributes: Attributes = {
    mode: code,
    batchFirst,
    directions,
    lengths: lengths !== null,
    h0: h0 !== null,
    c0: c0 !== null,
  };
  record(
    op,
    ruleOf(rnnOps.rnn),
    out,
    [x, ...flat, ...states],
    () => [x, out, gates, cells, ...flat, ...(lengths ? [lengths] : []), ...states],
    attributes,
  );
  if (!out.node) for (const kept of [gates, cells]) kept.dispose();

  const hidden = (flat[1] as Tensor).shape[1] as number;
  const [first, second] = x.shape as [number, number];
  const batch = batchFirst ? first : second;
  const state = [directions, batch, hidden];
  const shapes: Shape[] = [[first, second, directions * hidden], state];
  if (mode === 'lstm') shapes.push(state);
  const sizes = shapes.map((shape) => shape.reduce((a, b) => a * b, 1));
  const [output, hN, cN] = split(out, sizes).map((part, i) => reshape(part, shapes[i] as Shape));
  return { output: output as Tensor, hN: hN as Tensor, cN: cN ?? null };
}
