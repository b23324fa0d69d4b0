/** Dropout, one kernel forward and one backward; the choice is kept as a byte per element. */
import { type Rule, record } from '../autograd.js';
import { describe, expectBoolean, expectRange, expectTensor } from '../check.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { addMethods, type OpRows, ruleOf } from './define.js';
import { defaultGenerator, Generator } from './random.js';

declare module '../native.js' {
  interface NativeOps {
    dropout(x: Handle, state: Handle, p: number): void;
  }
  interface NativeKernels {
    dropoutBackward(mask: Handle, dy: Handle, p: number): void;
  }
}

const dropoutRule: Rule<number> = (dout, [mask], p) => {
  native.dropoutBackward((mask as Tensor).h, dout.h, p);
  return [take(0, dout.device)];
};

export const dropoutOps: OpRows<'dropout'> = {
  dropout: {
    family: 'dropout',
    summary: 'x / (1 - p) with the probability 1 - p, else 0',
    dtypes: 'floating',
    gradient: dropoutRule,
  },
};

/**
 * x / (1 - p) with the probability 1 - p, else 0 (Srivastava et al., "Dropout", 2014). The same seed
 * chooses the same elements on every device; a captured step draws anew at each replay. Where not
 * training, or p is 0, it is x itself and nothing is drawn; where p is 1, all is 0.
 */
export function dropout(
  x: Tensor,
  p = 0.5,
  training = true,
  generator: Generator = defaultGenerator,
): Tensor {
  expectTensor('dropout', x, 'x');
  expectRange('dropout', 'p', p, 0, 1);
  expectBoolean('dropout', 'training', training);
  if (!(generator instanceof Generator)) {
    throw new TypeError(`dropout: generator must be a Generator, got ${describe(generator)}`);
  }
  if (!training || p === 0) return x;
  native.dropout(x.h, generator.state(x.device).h, p);
  const out = take(0, x.device);
  const mask = take(1, x.device);
  return record('dropout', ruleOf(dropoutOps.dropout), out, [x], () => [mask], p);
}

declare module '../tensor.js' {
  interface Tensor {
    /**
     * x/(1 − p) with the probability 1 − p, else 0; x itself where not training. See {@link
     * dropout}.
     */
    dropout(p?: number, training?: boolean, generator?: Generator): Tensor;
  }
}

addMethods({
  dropout(p?: number, training?: boolean, generator?: Generator) {
    return dropout(this, p, training, generator);
  },
});
