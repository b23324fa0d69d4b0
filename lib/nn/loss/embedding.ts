/** Losses between embeddings and between scores, with PyTorch's names, defaults and formulas. */
import { forPrecision } from '../../autocast.js';
import {
  describe,
  expectAxis,
  expectBoolean,
  expectNumber,
  expectOptions,
  expectRange,
  expectTensor,
} from '../../check.js';
import { add, div, eq, maximum, minimum, mul, sub, where } from '../../ops/binary.js';
import { inFloat32 } from '../../ops/copy.js';
import { sum } from '../../ops/reduce.js';
import { norm } from '../../ops/statistics.js';
import { neg, relu, sqrt, square } from '../../ops/unary.js';
import { expand } from '../../ops/view.js';
import { sameShape, type Tensor } from '../../tensor.js';
import { Module } from '../module.js';
import { expectSameShape, Loss, type LossOptions, reduced } from './reduction.js';

export interface CosineSimilarityOptions {
  /** Along which vectors lie; 1 where left out. */
  axis?: number;
  /** Least norm of a vector; 1e-8 where left out. */
  eps?: number;
}

/** a·b / (max(‖a‖, eps)·max(‖b‖, eps)) along an axis of both broadcast, in [-1,1]. */
export function cosineSimilarity(
  a: Tensor,
  b: Tensor,
  options: CosineSimilarityOptions = {},
): Tensor {
  const name = 'cosineSimilarity';
  const { axis = 1, eps = 1e-8 } = expectOptions(name, options, ['axis', 'eps']);
  expectBroadcast(name, expectTensor(name, a, 'a'), expectTensor(name, b, 'b'));
  expectAxis(name, axis, Math.max(a.rank, b.rank));
  expectRange(name, 'eps', eps, 0);
  return inFloat32([a, b], ([x, y]) => {
    const products = mul(x, y);
    // The bound is on the squares, so that the root of a zero has the derivative 0.
    const length = (v: Tensor): Tensor =>
      sqrt(maximum(sum(square(expand(v, products.shape)), axis), eps * eps));
    return div(sum(products, axis), mul(length(x), length(y)));
  });
}

function expectBroadcast(name: string, a: Tensor, b: Tensor): void {
  const fits = a.shape.every((size, i) => {
    const other = b.shape[i + b.rank - a.rank] ?? 1;
    return size === other || size === 1 || other === 1;
  });
  if (fits) return;
  throw new RangeError(`${name}: shapes must broadcast, got [${a.shape}] and [${b.shape}]`);
}

export interface MarginOptions extends LossOptions {
  margin?: number;
}

const marginNames = ['margin', 'reduction'] as const;

/**
 * 1 - cos(a, b) where the label is 1, max(0, cos(a, b) - margin) where it is -1.
 * @param a [N, D] or [D], as b
 * @param label [N] or [], 1 or -1
 * @param options.margin 0 where left out
 */
export function cosineEmbeddingLoss(
  a: Tensor,
  b: Tensor,
  label: Tensor,
  options: MarginOptions = {},
): Tensor {
  const name = 'cosineEmbeddingLoss';
  const { reduction, margin = 0 } = expectOptions(name, options, marginNames);
  expectSameShape(name, a, b, ['a', 'b']);
  expectTensor(name, label, 'label');
  expectNumber(name, 'margin', margin);
  if (a.rank < 1 || a.rank > 2 || !sameShape(label.shape, a.shape.slice(0, -1))) {
    throw new RangeError(
      `${name}: shapes must be [N,D], [N,D] and [N], got [${a.shape}], [${b.shape}] and [${label.shape}]`,
    );
  }
  return inFloat32([a, b], ([x, y]) => {
    const squares = (v: Tensor): Tensor => add(sum(square(v), -1), 1e-12);
    const cosine = div(sum(mul(x, y), -1), sqrt(mul(squares(x), squares(y))));
    const apart = relu(sub(cosine, margin));
    const losses = where(eq(label, 1), sub(neg(cosine), -1), where(eq(label, -1), apart, 0));
    return reduced(name, losses, reduction);
  });
}

/**
 * x where the label is 1, max(0, margin - x) where it is -1.
 * @param input x, of any shape
 * @param label in the shape of x, 1 or -1
 * @param options.margin 1 where left out
 */
export function hingeEmbeddingLoss(
  input: Tensor,
  label: Tensor,
  options: MarginOptions = {},
): Tensor {
  const name = 'hingeEmbeddingLoss';
  const { reduction, margin = 1 } = expectOptions(name, options, marginNames);
  expectSameShape(name, input, label, ['x', 'label']);
  const x = forPrecision(input);
  const short = relu(add(neg(x), expectNumber(name, 'margin', margin)));
  const losses = where(eq(label, 1), x, where(eq(label, -1), short, 0));
  return reduced(name, losses, reduction);
}

/**
 * max(0, 1 - label·x): the hinge loss of support vector machines.
 * @param input scores x, of any shape
 * @param label in the shape of x, 1 or -1
 */
