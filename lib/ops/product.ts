/** Products composed of matmul, multiplication and views: autograd sees through them. */
import {
  describe,
  expectAxes,
  expectInteger,
  expectNumber,
  expectOptions,
  expectTensor,
} from '../check.js';
import { type DType, isFloating } from '../dtype.js';
import type { Tensor } from '../tensor.js';
import { add, mul } from './binary.js';
import { to } from './copy.js';
import { addMethods } from './define.js';
import { matmul, scaledProduct } from './gemm.js';
import { sum } from './reduce.js';
import { permute, reshape, slice } from './view.js';

function expectRanks(op: string, a: Tensor, b: Tensor, left: number, right: number): void {
  expectTensor(op, a, 'a');
  expectTensor(op, b, 'b');
  if (a.rank !== left || b.rank !== right) {
    const word = (rank: number): string => (rank === 1 ? 'a vector' : `rank ${rank}`);
    throw new RangeError(
      `${op}: needs ${word(left)} and ${word(right)}, got [${a.shape}] and [${b.shape}]`,
    );
  }
}

/** Every product aᵢ·bⱼ of two vectors: [N] and [M] give [N, M]. */
export function outer(a: Tensor, b: Tensor): Tensor {
  expectRanks('outer', a, b, 1, 1);
  return mul(reshape(a, [a.size, 1]), b);
}

/** Σ aᵢ·bᵢ of two vectors. */
export function dot(a: Tensor, b: Tensor): Tensor {
  expectRanks('dot', a, b, 1, 1);
  return matmul(a, b);
}

/** Σ aᵢ·bᵢ of two vectors: the same as dot, as all tensors are real. */
export function vdot(a: Tensor, b: Tensor): Tensor {
  expectRanks('vdot', a, b, 1, 1);
  return matmul(a, b);
}

/** Matrix by vector: [N, M] and [M] give [N]. */
export function mv(a: Tensor, b: Tensor): Tensor {
  expectRanks('mv', a, b, 2, 1);
  return matmul(a, b);
}

/** Products of the matrices of two batches: [B, N, M] and [B, M, P] give [B, N, P]. */
export function bmm(a: Tensor, b: Tensor): Tensor {
  expectRanks('bmm', a, b, 3, 3);
  if (a.shape[0] !== b.shape[0]) {
    throw new RangeError(`bmm: batch sizes must match, got [${a.shape}] and [${b.shape}]`);
  }
  return matmul(a, b);
}

/**
 * beta·x + alpha·(a · b); x broadcasts to [N, P], a is [N, M], b is [M, P]. Beside integers beta and
 * alpha are integers.
 */
export function addmm(
  x: Tensor,
  a: Tensor,
  b: Tensor,
  options: { beta?: number; alpha?: number } = {},
): Tensor {
  const { beta = 1, alpha = 1 } = expectOptions('addmm', options, ['beta', 'alpha']);
  expectTensor('addmm', x, 'x');
  expectRanks('addmm', a, b, 2, 2);
  const factor = isFloating(a.dtype) ? expectNumber : expectInteger;
  const product = scaledProduct('addmm', a, b, factor('addmm', 'alpha', alpha));
  if (factor('addmm', 'beta', beta) === 0) return product;
  return add(beta === 1 ? x : mul(x, beta), product);
}

/** The elements whose indices along the last two axes agree: [..., N, N] gives [..., N]. */
function diagonalOf(x: Tensor): Tensor {
  const n = x.shape[x.rank - 1] as number;
  if (n === 0) return reshape(x, x.shape.slice(0, -1));
  return slice(reshape(x, [...x.shape.slice(0, -2), n * n]), -1, 0, n * n, n + 1);
}

/** Sum of the diagonal of a matrix. */
export function trace(x: Tensor): Tensor {
  expectTensor('trace', x);
  if (x.rank !== 2) throw new RangeError(`trace: needs a matrix, got [${x.shape}]`);
  const n = Math.min(...x.shape);
  return sum(diagonalOf(slice(slice(x, 0, 0, n), 1, 0, n)));
}

