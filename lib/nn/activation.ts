/** Activations as modules. */
import { expectInteger } from '../check.js';
import { logSoftmax, softmax } from '../ops/softmax.js';
import * as unary from '../ops/unary.js';
import { flatten } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import { Module } from './module.js';

/** max(x, 0) */
export class ReLU extends Module {
  forward(x: Tensor): Tensor {
    return unary.relu(x);
  }
}

/** 1 / (1 + e⁻ˣ) */
export class Sigmoid extends Module {
  forward(x: Tensor): Tensor {
    return unary.sigmoid(x);
  }
}

/** Hyperbolic tangent. */
export class Tanh extends Module {
  forward(x: Tensor): Tensor {
    return unary.tanh(x);
  }
}

/** x·Φ(x), the exact form. */
export class GELU extends Module {
  forward(x: Tensor): Tensor {
    return unary.gelu(x);
  }
}

/** x·sigmoid(x) */
export class SiLU extends Module {
  forward(x: Tensor): Tensor {
    return unary.silu(x);
  }
}

/** ln(1 + eˣ) */
export class Softplus extends Module {
  forward(x: Tensor): Tensor {
    return unary.softplus(x);
  }
}

/** eˣ / Σ eˣ over an axis, the last where left out. */
export class Softmax extends Module {
  constructor(readonly axis = -1) {
    super();
    expectInteger('Softmax', 'axis', axis);
  }
  forward(x: Tensor): Tensor {
    return softmax(x, this.axis);
  }
}

/** The logarithm of softmax over an axis, the last where left out. */
export class LogSoftmax extends Module {
  constructor(readonly axis = -1) {
    super();
    expectInteger('LogSoftmax', 'axis', axis);
  }
  forward(x: Tensor): Tensor {
    return logSoftmax(x, this.axis);
  }
}

/** Axes from `start` on as one; all but the batch where left out. */
export class Flatten extends Module {
  constructor(readonly start = 1) {
    super();
    expectInteger('Flatten', 'start', start);
  }
  forward(x: Tensor): Tensor {
    return flatten(x, this.start);
  }
}

/** The input itself. */
export class Identity extends Module {
  forward(x: Tensor): Tensor {
    return x;
  }
}
