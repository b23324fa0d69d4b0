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
import { type Formed, formed, mostWidth } from './attentionForm.js';
import { composed, type ScoreSettings } from './attentionScores.js';
import { clampMax, clampMin } from './binary.js';
import { type OpRows, ruleOf } from './define.js';
import { matmulCodes } from './gemm.js';
import { defaultGenerator, Generator } from './random.js';
import { permute, reshape, select } from './view.js';

type Inputs = [
  mask: Handle | undefined,
  padding: Handle | undefined,
  lengths: Handle | undefined,
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
  /**
   * Integers [B]: how many keys of a sample are seen. Those behind are left out, and whole tiles
   * of them are not read, which is faster than the same as `keyPadding`.
   */
  lengths?: Tensor | null;
  /** The chance that a weight is dropped; 0 where left out. The others grow by 1 / (1 - p). */
  dropout?: number;
  /** What scores are multiplied by; 1 / √D where left out. */
  scale?: number;
  /** What dropout draws from. */
  generator?: Generator;
}

/** @internal */
export interface AttentionAttributes {
  mask: boolean;
  padding: boolean;
  lengths: boolean;
  drawn: boolean;
  causal: boolean;
  scale: number;
  keep: number;
  precision: number;
}

const name = 'scaledDotProductAttention';

function settingsOf(options: AttentionOptions, like: Tensor): ScoreSettings {
  const {
    mask = null,
    isCausal = false,
    keyPadding = null,
    lengths = null,
    dropout = 0,
    scale = 1 / Math.sqrt(like.shape.at(-1) ?? 1),
    generator = defaultGenerator,
  } = expectOptions(name, options, [
    'mask',
    'isCausal',
    'keyPadding',
    'lengths',
    'dropout',
    'scale',
    'generator',
  ]);
  if (mask !== null) expectTensor(name, mask, 'mask');
  if (keyPadding !== null) expectTensor(name, keyPadding, 'keyPadding');
  if (lengths !== null && !/^int/.test(expectTensor(name, lengths, 'lengths').dtype)) {
    throw new TypeError(`${name}: lengths must be integers, got ${describe(lengths)}`);
  }
  if (!(generator instanceof Generator)) {
    throw new TypeError(`${name}: generator must be a Generator, got ${describe(generator)}`);
  }
  return {
    // Native code wants one floating dtype.
    mask: mask !== null && isFloating(mask.dtype) ? mask.to(like.dtype) : mask,
    padding: keyPadding,
    lengths,
    causal: expectBoolean(name, 'isCausal', isCausal),
    dropout: expectRange(name, 'dropout', dropout, 0, 1),
    scale: expectNumber(name, 'scale', scale),
    generator,
  };
}

/** The state that a draw starts from; the generator moves on. Counters as in families/attention.h. */
function reserve({ dropout, generator }: ScoreSettings, q: Tensor, keys: number): Tensor | null {
  if (dropout === 0) return null;
  const rows = q.shape.slice(0, -1).reduce((a, b) => a * b, 1);
  native.reserveDraws(generator.state(q.device).h, rows * Math.ceil(keys / 4));
  return take(0, q.device);
}

/** The arguments of the kernels from what was saved: [mask] [padding] [lengths] [state]. */
function inputsOf(saved: readonly Tensor[], attributes: AttentionAttributes): Inputs {
  let at = 0;
  const next = (there: boolean): Handle | undefined =>
    there ? (saved[at++] as Tensor).h : undefined;
  return [
    next(attributes.mask),
    next(attributes.padding),
    next(attributes.lengths),
    next(attributes.drawn),
    attributes.causal,
    attributes.scale,
    attributes.keep,
    attributes.precision,
  ];
}

const attentionRule: Rule<AttentionAttributes> = (dout, saved, attributes) => {
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
  attributes: AttentionAttributes;
}

function attend(q: Tensor, k: Tensor, v: Tensor, settings: ScoreSettings): Attended {
  const { mask, padding, lengths, causal, scale, dropout } = settings;
  const drawn = reserve(settings, q, k.shape[2] ?? 0);
  const attributes: AttentionAttributes = {
    mask: mask !== null,
    padding: padding !== null,
    lengths: lengths !== null,
    drawn: drawn !== null,
    causal,
    scale,
    keep: 1 - dropout,
    precision: matmulCodes()[0],
  };
  const rest = [mask, padding, lengths, drawn].filter((tensor) => tensor !== null);
  native.scaledDotProductAttention(q.h, k.h, v.h, ...inputsOf(rest, attributes));
  const out = take(0, q.device);
  return { out, saved: [out, take(1, q.device), ...rest], attributes };
}

/** The kernels' form of operands and settings. */
function formOf(q: Tensor, k: Tensor, v: Tensor, settings: ScoreSettings): [Formed, ScoreSettings] {
  const form = formed(name, { ...settings, q, k, v });
  const { mask, padding } = form;
  let { lengths } = form;
  if (lengths) {
    const [batch, keys] = [form.k.shape[0] as number, form.k.shape[2] as number];
    if (lengths.rank !== 1 || lengths.size !== batch) {
      throw new RangeError(`${name}: lengths must be [${batch}], got ${describe(lengths)}`);
    }
    // An int64 may be beyond what int32 holds.
    if (lengths.dtype === 'int64') lengths = clampMin(clampMax(lengths, keys), 0);
    lengths = lengths.to('int32').contiguous();
  }
  return [form, { ...settings, mask, padding, lengths }];
}

/** Whether all scores must be kept: for the gradient of a mask, or heads too wide for tiles. */
function needsScores(q: Tensor, v: Tensor, { mask }: ScoreSettings): boolean {
  if (Math.max(q.shape.at(-1) as number, v.shape.at(-1) as number) > mostWidth) return true;
  return mask !== null && context().grad && needsGradient(mask);
}

/**
 * Attention of every head: softmax(scale·Q·Kᵀ + mask)·V. A query that sees no key gets zeros.
 * Memory grows with T + S, not with T·S, unless heads are wider than 256 or a mask wants a
 * gradient: then all scores are kept. On a GPU `setMatmulPrecision` holds for float32 here, too:
 * TF32 unless `highest`, for heads up to 128 wide.
 * @param queries [..., H, T, D]; [B, T, D] and [T, D] are of one head
 * @param keys [..., Hkv, S, D]; Hkv divides H, and neighbouring heads of q share one of k and v.
 *   Sizes of 1 before the heads are stretched, and those of heads too
 * @param values [..., Hkv, S, Dv]
 * @returns [..., H, T, Dv]
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
  const [form, settings] = formOf(q, k, v, settingsOf(options, q));
  return form.restore(attention(form, settings));
}

function attention({ q, k, v }: Formed, settings: ScoreSettings): Tensor {
  if (needsScores(q, v, settings)) return composed(q, k, v, settings).out;
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

/** @internal */
export const packedRule: Rule<AttentionAttributes & { heads: number }> = (
  dout,
  saved,
  attributes,
) => {
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
  const [, settings] = formOf(q, k, v, settingsOf(options, q));
  if (needsScores(q, v, settings)) {
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
  const [form, settings] = formOf(q, k, v, settingsOf(options, q));
  return composed(form.q, form.k, form.v, settings);
}
