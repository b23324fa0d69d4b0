/**
 * Scaled dot-product attention: softmax(scale·Q·Kᵀ + mask)·V, by tiles, so that the scores are never
 * in memory as a whole. Source of the formula: Vaswani et al., "Attention is all you need", 2017.
 */
import { forProduct } from '../autocast.js';
import { needsGradient, type Rule, record } from '../autograd.js';
import {
  describe,
  expectBoolean,
  expectNumber,
  expectOptions,
  expectRange,
  expectTensor,
} from '../check.js';
import { context } from '../context.js';
import { isFloating } from '../dtype.js';
import { type Handle, native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { gt, le, logicalAnd, mul, where } from './binary.js';
import { type OpRows, ruleOf } from './define.js';
import { arange } from './fill.js';
import { matmul, matmulCodes } from './gemm.js';
import { bernoulli, defaultGenerator, Generator } from './random.js';
import { softmax } from './softmax.js';
import { logicalNot } from './unary.js';
import { expand, permute, reshape, select, slice, transpose } from './view.js';

type Inputs = [
  mask: Handle | undefined,
  padding: Handle | undefined,
  state: Handle | undefined,
  causal: boolean,
  scale: number,
  keep: number,
  precision: number,
];
type Saved = [out: Handle, lse: Handle, dout: Handle];

declare module '../native.js' {
  interface NativeOps {
    scaledDotProductAttention(q: Handle, k: Handle, v: Handle, ...inputs: Inputs): void;
  }
  interface NativeKernels {
    attentionBackward(q: Handle, k: Handle, v: Handle, ...rest: [...Inputs, ...Saved]): void;
    attentionBackwardPacked(q: Handle, k: Handle, v: Handle, ...rest: [...Inputs, ...Saved]): void;
    reserveDraws(state: Handle, counters: number): void;
  }
}

export interface AttentionOptions {
  /**
   * Broadcasts to [B, H, T, S]: bool (true keeps a score, as in PyTorch's function) or floating
   * (added to the scores). A floating mask may want a gradient; the scores are then materialised.
   */
  mask?: Tensor | null;
  /** Leaves out keys after the query: j > i. */
  isCausal?: boolean;
  /** bool [B, S]: true leaves a key out for every query. */
  keyPadding?: Tensor | null;
  /** The chance that a weight is dropped; 0 where left out. The others grow by 1 / (1 - p). */
  dropout?: number;
  /** What scores are multiplied by; 1 / √D where left out. */
  scale?: number;
  /** What dropout draws from. */
  generator?: Generator;
}

interface Settings {
  mask: Tensor | null;
  padding: Tensor | null;
  causal: boolean;
  dropout: number;
  scale: number;
  generator: Generator;
}

interface Attributes {
  mask: boolean;
  padding: boolean;
  drawn: boolean;
  causal: boolean;
  scale: number;
  keep: number;
  precision: number;
}

const name = 'scaledDotProductAttention';

function settingsOf(options: AttentionOptions, like: Tensor): Settings {
  const {
    mask = null,
    isCausal = false,
    keyPadding = null,
    dropout = 0,
    scale = 1 / Math.sqrt(like.shape.at(-1) ?? 1),
    generator = defaultGenerator,
  } = expectOptions(name, options, [
    'mask',
    'isCausal',
    'keyPadding',
    'dropout',
    'scale',
    'generator',
  ]);
  if (mask !== null) expectTensor(name, mask, 'mask');
  if (keyPadding !== null) expectTensor(name, keyPadding, 'keyPadding');
  if (!(generator instanceof Generator)) {
    throw new TypeError(`${name}: generator must be a Generator, got ${describe(generator)}`);
  }
  return {
    // Native code wants one floating dtype.
    mask: mask !== null && isFloating(mask.dtype) ? mask.to(like.dtype) : mask,
    padding: keyPadding,
    causal: expectBoolean(name, 'isCausal', isCausal),
    dropout: expectRange(name, 'dropout', dropout, 0, 1),
    scale: expectNumber(name, 'scale', scale),
    generator,
  };
}

/** The state that a draw starts from; the generator moves on. Counters as in families/attention.h. */
function reserve({ dropout, generator }: Settings, q: Tensor, keys: number): Tensor | null {
  if (dropout === 0) return null;
  const rows = q.shape.slice(0, -1).reduce((a, b) => a * b, 1);
  native.reserveDraws(generator.state(q.device).h, rows * Math.ceil(keys / 4));
  return take(0, q.device);
}

/** The arguments of the kernels from what was saved: [mask] [padding] [state]. */
function inputsOf(saved: readonly Tensor[], attributes: Attributes): Inputs {
  let at = 0;
  const next = (there: boolean): Handle | undefined =>
    there ? (saved[at++] as Tensor).h : undefined;
  return [
    next(attributes.mask),
    next(attributes.padding),
    next(attributes.drawn),
    attributes.causal,
    attributes.scale,
    attributes.keep,
    attributes.precision,
  ];
}

const attentionRule: Rule<Attributes> = (dout, saved, attributes) => {
  const [q, k, v, out, lse, ...rest] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor];
  const inputs = inputsOf(rest, attributes);
  native.attentionBackward(q.h, k.h, v.h, ...inputs, out.h, lse.h, dout.h);
  return [take(0, dout.device), take(1, dout.device), take(2, dout.device)];
};

