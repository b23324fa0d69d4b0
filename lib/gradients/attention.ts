/** Attention's gradients by recorded ops, which keep all scores: see {@link composedGradients}. */
import { differentiable, type Rule } from '../autograd.js';
import { type AttentionAttributes, attentionOps, packedRule } from '../ops/attention.js';
import { composedGradients } from '../ops/attentionScores.js';
import { stack } from '../ops/movement.js';
import { permute, reshape, select } from '../ops/view.js';
import type { Tensor } from '../tensor.js';

type Operands = [Tensor, Tensor, Tensor];

/** `rest`: the mask, the padding, the lengths and the generator's state, those that there are. */
function gradients(
  operands: Operands,
  dout: Tensor,
  rest: readonly Tensor[],
  attributes: AttentionAttributes,
): Operands {
  const left = [...rest];
  const next = (there: boolean): Tensor | null => (there ? (left.shift() as Tensor) : null);
  const { causal, scale, keep } = attributes;
  const mask = next(attributes.mask);
  const padding = next(attributes.padding);
  const lengths = next(attributes.lengths);
  const settings = { mask, padding, lengths, causal, scale, dropout: 1 - keep };
  return composedGradients(operands, dout, settings, next(attributes.drawn) ?? undefined);
}

differentiable(
  attentionOps.scaledDotProductAttention.gradient as Rule<AttentionAttributes>,
  (dout, [q, k, v, , , ...rest], attributes) =>
    gradients([q, k, v] as Operands, dout, rest, attributes),
);

differentiable(packedRule, (dout, [whole, , , ...rest], { heads, ...attributes }) => {
  const packed = whole as Tensor;
  const [batch, length, width] = packed.shape as [number, number, number];
  const split = reshape(packed, [batch, length, 3, heads, width / 3 / heads]);
  const operands = [0, 1, 2].map((i) => permute(select(split, 2, i), [0, 2, 1, 3])) as Operands;
  const parts = gradients(operands, dout, rest, attributes);
  return [
    reshape(
      stack(
        parts.map((part) => permute(part, [0, 2, 1, 3])),
        2,
      ),
      packed.shape,
    ),
  ];
});