/** Kronecker product: every product of an element of a and one of b, as blocks of b. */
export function kron(a: Tensor, b: Tensor): Tensor {
  expectTensor('kron', a, 'a');
  expectTensor('kron', b, 'b');
  const rank = Math.max(a.rank, b.rank);
  if (rank > 4) throw new RangeError(`kron: ranks must be at most 4, got ${a.rank} and ${b.rank}`);
  const sizes = (x: Tensor): number[] => [
    ...Array.from({ length: rank - x.rank }, () => 1),
    ...x.shape,
  ];
  const [left, right] = [sizes(a), sizes(b)];
  const blocks = mul(
    reshape(
      a,
      left.flatMap((n) => [n, 1]),
    ),
    reshape(
      b,
      right.flatMap((n) => [1, n]),
    ),
  );
  return reshape(
    blocks,
    left.map((n, i) => n * (right[i] as number)),
  );
}

/** An operand of a contraction: one label per axis. */
interface Labeled {
  x: Tensor;
  labels: readonly string[];
}

const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);

function sizeOf({ x, labels }: Labeled, label: string): number {
  return x.shape[labels.indexOf(label)] as number;
}

/** Axes in the order of `groups`, each group as one axis. */
function grouped(operand: Labeled, groups: readonly (readonly string[])[]): Tensor {
  const order = groups.flat();
  const axes = order.map((label) => operand.labels.indexOf(label));
  const inOrder = axes.every((axis, i) => axis === i);
  const moved = inOrder ? operand.x : permute(operand.x, axes);
  return reshape(
    moved,
    groups.map((group) => product(group.map((label) => sizeOf(operand, label)))),
  );
}

/** Without the labels that are summed over in this operand alone. */
function summed({ x, labels }: Labeled, keep: (label: string) => boolean): Labeled {
  const gone = labels.flatMap((label, axis) => (keep(label) ? [] : [axis]));
  if (gone.length === 0) return { x, labels };
  return { x: sum(x, gone), labels: labels.filter(keep) };
}

/** In another dtype where it holds integers. */
function integersIn(dtype: DType, { x, labels }: Labeled): Labeled {
  return { x: isFloating(x.dtype) ? x : to(x, dtype), labels };
}

/** An axis of size 1 that meets a longer one multiplies all of it: it need not be there. */
function withoutStretched(operand: Labeled, other: Labeled): Labeled {
  const { x, labels } = operand;
  const stays = labels.map(
    (label, axis) =>
      x.shape[axis] !== 1 || !other.labels.includes(label) || sizeOf(other, label) === 1,
  );
  if (stays.every(Boolean)) return operand;
  return {
    x: reshape(
      x,
      x.shape.filter((_, axis) => stays[axis]),
    ),
    labels: labels.filter((_, axis) => stays[axis]),
  };
}

/**
 * Multiplies two operands and sums over the labels that are not kept. Integers become int64 where a
 * label of one operand alone is summed, whatever the sizes.
 */
function contract(first: Labeled, second: Labeled, kept: (label: string) => boolean): Labeled {
  let a = withoutStretched(first, second);
  let b = withoutStretched(second, a);
  a = summed(a, (label) => kept(label) || b.labels.includes(label));
  b = summed(b, (label) => kept(label) || a.labels.includes(label));
  const alone = (own: Labeled, other: Labeled): boolean =>
    own.labels.some((label) => !kept(label) && !other.labels.includes(label));
  const wide = alone(first, second) || alone(second, first);
  a = integersIn(wide ? 'int64' : first.x.dtype, a);
  b = integersIn(wide ? 'int64' : second.x.dtype, b);
  const shared = a.labels.filter((label) => b.labels.includes(label));
  const batch = shared.filter(kept);
  const inner = shared.filter((label) => !kept(label));
  const left = a.labels.filter((label) => !shared.includes(label));
  const right = b.labels.filter((label) => !shared.includes(label));
  const labels = [...batch, ...left, ...right];
  const shape = [
    ...[...batch, ...left].map((label) => sizeOf(a, label)),
    ...right.map((label) => sizeOf(b, label)),
  ];
  const x =
    inner.length === 0
      ? mul(grouped(a, [batch, left, []]), grouped(b, [batch, [], right]))
      : matmul(grouped(a, [batch, left, inner]), grouped(b, [batch, inner, right]));
  return { x: reshape(x, shape), labels };
}