export const attentionOps: OpRows<'scaledDotProductAttention'> = {
  scaledDotProductAttention: {
    family: 'attention',
    summary: 'softmax(scale·Q·Kᵀ + mask)·V per head, without the scores in memory',
    dtypes: 'floating',
    gradient: attentionRule,
  },
};

interface Attended {
  out: Tensor;
  saved: Tensor[];
  attributes: Attributes;
}

function attend(q: Tensor, k: Tensor, v: Tensor, settings: Settings): Attended {
  const { mask, padding, causal, scale, dropout } = settings;
  const drawn = reserve(settings, q, k.shape[2] ?? 0);
  const attributes: Attributes = {
    mask: mask !== null,
    padding: padding !== null,
    drawn: drawn !== null,
    causal,
    scale,
    keep: 1 - dropout,
    precision: matmulCodes()[0],
  };
  const rest = [mask, padding, drawn].filter((tensor) => tensor !== null);
  native.scaledDotProductAttention(q.h, k.h, v.h, ...inputsOf(rest, attributes));
  const out = take(0, q.device);
  return { out, saved: [out, take(1, q.device), ...rest], attributes };
}

/**
 * Attention of every head: softmax(scale·Q·Kᵀ + mask)·V. A query that sees no key gets zeros.
 * Memory grows with T + S, not with T·S. On a GPU `setMatmulPrecision` holds for float32 here, too:
 * TF32 unless `highest`, for heads up to 128 wide.
 * @param queries [B, H, T, D], D up to 256
 * @param keys [B, Hkv, S, D]; Hkv divides H, and neighbouring heads of q share one of k and v
 * @param values [B, Hkv, S, D]
 * @returns [B, H, T, D]
 */
export function scaledDotProductAttention(
  queries: Tensor,
  keys: Tensor,
  values: Tensor,
  options: AttentionOptions = {},
): Tensor {
  const q = forProduct(expectTensor(name, queries, 'q'));
  const k = forProduct(expectTensor(name, keys, 'k'));
  const v = forProduct(expectTensor(name, values, 'v'));
  const settings = settingsOf(options, q);
  if (settings.mask && context().grad && needsGradient(settings.mask)) {
    return composed(q, k, v, settings).out;
  }
  const { out, saved, attributes } = attend(q, k, v, settings);
  const inputs = [settings.mask, settings.padding].filter((tensor) => tensor !== null);
  return record(
    name,
    ruleOf(attentionOps.scaledDotProductAttention),
    out,
    [q, k, v, ...inputs],
    () => [q, k, v, ...saved],
    attributes,
  );
}

/** The three parts [B, H, T, D] of a packed projection, as views. */
function unpack(packed: Tensor, heads: number): [Tensor, Tensor, Tensor] {
  const [batch, length, width] = packed.shape as [number, number, number];
  native.reshape(packed.h, [batch, length, 3, heads, width / 3 / heads]);
  const whole = take(0, packed.device);
  const part = (i: number): Tensor => {
    native.select(whole.h, 2, i);
    native.permute(take(0, packed.device).h, [0, 2, 1, 3]);
    return take(0, packed.device);
  };
  return [part(0), part(1), part(2)];
}

