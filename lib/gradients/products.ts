/**
 * Gradients of products by recorded ops that never divide, so that they can be differentiated as
 * often as asked for, whichever elements are 0.
 */
import { differentiable, type Rule } from '../autograd.js';
import { add, mul } from '../ops/binary.js';
import { ones, zeros } from '../ops/fill.js';
import { cat, flip } from '../ops/movement.js';
import { reduceOps } from '../ops/reduce.js';
import { cumprod, scanOps } from '../ops/scan.js';
import { expand, permute, reshape, slice } from '../ops/view.js';
import type { Shape, Tensor } from '../tensor.js';

function row(x: Tensor, axis: number, size: number, make: typeof ones): Tensor {
  const shape = x.shape.map((n, i) => (i === axis ? size : n));
  return make(shape, { dtype: x.dtype, device: x.device });
}

/** Elements `by` places behind each along an axis, zeros at the end. */
function later(x: Tensor, axis: number, by: number): Tensor {
  return cat([slice(x, axis, by), row(x, axis, by, zeros)], axis);
}

/** From running products, those of the elements before each. */
function exclusive(products: Tensor, axis: number): Tensor {
  return cat([row(products, axis, 1, ones), slice(products, axis, 0, -1)], axis);
}

// dx[i] = Π_{l<i} x[l] · S[i] with S[i] = dout[i] + x[i+1]·S[i+1], found for runs of 1, 2, 4 … elements.
differentiable(scanOps.cumprod.gradient as Rule<number>, (dout, [input, output], along) => {
  const x = input as Tensor;
  if (x.size === 0 || x.rank === 0) return [dout];
  const axis = along < 0 ? along + x.rank : along;
  let sums = dout;
  let factors = later(x, axis, 1);
  for (let by = 1; by < (x.shape[axis] as number); by *= 2) {
    sums = add(sums, mul(factors, later(sums, axis, by)));
    factors = mul(factors, later(factors, axis, by));
  }
  return [mul(exclusive(output as Tensor, axis), sums)];
});

// The product of the others is that of those before and that of those behind.
differentiable(
  reduceOps.prod.gradient as Rule<{ shape: Shape; kept: Shape }>,
  (dout, [input], { shape, kept }) => {
    const x = input as Tensor;
    const gone = shape.flatMap((n, i) => (kept[i] === n ? [] : [i]));
    const dy = expand(reshape(dout, kept), shape);
    if (gone.length === 0 || x.size === 0) return [dy];
    const stay = shape.flatMap((n, i) => (kept[i] === n ? [i] : []));
    const order = [...stay, ...gone];
    const lines = reshape(permute(x, order), [...stay.map((i) => shape[i] as number), -1]);
    const at = stay.length;
    const before = exclusive(cumprod(lines, at), at);
    const behind = flip(exclusive(cumprod(flip(lines, at), at), at), at);
    const others = reshape(
      mul(before, behind),
      order.map((i) => shape[i] as number),
    );
    const back = shape.map((_, i) => order.indexOf(i));
    return [mul(dy, permute(others, back))];
  },
);