/**
 * Sums of products over the axes in `axes`: pairs of a's and b's, or how many of a's last and b's
 * first axes.
 */
export function tensordot(
  a: Tensor,
  b: Tensor,
  axes: number | readonly [readonly number[], readonly number[]] = 2,
): Tensor {
  expectTensor('tensordot', a, 'a');
  expectTensor('tensordot', b, 'b');
  const pairs = tensordotAxes(a, b, axes);
  const labels = a.shape.map((_, axis) => `a${axis}`);
  const others = b.shape.map((_, axis) => `b${axis}`);
  pairs[0].forEach((axis, i) => {
    const other = pairs[1][i] as number;
    if (a.shape[axis] !== b.shape[other]) {
      throw new RangeError(
        `tensordot: sizes of paired axes must match, got [${a.shape}] and [${b.shape}]`,
      );
    }
    others[other] = labels[axis] as string;
  });
  const inner = pairs[0].map((axis) => labels[axis]);
  return contract({ x: a, labels }, { x: b, labels: others }, (label) => !inner.includes(label)).x;
}

function tensordotAxes(a: Tensor, b: Tensor, axes: unknown): [number[], number[]] {
  if (typeof axes === 'number') {
    expectInteger('tensordot', 'axes', axes, 0, Math.min(a.rank, b.rank));
    const first = Array.from({ length: axes }, (_, i) => i);
    return [first.map((i) => a.rank - axes + i), first];
  }
  const lists = Array.isArray(axes) && axes.length === 2 && axes.every(Array.isArray) ? axes : null;
  if (!lists || lists[0]?.length !== lists[1]?.length) {
    throw new TypeError(
      `tensordot: axes must be a count or two lists of one length, got ${describe(axes)}`,
    );
  }
  return lists.map((list: unknown[], k: number) => {
    const { rank } = k === 0 ? a : b;
    if (list.length > rank) {
      throw new RangeError(`tensordot: needs at most ${rank} axes, got ${describe(list)}`);
    }
    return expectAxes('tensordot', list, rank, 'an axis');
  }) as [number[], number[]];
}

/** Labels of one term; the ellipsis stands for `hidden` axes, named from the last one. */
function labelsOf(term: string, hidden: number): string[] {
  const [head, tail] = term.split('...') as [string, string | undefined];
  if (tail === undefined) return [...head];
  const axes = Array.from({ length: hidden }, (_, i) => `.${hidden - 1 - i}`);
  return [...head, ...axes, ...tail];
}

function diagonals(operand: Labeled): Labeled {
  const { x, labels } = operand;
  const first = labels.findIndex((label, i) => labels.indexOf(label, i + 1) > 0);
  if (first < 0) return operand;
  const second = labels.indexOf(labels[first] as string, first + 1);
  const rest = labels.flatMap((_, axis) => (axis === first || axis === second ? [] : [axis]));
  return diagonals({
    x: diagonalOf(permute(x, [...rest, first, second])),
    labels: [...rest.map((axis) => labels[axis] as string), labels[first] as string],
  });
}

interface Equation {
  inputs: string[][];
  output: string[];
}

