/** Gradients as methods of Tensor, and as functions of functions. */
import { type GradientHook, gradientState, needsGradient } from './autograd.js';
import { type BackwardOptions, backward, grad } from './backward.js';
import { describe, expectFunction, expectTensor } from './check.js';
import { isFloating } from './dtype.js';
import './gradients/second.js';
import { observe } from './guards.js';
import { addGetters, addMethods } from './ops/define.js';
import { Tensor } from './tensor.js';

/** Something with parameters by name, as modules are. */
export interface HasParameters {
  namedParameters(): Iterable<[string, Tensor]>;
}

/** What registering a hook returns. */
export interface HookHandle {
  /** Takes the hook away. */
  remove(): void;
}

/** Gradients by parameter name. */
export type Gradients = Map<string, Tensor>;

/**
 * A function that computes `fn` and the gradients of its result with respect to the parameters of
 * `model`, without touching `parameter.grad`. Give the gradients to `optimizer.apply`.
 * @param fn returns one tensor of one element: the loss
 * @example
 * const step = valueAndGrad(model, (x, y) => loss(model.forward(x), y));
 * const { value, gradients } = step(x, y);
 * optimizer.apply(gradients);
 */
export function valueAndGrad<A extends unknown[]>(
  model: HasParameters,
  fn: (...args: A) => Tensor,
): (...args: A) => { value: Tensor; gradients: Gradients } {
  if (typeof model?.namedParameters !== 'function') {
    throw new TypeError(`valueAndGrad: model must have parameters, got ${describe(model)}`);
  }
  expectFunction('valueAndGrad', 'fn', fn);
  return (...args) => {
    const value = expectTensor('valueAndGrad', fn(...args), 'the result of the function');
    const named = [...model.namedParameters()].filter(([, p]) => p.requiresGrad);
    const gradients = grad(
      value,
      named.map(([, parameter]) => parameter),
    );
    return { value, gradients: new Map(named.map(([name], i) => [name, gradients[i] as Tensor])) };
  };
}

declare module './tensor.js' {
  interface Tensor {
    /** Whether a gradient of this tensor can be had: a leaf that requires one, or computed from such. */
    readonly requiresGrad: boolean;
    /** The gradient that backward() gathered; null where there is none. */
    readonly grad: Tensor | null;
    /** Makes a leaf require a gradient, or no longer (freezing it). Returns the tensor. */
    requireGrad(flag?: boolean): Tensor;
    /** Computes the gradients of every leaf this tensor depends on and adds them to their `grad`. */
    backward(dout?: Tensor, options?: BackwardOptions): void;
    /** Makes backward() keep the gradient of this computed tensor, too. Returns the tensor. */
    retainGrad(): Tensor;
    /** Calls `hook` with each gradient of this tensor; what it returns, if anything, replaces it. */
    onGrad(hook: GradientHook): () => void;
    /** As {@link onGrad}, with a handle whose `remove()` ends it. */
    registerHook(hook: GradientHook): HookHandle;
    /** Forgets the gradient; its buffer is used again. */
    zeroGrad(): void;
  }
}

addGetters({
  requiresGrad() {
    return needsGradient(this);
  },
  grad() {
    const state = this.gradient;
    return state?.filled ? state.buffer : null;
  },
});

addMethods({
  requireGrad(flag = true) {
    if (this.node) {
      throw new Error('requireGrad: only leaves can be told; use detach() on a computed tensor');
    }
    if (flag && !isFloating(this.dtype)) {
      throw new TypeError(`requireGrad: needs a floating dtype, got ${this.dtype}`);
    }
    // What did not exist before is no state that a captured step could have found.
    if (this.gradient) observe(this.gradient, 'required');
    gradientState(this).required = flag;
    return this;
  },
  backward(dout?: Tensor, options?: BackwardOptions) {
    backward(this, dout, options);
  },
  retainGrad() {
    if (this.node) this.node.retained = this;
    return this;
  },
  onGrad(hook: GradientHook) {
    expectFunction('onGrad', 'the hook', hook);
    const place = this.node ?? gradientState(this);
    // The same function may be there twice.
    const own: GradientHook = (gradient) => hook(gradient);
    observe(place, 'hooks');
    place.hooks = [...place.hooks, own];
    return () => {
      observe(place, 'hooks');
      place.hooks = place.hooks.filter((other) => other !== own);
    };
  },
  registerHook(hook: GradientHook): HookHandle {
    return { remove: this.onGrad(expectFunction('registerHook', 'the hook', hook)) };
  },
  zeroGrad() {
    const state = this.gradient;
    if (!state) return;
    observe(state, 'filled');
    state.filled = false;
  },
});

/** @internal A tensor that modules own: kept, persistent, a leaf that requires a gradient. */
export function makeParameter(tensor: Tensor): Tensor {
  if (!(tensor instanceof Tensor) || tensor.node) {
    throw new TypeError(`parameter: must be a leaf tensor, got ${describe(tensor)}`);
  }
  return tensor.persist().requireGrad();
}
