/**
 * Ops that are linear in an input and whose rule calls a kernel of its own. Such a rule is linear in
 * the gradient, so the rule's own gradient is the op again, of gradients.
 */
import { differentiable, type Rule, record } from '../autograd.js';
import { noGrad } from '../context.js';
import { eq, mul, where } from '../ops/binary.js';
import type { OpRow } from '../ops/define.js';
import { dropoutOps } from '../ops/dropout.js';
import { type EmbeddingAttributes, embedding, embeddingOps } from '../ops/embedding.js';
import { gather } from '../ops/gather.js';
import { foldRule, movementOps } from '../ops/movement.js';
import { atPlaces, average, type PoolAttributes, poolOps } from '../ops/pool.js';
import { scanOps } from '../ops/scan.js';
import { type Line, sortOps } from '../ops/sort.js';
import { type Diagonal, diagonal, select, slice, viewOps } from '../ops/view.js';
import type { Shape, Tensor } from '../tensor.js';

/** The op by recorded ops, of a gradient in the place of its first input. */
type Again<A> = (ddx: Tensor, saved: readonly Tensor[], attributes: A) => Tensor;

/** Records the first gradient of a row's rule as an op whose own gradient is `again`. */
function linear<A>(name: string, row: OpRow, again: Again<A>): Rule<A> {
  const plain = row.gradient as Rule<A>;
  const back: Rule<{ saved: readonly Tensor[]; attributes: A }> = differentiable(
    (ddx, _, { saved, attributes }) => [again(ddx, saved, attributes)],
  );
  const recorded: Rule<A> = (dout, saved, attributes, needs) => {
    if (!needs[0]) return needs.map(() => null);
    const [found] = noGrad(() => plain(dout, saved, attributes, needs));
    const dx = (found && 'compute' in found ? found.compute() : found) as Tensor;
    // What the op saved is held by its own node, which the new one's inputs keep.
    return [record(name, back, dx, [dout], () => saved, { saved, attributes }), null];
  };
  differentiable(plain, recorded);
  return recorded;
}

interface Part {
  shape: Shape;
  axis: number;
  start: number;
  stop: number;
  step: number;
}
linear<Part>('slice', viewOps.slice, (ddx, _, { axis, start, stop, step }) =>
  slice(ddx, axis, start, stop, step),
);
linear<Part>('select', viewOps.select, (ddx, _, { axis, start }) => select(ddx, axis, start));
linear<Diagonal>('diagonal', viewOps.diagonal, (ddx, _, { offset, first, second }) =>
  diagonal(ddx, offset, first, second),
);
linear<Line>('sort', sortOps.sort, (ddx, [indices], { axis }) =>
  gather(ddx, axis, indices as Tensor),
);
export const recordedMaxPoolRule = linear<PoolAttributes>(
  'maxPool2d',
  poolOps.maxPool2d,
  (ddx, [index]) => atPlaces(ddx, index as Tensor),
);
linear<PoolAttributes>('avgPool2d', poolOps.avgPool2d, (ddx, _, { window, adaptive, countPad }) =>
  average(ddx, window, adaptive, countPad),
);
linear<EmbeddingAttributes>('embedding', embeddingOps.embedding, (ddx, [index], { padding }) => {
  const places = index as Tensor;
  const rows = embedding(ddx, places);
  return padding < 0 ? rows : where(eq(places, padding).unsqueeze(-1), 0, rows);
});

differentiable(dropoutOps.dropout.gradient as Rule<number>, (dout, [mask], p) => [
  mul(dout, mul((mask as Tensor).to(dout.dtype), p < 1 ? 1 / (1 - p) : 0)),
]);

// These are composed of recorded ops as they stand.
differentiable(foldRule);
for (const row of [...Object.values(movementOps), scanOps.cumsum, viewOps.diagEmbed]) {
  differentiable((row as OpRow).gradient as Rule);
}
