/** Dropout as modules: active in training, the identity in evaluation. */
import { expectRange, expectTensor } from '../check.js';
import { mul } from '../ops/binary.js';
import { dropout } from '../ops/dropout.js';
import { ones } from '../ops/fill.js';
import { bernoulli } from '../ops/random.js';
import type { Tensor } from '../tensor.js';
import { Module } from './module.js';

/** Zeroes each element with the probability p in training and scales the others by 1 / (1 - p). */
export class Dropout extends Module {
  /** @param p in [0, 1] */
  constructor(readonly p = 0.5) {
    super();
    expectRange(this.constructor.name, 'p', p, 0, 1);
  }

  forward(x: Tensor): Tensor {
    return dropout(x, this.p, this.training);
  }

  protected override describe(): string {
    return `p = ${this.p}`;
  }
}

/** x with whole channels zeroed: a factor per sample and channel. */
function dropChannels(name: string, x: Tensor, rank: number, p: number): Tensor {
  expectTensor(name, x, 'x');
  if (x.rank !== rank && x.rank !== rank - 1) {
    throw new RangeError(
      `${name}: needs a tensor of rank ${rank - 1} or ${rank}, got [${x.shape}]`,
    );
  }
  if (p === 0) return x;
  const kept = x.rank - rank + 2;
  const shape = x.shape.map((size, axis) => (axis < kept ? size : 1));
  return mul(x, dropout(ones(shape, { dtype: x.dtype, device: x.device }), p));
}

// What selu tends to at -∞.
const low = -1.7580993408473766;

/**
 * Dropout for selu: in training each element becomes selu's lower limit with the probability p, and
 * all are scaled and shifted so that mean 0 and variance 1 stay (Klambauer et al., 2017).
 */
export class AlphaDropout extends Dropout {
  override forward(x: Tensor): Tensor {
    const { p } = this;
    expectTensor('AlphaDropout', x, 'x');
    if (!this.training || p === 0) return x;
    if (p === 1) return mul(x, 0);
    const scale = 1 / Math.sqrt((1 - p) * (1 + p * low * low));
    const { dtype, device } = x;
    const kept = bernoulli(x.shape, 1 - p, { dtype, device });
    const shift = mul(kept, -scale * low).add(scale * low * (1 - p));
    return mul(x, mul(kept, scale)).add(shift);
  }
}

/** Zeroes whole channels of [N, C, L] or [C, L] with the probability p in training. */
export class Dropout1d extends Dropout {
  override forward(x: Tensor): Tensor {
    return this.training ? dropChannels('Dropout1d', x, 3, this.p) : x;
  }
}

/** Zeroes whole channels of [N, C, H, W] or [C, H, W] with the probability p in training. */
export class Dropout2d extends Dropout {
  override forward(x: Tensor): Tensor {
    return this.training ? dropChannels('Dropout2d', x, 4, this.p) : x;
  }
}