const packedRule: Rule<Attributes & { heads: number }> = (dout, saved, attributes) => {
  const [packed, out, lse, ...rest] = saved as [Tensor, Tensor, Tensor];
  const [q, k, v] = unpack(packed, attributes.heads);
  const inputs = inputsOf(rest, attributes);
  native.attentionBackwardPacked(q.h, k.h, v.h, ...inputs, out.h, lse.h, dout.h);
  native.reshape(take(0, dout.device).h, packed.shape);
  return [take(0, dout.device)];
};

/**
 * @internal {@link scaledDotProductAttention} of a projection [B, T, 3·H·D] that holds q, k and v:
 * its gradient comes in one piece. Returns [B, H, T, D], a view of [B, T, H, D].
 */
export function packedAttention(packed: Tensor, heads: number, options: AttentionOptions): Tensor {
  const [q, k, v] = unpack(packed, heads);
  const settings = settingsOf(options, q);
  if (settings.mask && context().grad && needsGradient(settings.mask)) {
    const shape = [...packed.shape.slice(0, 2), 3, heads, q.shape[3] as number];
    const whole = reshape(packed, shape);
    const part = (i: number): Tensor => permute(select(whole, 2, i), [0, 2, 1, 3]);
    return composed(part(0), part(1), part(2), settings).out;
  }
  const { out, saved, attributes } = attend(q, k, v, settings);
  const inputs = [settings.mask, settings.padding].filter((tensor) => tensor !== null);
  return record(name, packedRule, out, [packed, ...inputs], () => [packed, ...saved], {
    ...attributes,
    heads,
  });
}

/** Which scores count, as a bool that broadcasts to [B, H, T, S]; null where all do. */
function visible(q: Tensor, k: Tensor, { mask, padding, causal }: Settings): Tensor | null {
  const parts: Tensor[] = [];
  if (mask) parts.push(isFloating(mask.dtype) ? gt(mask, Number.NEGATIVE_INFINITY) : mask);
  if (padding) {
    parts.push(reshape(logicalNot(padding), [q.shape[0] as number, 1, 1, k.shape[2] as number]));
  }
  if (causal) {
    const positions = (n: number): Tensor => arange(0, n, 1, { dtype: 'int32', device: q.device });
    const [queries, keys] = [q.shape[2] as number, k.shape[2] as number];
    parts.push(le(positions(keys), reshape(positions(queries), [queries, 1])));
  }
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

/** The same from ops that keep all scores: what the tiles must agree with. */
function composed(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  settings: Settings,
): { out: Tensor; weights: Tensor } {
  const { mask, scale, dropout } = settings;
  const [batch, heads, queries] = q.shape as [number, number, number];
  const keys = k.shape[2] as number;
  const seen = visible(q, k, settings);
  let scores = mul(matmul(q, transpose(repeated(k, heads))), scale);
  if (mask && isFloating(mask.dtype)) scores = scores.add(mask);
  if (seen) scores = where(seen, scores, outOfSight);
  let weights = softmax(scores);
  if (seen) weights = mul(weights, seen.to(weights.dtype));
  let applied = weights;
  if (dropout > 0) {
    const shape = [batch, heads, queries, 4 * Math.ceil(keys / 4)];
    const { generator } = settings;
    const kept = bernoulli(shape, 1 - dropout, { dtype: q.dtype, device: q.device, generator });
    const factor = dropout < 1 ? 1 / (1 - dropout) : 0;
    applied = mul(weights, mul(slice(kept, 3, 0, keys), factor));
  }
  return { out: matmul(applied, repeated(v, heads)), weights };
}

/**
 * @internal {@link scaledDotProductAttention} with its weights [B, H, T, S] before dropout, which
 * are materialised for this.
 */
export function attentionWithWeights(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions,
): { out: Tensor; weights: Tensor } {
  return composed(q, k, v, settingsOf(options, q));
}
