/**
 * What attention may be given in the form of its kernels: q [B,H,T,D], k and v [B,Hkv,S,D]. Axes in
 * front are joined or added, sizes of 1 stretched, narrower heads padded with zeros.
 */
import { type Shape, sameShape, type Tensor } from '../tensor.js';
import { pad } from './movement.js';
import { expand, reshape, slice } from './view.js';

/** Beyond this width all scores are kept: the kernels' tiles would not fit. */
export const mostWidth = 256;

export interface Operands {
  q: Tensor;
  k: Tensor;
  v: Tensor;
  /** Broadcasts to [B,H,T,S]. */
  mask: Tensor | null;
  /** [B,S] */
  padding: Tensor | null;
  /** [B] */
  lengths: Tensor | null;
}

/** Operands in one form, and the way of the output [B,H,T,D] back. */
export interface Formed extends Operands {
  restore(out: Tensor): Tensor;
}

function common(op: string, what: string, sizes: readonly number[]): number {
  const size = sizes.find((n) => n !== 1) ?? 1;
  if (sizes.every((n) => n === 1 || n === size)) return size;
  throw new RangeError(`${op}: ${what} must be equal or 1, got ${sizes.join(', ')}`);
}

function inShape(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : reshape(x, shape);
}

/** Axes of size 1 in front, up to `rank`. */
function padded(shape: Shape, rank: number): number[] {
  return [...new Array<number>(Math.max(rank - shape.length, 0)).fill(1), ...shape];
}

/** With the last three axes where the kernels have them, whatever leads. */
function formOfMask(mask: Tensor, batch: Shape, rank: number): Tensor {
  if (rank === 3 && mask.rank === 3) {
    const [leading, queries, keys] = mask.shape as [number, number, number];
    return reshape(mask, [leading, 1, queries, keys]);
  }
  if (rank <= 4 || mask.rank <= 3 || mask.rank > rank) return mask;
  const shape = padded(mask.shape, rank);
  const whole = [...batch, ...shape.slice(-3)];
  const count = batch.reduce((a, b) => a * b, 1);
  return reshape(expand(reshape(mask, shape), whole), [count, ...shape.slice(-3)]);
}

function widened(x: Tensor, width: number): Tensor {
  const more = width - (x.shape.at(-1) as number);
  return more === 0 ? x : pad(x, [0, more]);
}

/**
 * Of q [...,T,D], k [...,S,D] and v [...,S,Dv]: the axis before T is that of heads where there are
 * four axes or more, those before it (with three axes, the first) count samples.
 */
export function formed(op: string, given: Operands): Formed {
  const { q, k, v } = given;
  const rank = Math.max(q.rank, k.rank, v.rank);
  const fit =
    Math.min(q.rank, k.rank, v.rank) >= 2 &&
    q.shape.at(-1) === k.shape.at(-1) &&
    k.shape.at(-2) === v.shape.at(-2);
  if (!fit) {
    throw new RangeError(
      `${op}: shapes must be […,T,D], […,S,D] and […,S,Dv], ` +
        `got [${q.shape}], [${k.shape}] and [${v.shape}]`,
    );
  }
  const leads = [q, k, v].map((x) => padded(x.shape, rank).slice(0, -2));
  const grouped = rank >= 4;
  const batch = (grouped ? leads[0]?.slice(0, -1) : leads[0])?.map((_, axis) =>
    common(
      op,
      'the sizes of samples',
      leads.map((lead) => lead[axis] as number),
    ),
  ) as number[];
  const own = leads.map((lead) => (grouped ? (lead.at(-1) as number) : 1)) as [
    number,
    number,
    number,
  ];
  const shared = common(op, 'the heads of k and v', own.slice(1));
  const heads = own[0] === 1 ? shared : own[0];
  if (heads > 0 && (shared === 0 || heads % shared !== 0)) {
    throw new RangeError(
      `${op}: the heads of k must divide those of q, got ${shared} and ${heads}`,
    );
  }
  const count = batch.reduce((a, b) => a * b, 1);
  const [width, out] = [q.shape.at(-1) as number, v.shape.at(-1) as number];
  const widest = Math.max(width, out);
  const form = (x: Tensor, many: number): Tensor => {
    const inner = x.shape.slice(-2);
    const lead = grouped ? [...batch, many] : batch;
    const shape = [...lead, ...inner];
    const whole = inShape(x, padded(x.shape, rank));
    return inShape(sameShape(whole.shape, shape) ? whole : expand(whole, shape), [
      count,
      many,
      ...inner,
    ]);
  };
  const wide = widest > mostWidth;
  const sized = (x: Tensor): Tensor => (wide ? x : widened(x, widest));
  const queries = q.shape.at(-2) as number;
  const result = [...(grouped ? [...batch, heads] : batch), queries, out];
  const each = (x: Tensor | null, after: Shape): Tensor | null =>
    x !== null && sameShape(x.shape, [...batch, ...after]) ? inShape(x, [count, ...after]) : x;
  return {
    q: sized(form(q, heads)),
    k: sized(form(k, shared)),
    v: sized(form(v, shared)),
    mask: given.mask && formOfMask(given.mask, batch, rank),
    padding: each(given.padding, [k.shape.at(-2) as number]),
    lengths: each(given.lengths, []),
    restore: (y) => {
      const cut = wide || out === widest ? y : slice(y, 3, 0, out);
      return inShape(cut, result);
    },
  };
}
