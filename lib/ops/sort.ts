/**
 * Sorting along an axis. Equal elements keep their order; NaN counts as larger than every number,
 * as PyTorch has it, and so comes last, or first where the order is descending.
 */
import { type Rule, record } from '../autograd.js';
import { expectAxis, expectBoolean, expectInteger, expectOptions, expectTensor } from '../check.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { where } from './binary.js';
import { addMethods, type OpRows } from './define.js';
import { isnan } from './unary.js';
import { reshape, select } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    sort(x: Handle, axis: number, count: number, descending: boolean): void;
  }
  interface NativeKernels {
    sortPlace(src: Handle, indices: Handle, axis: number, n: number): void;
  }
}

/** @internal */
export interface Line {
  axis: number;
  n: number;
}

const sortRule: Rule<Line> = (dout, [indices], { axis, n }) => {
  native.sortPlace(dout.h, (indices as Tensor).h, axis, n);
  return [take(0, dout.device)];
};

export const sortOps: OpRows<'sort'> = {
  sort: {
    family: 'sort',
    summary: 'elements of an axis in order, and where they were',
    dtypes: 'any',
    gradient: sortRule,
  },
};

function sorted(
  op: string,
  x: Tensor,
  axis: number,
  count: number,
  descending: boolean,
): [Tensor, Tensor] {
  const at = expectAxis(op, axis, expectTensor(op, x).rank);
  native.sort(x.h, at, count, descending);
  const values = take(0, x.device);
  const indices = take(1, x.device);
  const line: Line = { axis: at, n: x.shape[at] ?? 1 };
  return [
    record(op, sortRule, values, [x], () => [indices], line),
    record(op, null, indices, [x], null, null),
  ];
}

export interface SortOptions {
  /** The largest first. */
  descending?: boolean;
}

/** The elements of an axis in order, and their indices (int64) in x. */
export function sort(x: Tensor, axis = -1, options: SortOptions = {}): [Tensor, Tensor] {
  const { descending = false } = expectOptions('sort', options, ['descending']);
  return sorted('sort', x, axis, -1, expectBoolean('sort', 'descending', descending));
}

/** The indices (int64) that put the elements of an axis in order. */
export function argsort(x: Tensor, axis = -1, options: SortOptions = {}): Tensor {
  const { descending = false } = expectOptions('argsort', options, ['descending']);
  return sorted('argsort', x, axis, -1, expectBoolean('argsort', 'descending', descending))[1];
}

export interface TopkOptions {
  /** The largest elements; the smallest where false. */
  largest?: boolean;
}

/** The k largest elements of an axis in order, and their indices (int64) in x. */
export function topk(x: Tensor, k: number, axis = -1, options: TopkOptions = {}): [Tensor, Tensor] {
  const { largest = true } = expectOptions('topk', options, ['largest']);
  expectBoolean('topk', 'largest', largest);
  return sorted('topk', x, axis, expectInteger('topk', 'k', k, 0), largest);
}

/**
 * The middle element of an axis, or of the flattened tensor; the lower one of two, NaN where there
 * is a NaN. @throws where there is no element
 */
export function median(x: Tensor, axis?: number, keepdim = false): Tensor {
  expectTensor('median', x);
  expectBoolean('median', 'keepdim', keepdim);
  const source = axis === undefined || x.rank === 0 ? reshape(x, [x.size]) : x;
  const along = axis ?? 0;
  const [values] = sorted('median', source, along, -1, false);
  const n = source.shape.at(along) as number;
  if (n === 0) {
    throw new RangeError(`median: needs at least one element, got shape [${x.shape}]`);
  }
  const last = select(values, along, n - 1);
  const middle = where(isnan(last), last, select(values, along, (n - 1) >> 1));
  if (!keepdim) return middle;
  const gone = axis === undefined ? null : (along + x.rank) % x.rank;
  return reshape(
    middle,
    x.shape.map((size, i) => (gone === null || i === gone ? 1 : size)),
  );
}

declare module '../tensor.js' {
  interface Tensor {
    /**
     * The elements of an axis (the last where left out) in order, and their int64 places. Stable;
     * NaN counts as the largest.
     */
    sort(axis?: number, options?: SortOptions): [Tensor, Tensor];
    /** The places alone of {@link sort}. */
    argsort(axis?: number, options?: SortOptions): Tensor;
    /** The k largest (or smallest) elements of an axis, in order, and their int64 places. */
    topk(k: number, axis?: number, options?: TopkOptions): [Tensor, Tensor];
    /**
     * The lower median along an axis, or of all elements where left out; NaN where there is one.
     */
    median(axis?: number, keepdim?: boolean): Tensor;
  }
}

addMethods({
  sort(axis?: number, options?: SortOptions) {
    return sort(this, axis, options);
  },
  argsort(axis?: number, options?: SortOptions) {
    return argsort(this, axis, options);
  },
  topk(k: number, axis?: number, options?: TopkOptions) {
    return topk(this, k, axis, options);
  },
  median(axis?: number, keepdim?: boolean) {
    return median(this, axis, keepdim);
  },
});