export function hingeLoss(input: Tensor, label: Tensor, options: LossOptions = {}): Tensor {
  const name = 'hingeLoss';
  const { reduction } = expectOptions(name, options, ['reduction']);
  expectSameShape(name, input, label, ['x', 'label']);
  return reduced(name, relu(sub(1, mul(forPrecision(input), label))), reduction);
}

/**
 * max(0, -label·(a - b) + margin): a shall be above b where the label is 1, below where it is -1.
 * @param options.margin 0 where left out
 */
export function marginRankingLoss(
  a: Tensor,
  b: Tensor,
  label: Tensor,
  options: MarginOptions = {},
): Tensor {
  const name = 'marginRankingLoss';
  const { reduction, margin = 0 } = expectOptions(name, options, marginNames);
  expectSameShape(name, a, b, ['a', 'b']);
  expectSameShape(name, a, label, ['a', 'label']);
  expectNumber(name, 'margin', margin);
  const difference = sub(forPrecision(a), forPrecision(b));
  const losses = relu(add(neg(mul(label, difference)), margin));
  return reduced(name, losses, reduction);
}

export interface TripletMarginOptions extends MarginOptions {
  /** Which norm measures distances, above 0 or infinite; 2 where left out. */
  p?: number;
  /** Added to each difference; 1e-6 where left out. */
  eps?: number;
  /** Takes the positive's distance to the negative where it is smaller; false where left out. */
  swap?: boolean;
}

const tripletNames = ['p', 'eps', 'swap', 'margin', 'reduction'] as const;

/**
 * max(0, d(anchor, positive) - d(anchor, negative) + margin), d the distance along the last axis.
 * @param anchor [N, D] or [D], as the others
 * @param options.margin 1 where left out
 */
export function tripletMarginLoss(
  anchor: Tensor,
  positive: Tensor,
  negative: Tensor,
  options: TripletMarginOptions = {},
): Tensor {
  const name = 'tripletMarginLoss';
  const {
    reduction,
    margin = 1,
    p = 2,
    eps = 1e-6,
    swap = false,
  } = expectOptions(name, options, tripletNames);
  expectSameShape(name, anchor, positive, ['anchor', 'positive']);
  expectSameShape(name, anchor, negative, ['anchor', 'negative']);
  if (anchor.rank === 0) {
    throw new RangeError(`${name}: needs vectors, got ${describe(anchor)}`);
  }
  expectNumber(name, 'margin', margin);
  expectNumber(name, 'eps', eps);
  if (!(expectNumber(name, 'p', p) > 0)) {
    throw new RangeError(`${name}: p must be above 0, got ${describe(p)}`);
  }
  expectBoolean(name, 'swap', swap);
  const distance = (x: Tensor, y: Tensor): Tensor => norm(add(sub(x, y), eps), p, -1);
  return inFloat32([anchor, positive, negative], ([a, near, far]) => {
    let apart = distance(a, far);
    if (swap) apart = minimum(apart, distance(near, far));
    return reduced(name, relu(add(sub(distance(a, near), apart), margin)), reduction);
  });
}

/** {@link cosineSimilarity} as a module. */
export class CosineSimilarity extends Module {
  constructor(readonly options: CosineSimilarityOptions = {}) {
    super();
    expectOptions('CosineSimilarity', options, ['axis', 'eps']);
  }
  forward(a: Tensor, b: Tensor): Tensor {
    return cosineSimilarity(a, b, this.options);
  }
}

/** {@link cosineEmbeddingLoss} as a module. */
export class CosineEmbeddingLoss extends Loss<MarginOptions> {
  constructor(options: MarginOptions = {}) {
    super(options, marginNames);
  }
  forward(a: Tensor, b: Tensor, label: Tensor): Tensor {
    return cosineEmbeddingLoss(a, b, label, this.options);
  }
}

/** {@link hingeEmbeddingLoss} as a module. */
export class HingeEmbeddingLoss extends Loss<MarginOptions> {
  constructor(options: MarginOptions = {}) {
    super(options, marginNames);
  }
  forward(x: Tensor, label: Tensor): Tensor {
    return hingeEmbeddingLoss(x, label, this.options);
  }
}

/** {@link hingeLoss} as a module. */
export class HingeLoss extends Loss<LossOptions> {
  constructor(options: LossOptions = {}) {
    super(options, ['reduction']);
  }
  forward(x: Tensor, label: Tensor): Tensor {
    return hingeLoss(x, label, this.options);
  }
}

/** {@link marginRankingLoss} as a module. */
export class MarginRankingLoss extends Loss<MarginOptions> {
  constructor(options: MarginOptions = {}) {
    super(options, marginNames);
  }
  forward(a: Tensor, b: Tensor, label: Tensor): Tensor {
    return marginRankingLoss(a, b, label, this.options);
  }
}

/** {@link tripletMarginLoss} as a module. */
export class TripletMarginLoss extends Loss<TripletMarginOptions> {
  constructor(options: TripletMarginOptions = {}) {
    super(options, tripletNames);
  }
  forward(anchor: Tensor, positive: Tensor, negative: Tensor): Tensor {
    return tripletMarginLoss(anchor, positive, negative, this.options);
  }
}
