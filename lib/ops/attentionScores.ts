/**
 * Attention with all its scores in memory, from ops that autograd sees through: what the tiles must
 * agree with, and what serves where they cannot.
 */
import { dtypeCode, isFloating } from '../dtype.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { gt, le, logicalAnd, lt, mul, sub, where } from './binary.js';
import { arange } from './fill.js';
import { matmul } from './gemm.js';
import { bernoulli, type Generator } from './random.js';
import { sum } from './reduce.js';
import { softmax } from './softmax.js';
import { logicalNot } from './unary.js';
import { expand, reshape, slice, transpose } from './view.js';

export interface ScoreSettings {
  mask: Tensor | null;
  /** bool [B, S]: true hides a key. */
  padding: Tensor | null;
  /** int32 [B]: how many keys of a sample are seen. */
  lengths: Tensor | null;
  causal: boolean;
  dropout: number;
  scale: number;
  generator: Generator;
}

/** Which scores count, as a bool that broadcasts to [B, H, T, S]; null where all do. */
function visible(
  q: Tensor,
  k: Tensor,
  {
    mask,
    padding,
    lengths,
    causal,
  }: Pick<ScoreSettings, 'mask' | 'padding' | 'lengths' | 'causal'>,
): Tensor | null {
  const [batch, queries, keys] = [q.shape[0], q.shape[2], k.shape[2]] as [number, number, number];
  const positions = (n: number): Tensor => arange(0, n, 1, { dtype: 'int32', device: q.device });
  const parts: Tensor[] = [];
  if (mask) parts.push(isFloating(mask.dtype) ? gt(mask, Number.NEGATIVE_INFINITY) : mask);
  if (padding) parts.push(reshape(logicalNot(padding), [batch, 1, 1, keys]));
  if (lengths) parts.push(lt(positions(keys), reshape(lengths, [batch, 1, 1, 1])));
  if (causal) parts.push(le(positions(keys), reshape(positions(queries), [queries, 1])));
  return parts.length > 0 ? parts.reduce((a, b) => logicalAnd(a, b)) : null;
}

/** Heads of k or v repeated, so that each head of q has its own. */
function repeated(x: Tensor, heads: number): Tensor {
  const [batch, own, keys, width] = x.shape as [number, number, number, number];
  if (own === heads) return x;
  const shape = [batch, own, heads / own, keys, width];
  return reshape(expand(reshape(x, [batch, own, 1, keys, width]), shape), [
    batch,
    heads,
    keys,
    width,
  ]);
}

const outOfSight = -3e4; // of float16, too; such weights are set to 0 besides

/** The weights before dropout. */
function weightsOf(q: Tensor, k: Tensor, settings: Omit<ScoreSettings, 'generator'>): Tensor {
  const { mask, scale } = settings;
  const seen = visible(q, k, settings);
  let scores = mul(matmul(q, transpose(repeated(k, q.shape[1] as number))), scale);
  if (mask && isFloating(mask.dtype)) scores = scores.add(mask);
  if (seen) scores = where(seen, scores, outOfSight);
  const weights = softmax(scores);
  return seen ? mul(weights, seen.to(weights.dtype)) : weights;
}

/** What dropout multiplies the weights by, from draws [B,H,T,4·⌈S/4⌉] of which each is 0 or 1. */
function factorsOf(draws: Tensor, keys: number, dropout: number): Tensor {
  return mul(slice(draws, 3, 0, keys), dropout < 1 ? 1 / (1 - dropout) : 0);
}

function drawsShape(q: Tensor, keys: number): number[] {
  return [...q.shape.slice(0, 3), 4 * Math.ceil(keys / 4)];
}

/** The output, and the weights before dropout. */
export function composed(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  settings: ScoreSettings,
): { out: Tensor; weights: Tensor } {
  const { dropout, generator } = settings;
  const keys = k.shape[2] as number;
  const weights = weightsOf(q, k, settings);
  let applied = weights;
  if (dropout > 0) {
    const options = { dtype: q.dtype, device: q.device, generator };
    const draws = bernoulli(drawsShape(q, keys), 1 - dropout, options);
    applied = mul(weights, factorsOf(draws, keys, dropout));
  }
  return { out: matmul(applied, repeated(v, q.shape[1] as number)), weights };
}

/**
 * Gradients of q, k and v by recorded ops: dV = P̂ᵀ·dO, dS = P·(dP - Σ dP·P), dQ = scale·dS·K,
 * dK = scale·dSᵀ·Q, where P̂ and dP are after dropout, drawn again from `state`.
 */
export function composedGradients(
  [q, k, v]: readonly [Tensor, Tensor, Tensor],
  dout: Tensor,
  settings: Omit<ScoreSettings, 'generator'>,
  state: Tensor | undefined,
): [Tensor, Tensor, Tensor] {
  const { dropout, scale } = settings;
  const [heads, keys] = [q.shape[1] as number, k.shape[2] as number];
  const weights = weightsOf(q, k, settings);
  let dropped = (x: Tensor): Tensor => x;
  if (state) {
    native.clone(state.h);
    const own = take(0, q.device);
    const { code } = q.device;
    native.bernoulli(
      code,
      drawsShape(q, keys),
      dtypeCode('attention', q.dtype),
      own.h,
      1 - dropout,
    );
    const factors = factorsOf(take(0, q.device), keys, dropout);
    dropped = (x) => mul(x, factors);
  }
  const gathered = (x: Tensor, like: Tensor): Tensor => {
    const [batch, own, length, width] = like.shape as [number, number, number, number];
    return own === heads ? x : sum(reshape(x, [batch, own, heads / own, length, width]), 2);
  };
  const slopes = dropped(matmul(dout, transpose(repeated(v, heads))));
  const dscores = mul(mul(weights, sub(slopes, sum(mul(slopes, weights), -1, true))), scale);
  return [
    matmul(dscores, repeated(k, heads)),
    gathered(matmul(transpose(dscores), q), k),
    gathered(matmul(transpose(dropped(weights)), dout), v),
  ];
}
