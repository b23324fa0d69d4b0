/**
 * Rotary positions, one kernel forward and the same one backward; core/families/rotary.h has the
 * formula.
 */
import { differentiable, type Rule, record } from '../autograd.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { type OpRows, ruleOf } from './define.js';

declare module '../native.js' {
  interface NativeOps {
    rotary(x: Handle, cosines: Handle, sines: Handle, offset: number, inverse: boolean): void;
  }
}

interface Turn {
  offset: number;
  inverse: boolean;
}

// The gradient turns back, by an op that is recorded in its turn.
const rotaryRule: Rule<Turn> = differentiable((dout, [cosines, sines], { offset, inverse }) => [
  turned(dout, cosines as Tensor, sines as Tensor, { offset, inverse: !inverse }),
]);

export const rotaryOps: OpRows<'rotary'> = {
  rotary: {
    family: 'rotary',
    summary: 'pairs of columns, half a row apart, turned by the angles of their positions',
    dtypes: 'floating',
    gradient: rotaryRule,
  },
};

function turned(x: Tensor, cosines: Tensor, sines: Tensor, turn: Turn): Tensor {
  native.rotary(x.h, cosines.h, sines.h, turn.offset, turn.inverse);
  const out = take(0, x.device);
  return record('rotary', ruleOf(rotaryOps.rotary), out, [x], () => [cosines, sines], turn);
}

/**
 * x [..., T, D] with columns i and i + D/2 turned by the angle whose cosine and sine are element
 * [offset + t, i] of the tables [length, D/2], to which no gradient flows.
 */
export function rotary(x: Tensor, cosines: Tensor, sines: Tensor, offset = 0): Tensor {
  return turned(x, cosines, sines, { offset, inverse: false });
}
