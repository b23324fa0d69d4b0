/**
 * Gradients of the norms by recorded ops, so that they can be differentiated again. With
 * x̂ = (x - mean)·rstd and g = dy·weight: dx = rstd·(g - mean(g) - x̂·mean(g·x̂)), without mean(g)
 * where no mean was taken off, and rstd·g where statistics are given.
 */
import { differentiable, type Gradient, type Rule } from '../autograd.js';
import { add, mul, sub } from '../ops/binary.js';
import { type NormAttributes, normOps, savedOf } from '../ops/norm.js';
import { mean, sum } from '../ops/reduce.js';
import { rsqrt, square } from '../ops/unary.js';
import { reshape } from '../ops/view.js';
import type { Shape, Tensor } from '../tensor.js';

/** How a norm sees its input. */
interface Rows {
  /** The input's shape with what is reduced in axes of its own. */
  shape: Shape;
  /** The axes that are reduced, of that shape. */
  axes: number[];
  /** The shape in which parameters stretch over the input. */
  parameters: (shape: Shape) => number[];
}

const trailing = (x: Tensor, { count }: NormAttributes): Rows => ({
  shape: x.shape,
  axes: Array.from({ length: count }, (_, i) => x.rank - count + i),
  parameters: (shape) => [...shape],
});
const channels =
  (x: Tensor) =>
  (shape: Shape): number[] => [...shape, ...new Array<number>(Math.max(x.rank - 2, 0)).fill(1)];
const groups = (x: Tensor, { count }: NormAttributes): Rows => {
  const [batch, width, ...places] = x.shape as [number, number, ...number[]];
  const own = places.reduce((a, b) => a * b, width / count);
  return { shape: [batch, count, own], axes: [2], parameters: channels(x) };
};
const samples = (x: Tensor): Rows => ({
  shape: x.shape,
  axes: x.shape.flatMap((_, axis) => (axis === 1 ? [] : [axis])),
  parameters: channels(x),
});

function recordedNorm(
  op: keyof typeof normOps,
  rowsOf: (x: Tensor, attributes: NormAttributes) => Rows,
): void {
  const centered = op !== 'rmsNorm';
  const rule: Rule<NormAttributes> = (dout, saved, attributes, needs) => {
    const found = savedOf(saved, centered);
    const wide = found.x.dtype === 'float64' ? 'float64' : 'float32';
    const [x, dy] = [found.x.to(wide), dout.to(wide)];
    const rows = rowsOf(x, attributes);
    const inRows = (t: Tensor): Tensor => reshape(t, rows.shape);
    const mean1 = (t: Tensor): Tensor => mean(t, rows.axes, true);
    const given = op === 'batchNorm' && !attributes.training;
    const fixed = (t: Tensor): Tensor => reshape(t, rows.parameters(t.shape));
    const row = inRows(x);
    let center = row;
    if (given) center = sub(row, fixed(found.mean));
    else if (centered) center = sub(row, mean1(row));
    const rstd = given ? fixed(found.rstd) : rsqrt(add(mean1(square(center)), attributes.eps));
    const hat = mul(center, rstd);
    const weight =
      found.weight && reshape(found.weight.to(wide), rows.parameters(found.weight.shape));
    const g = inRows(weight ? mul(dy, weight) : dy);
    const gradients: Gradient[] = [null];
    if (needs[0]) {
      let slope = g;
      if (!given) {
        slope = sub(slope, mul(hat, mean1(mul(g, hat))));
        if (centered) slope = sub(slope, mean1(g));
      }
      gradients[0] = reshape(mul(slope, rstd), x.shape);
    }
    const total = (t: Tensor, shape: Shape): Tensor => {
      const over = rows.parameters(shape);
      const lead = x.rank - over.length;
      const axes = x.shape.flatMap((_, i) => (i < lead || over[i - lead] === 1 ? [i] : []));
      return reshape(sum(t, axes), shape);
    };
    if (attributes.weight) {
      const product = mul(dy, reshape(hat, x.shape));
      gradients.push(needs[1] ? total(product, attributes.weight) : null);
    }
    if (attributes.bias) gradients.push(needs[2] ? total(dy, attributes.bias) : null);
    return gradients;
  };
  differentiable(normOps[op].gradient as Rule<NormAttributes>, rule);
}

recordedNorm('layerNorm', trailing);
recordedNorm('rmsNorm', trailing);
recordedNorm('groupNorm', groups);
recordedNorm('batchNorm', samples);