function parseEquation(equation: unknown, operands: readonly Tensor[]): Equation {
  const text = typeof equation === 'string' ? equation.replaceAll(' ', '') : '';
  const fail = (rule: string): never => {
    throw new RangeError(`einsum: ${rule}, got ${describe(equation)}`);
  };
  if (
    !/^([a-zA-Z]*(\.\.\.)?[a-zA-Z]*)(,[a-zA-Z]*(\.\.\.)?[a-zA-Z]*)*(->[a-zA-Z]*(\.\.\.)?[a-zA-Z]*)?$/.test(
      text,
    ) ||
    typeof equation !== 'string'
  ) {
    fail('the equation must have the form "ij,jk->ik"');
  }
  const [left, right] = text.split('->') as [string, string | undefined];
  const terms = left.split(',');
  if (terms.length !== operands.length) {
    fail(`needs one term for each of ${operands.length} tensors`);
  }
  const inputs = terms.map((term, k) => {
    const { shape, rank } = operands[k] as Tensor;
    const named = term.replace('...', '').length;
    if (term.includes('...') ? named > rank : named !== rank) {
      fail(`term ${term} does not fit the shape [${shape}]`);
    }
    return labelsOf(term, rank - named);
  });
  const all = inputs.flat();
  const hidden = [...new Set(all.filter((label) => label.startsWith('.')))];
  if (right === undefined) {
    const once = all.filter((l) => !l.startsWith('.') && all.indexOf(l) === all.lastIndexOf(l));
    return { inputs, output: [...labelsOf('...', hidden.length), ...once.sort()] };
  }
  const output = labelsOf(right, hidden.length);
  for (const label of output) {
    if (!all.includes(label)) fail(`output label ${label} is in no term`);
    if (output.indexOf(label) !== output.lastIndexOf(label)) fail(`output label ${label} repeats`);
  }
  return { inputs, output };
}

/**
 * Sums of products in Einstein's notation: `einsum('bij,bjk->bik', a, b)`. A label in several
 * terms multiplies, one not in the output is summed over, one twice in a term takes a diagonal;
 * `...` stands for axes that broadcast. Without `->` the output has the labels that appear once,
 * in alphabetical order. Operands are contracted from left to right. Products of integers keep their
 * dtype, sums are int64.
 */
export function einsum(equation: string, ...operands: Tensor[]): Tensor {
  for (const operand of operands) expectTensor('einsum', operand, 'an operand');
  const { inputs, output } = parseEquation(equation, operands);
  const sizes = new Map<string, number>();
  inputs.forEach((labels, k) => {
    const { shape } = operands[k] as Tensor;
    labels.forEach((label, axis) => {
      const size = shape[axis] as number;
      const known = sizes.get(label) ?? 1;
      const twice = labels.indexOf(label) !== axis && size !== shape[labels.indexOf(label)];
      if (twice || (size !== known && size !== 1 && known !== 1)) {
        const name = label.startsWith('.') ? '...' : label;
        throw new RangeError(
          `einsum: sizes of label ${name} must match, got ${operands.map((x) => `[${x.shape}]`).join(' and ')}`,
        );
      }
      if (size !== 1) sizes.set(label, size);
    });
  });
  const terms = inputs.map((labels, k) => diagonals({ x: operands[k] as Tensor, labels }));
  let result = terms[0] as Labeled;
  for (let k = 1; k < terms.length; ++k) {
    const later = terms.slice(k + 1).flatMap(({ labels }) => labels);
    const kept = (label: string): boolean => output.includes(label) || later.includes(label);
    result = contract(result, terms[k] as Labeled, kept);
  }
  result = summed(result, (label) => output.includes(label));
  return grouped(
    result,
    output.map((label) => [label]),
  );
}

declare module '../tensor.js' {
  interface Tensor {
    /** aᵢ·bⱼ of vectors [N] and [M]: [N, M]. */
    outer(b: Tensor): Tensor;
    /** Σ aᵢ·bᵢ of vectors of one length: a scalar. */
    dot(b: Tensor): Tensor;
    /** The matrix [N, M] times a vector [M]: [N]. */
    mv(b: Tensor): Tensor;
    /** Products of matrices pair by pair: [B, N, K] and [B, K, M] to [B, N, M]. */
    bmm(b: Tensor): Tensor;
    /** The sum of the diagonal of a matrix: a scalar. */
    trace(): Tensor;
    /** The Kronecker product: each element of x times the whole of b. */
    kron(b: Tensor): Tensor;
  }
}

addMethods({
  outer(b: Tensor) {
    return outer(this, b);
  },
  dot(b: Tensor) {
    return dot(this, b);
  },
  mv(b: Tensor) {
    return mv(this, b);
  },
  bmm(b: Tensor) {
    return bmm(this, b);
  },
  trace() {
    return trace(this);
  },
  kron(b: Tensor) {
    return kron(this, b);
  },
});
