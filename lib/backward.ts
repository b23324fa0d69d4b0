/**
 * backward(): walks the tape from the newest node to the oldest. Rules know nothing of accumulation
 * or broadcasting: this file alone sums gradients and reduces them to the shape of what they belong
 * to. It frees the graph as it goes: saved tensors are given back at once.
 *
 * With createGraph the rules' own ops are recorded, so that the gradient can be differentiated.
 */
import {
  type DeferredGradient,
  destination,
  type Gradient,
  type GradientHook,
  type GradientState,
  Node,
  recordedRule,
} from './autograd.js';
import { describe, expectBoolean, expectOptions, expectTensor } from './check.js';
import { type Context, context, runInContext, withContext } from './context.js';
import { type DType, dtypeCode } from './dtype.js';
import { observe, observed } from './guards.js';
import { native } from './native.js';
import { add } from './ops/binary.js';
import { cast } from './ops/copy.js';
import { sum } from './ops/reduce.js';
import { alias, reshape } from './ops/view.js';
import { Scope } from './scope.js';
import { type Shape, sameShape, Tensor, take } from './tensor.js';

/** What a gradient must look like: that of the tensor or the node's output it belongs to. */
interface Form {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** Sums a gradient over the axes that broadcasting had added or stretched, and casts it. */
function fitTo(gradient: Tensor, { shape, dtype }: Form, recorded = false): Tensor {
  let fitted = gradient;
  if (!sameShape(gradient.shape, shape)) {
    const lead = gradient.rank - shape.length;
    const axes: number[] = [];
    for (let i = 0; i < gradient.rank; ++i) {
      if (i < lead || (shape[i - lead] === 1 && gradient.shape[i] !== 1)) axes.push(i);
    }
    if (recorded) {
      fitted = reshape(sum(gradient, axes, true), shape);
    } else {
      let mask = 0;
      for (const axis of axes) mask += 2 ** axis;
      native.sum(gradient.h, mask, true);
      fitted = take(0, gradient.device);
      if (lead > 0) {
        native.reshape(fitted.h, shape);
        fitted = take(0, gradient.device);
      }
    }
  }
  if (fitted.dtype !== dtype) {
    if (recorded) return cast(fitted, dtype);
    native.cast(fitted.h, dtypeCode('backward', dtype));
    fitted = take(0, gradient.device);
  }
  return fitted;
}

function sumOf(a: Tensor, b: Tensor, recorded: boolean): Tensor {
  if (recorded) return add(a, b);
  native.add(a.h, b.h);
  return take(0, a.device);
}

function computed(gradient: Tensor | DeferredGradient): Tensor {
  return gradient instanceof Tensor ? gradient : gradient.compute();
}

function withHooks(gradient: Tensor, hooks: readonly GradientHook[]): Tensor {
  let result = gradient;
  for (const hook of hooks) {
    const replaced: unknown = runInContext(context(), () => hook(result)) ?? result;
    if (!(replaced instanceof Tensor) || !sameShape(replaced.shape, gradient.shape)) {
      throw new TypeError(
        `onGrad: a hook must return a tensor of the shape [${gradient.shape}] or nothing, ` +
          `got ${describe(replaced)}`,
      );
    }
    result = replaced;
  }
  return result;
}

/** Adds a gradient to a leaf's persistent buffer. */
function accumulate(leaf: Tensor, gradient: Tensor | DeferredGradient, outer: Context): void {
  const state = leaf.gradient as GradientState;
  if (observed()) {
    observe(state, 'filled');
    observe(state, 'buffer');
    observe(state, 'hooks');
  }
  const plain = state.hooks.length > 0 ? withHooks(computed(gradient), state.hooks) : gradient;
  if (!state.buffer) {
    native.clone(fitTo(computed(plain), leaf).h);
    state.buffer = take(0, leaf.device, { ...outer, scope: null });
    state.buffer.persistent = true;
  } else if (plain instanceof Tensor || !plain.into(state.buffer, state.filled)) {
    const tensor = fitTo(computed(plain), leaf);
    if (state.filled) native.addInto(state.buffer.h, tensor.h);
    else native.copyInto(state.buffer.h, tensor.h);
  }
  ++state.buffer.version;
  state.filled = true;
}

export interface BackwardOptions {
  /** Keep the graph for another backward(). */
  retainGraph?: boolean;
}

export interface GradOptions extends BackwardOptions {
  /**
   * Record the computation of the gradients, so that they can be differentiated in their turn;
   * keeps the graph, too. Recurrent layers (`rnn`) and `checkpoint` refuse it. Attention keeps all
   * its scores for it.
   */
  createGraph?: boolean;
}

type Sink = (leaf: Tensor, gradient: Tensor | DeferredGradient) => void;
/** Sees the gradients of a node's inputs, as anomaly detection does. */
export type BackwardWatcher = (node: Node, gradients: readonly Gradient[]) => readonly Gradient[];

let watcher: BackwardWatcher | null = null;
export function setBackwardWatcher(next: BackwardWatcher | null): void {
  watcher = next;
}

/** One walk over the tape. */
interface Walk {
  readonly outer: Context;
  readonly sink: Sink;
  readonly retainGraph: boolean;
  /** Whether the rules are recorded. */
  readonly recorded: boolean;
  /** Called with the whole gradient of computed tensors that were asked for. */
  readonly wanted: ReadonlyMap<Node, (dout: Tensor) => void>;
}

let current: Walk | null = null;

/** The walk under way, by which one can be told from another. */
export function currentWalk(): object | null {
  return current;
}

/** Whether backward() is running. */
export function walking(): boolean {
  return current !== null;
}

function reachable(starts: readonly Node[]): Node[] {
  const found = new Set<Node>(starts);
  for (const node of found) {
    for (const parent of node.parents) {
      if (parent instanceof Node && !parent.consumed) found.add(parent);
    }
  }
  return [...found].sort((a, b) => b.id - a.id);
}

function arrive(node: Node, part: Tensor, recorded: boolean): void {
  const before = node.pending;
  node.pending = before ? sumOf(before, part, recorded) : part;
  node.pending.hold();
  before?.unhold();
}

function visit(node: Node, walk: Walk): void {
  const { recorded, retainGraph, sink } = walk;
  let dout = node.pending as Tensor;
  const revived = dout.revive();
  if (node.hooks.length > 0) dout = withHooks(dout, node.hooks);
  if (node.retained) setRetained(node.retained, dout, walk.outer);
  walk.wanted.get(node)?.(dout);
  const rule = recorded ? recordedRule(node) : node.rule;
  node.run(dout, rule, recorded, !recorded && !retainGraph, (found) => {
    const gradients = watcher === null ? found : watcher(node, found);
    for (let i = 0; i < node.parents.length; ++i) {
      const parent = node.parents[i];
      const gradient = gradients[i];
      if (!parent || !gradient) continue;
      if (parent instanceof Tensor) sink(parent, gradient);
      else arrive(parent, fitTo(computed(gradient), parent, recorded), recorded);
    }
  });
  if (revived) node.pending?.retire();
}

function propagate(roots: readonly Node[], walk: Walk): void {
  const order = reachable(roots);
  const own = context().scope as Scope;
  // Freeing a node lets go of those before it, which are still to be visited.
  for (const node of order) node.retain();
  // Not a mark per node: a gradient that one node leaves to another is released after that one.
  const mark = walk.recorded ? 0 : own.mark();
  const before = current;
  current = walk;
  try {
    for (const node of order) {
      if (!node.pending) continue;
      visit(node, walk);
      node.pending.unhold();
      node.pending = null;
      if (!walk.retainGraph) node.free();
      if (!walk.recorded) own.releaseSince(mark);
    }
  } finally {
    current = before;
    for (const node of order) {
      node.pending?.unhold();
      node.pending = null;
      node.drop();
    }
  }
}

function setRetained(tensor: Tensor, dout: Tensor, outer: Context): void {
  native.clone(dout.h);
  tensor.gradient = {
    required: false,
    buffer: take(0, dout.device, outer),
    filled: true,
    hooks: [],
  };
}

function seedOf(output: Tensor, dout: Tensor | undefined): Tensor {
  if (dout !== undefined) {
    expectTensor('backward', dout, 'the gradient');
    if (dout.dtype !== output.dtype || dout.device !== output.device) {
      throw new TypeError(
        `backward: the gradient must be ${output.dtype} on ${output.device}, ` +
          `got ${dout.dtype} on ${dout.device}`,
      );
    }
    if (!sameShape(dout.shape, output.shape)) {
      throw new RangeError(
        `backward: the gradient must have the shape [${output.shape}], got [${dout.shape}]`,
      );
    }
    return dout;
  }
  if (output.size !== 1) {
    throw new RangeError(
      `backward: needs a tensor of one element or a gradient, got shape [${output.shape}]`,
    );
  }
  native.full(output.device.code, output.shape, 1, dtypeCode('backward', output.dtype));
  return take(0, output.device);
}

/** Walks from outputs with their gradients; gradients of leaves go to the sink. */
function walkFrom(outputs: readonly Tensor[], seeds: readonly Tensor[], walk: Walk): void {
  const roots: Node[] = [];
  for (const [i, output] of outputs.entries()) {
    const to = destination(output);
    const seed = seeds[i] as Tensor;
    if (to instanceof Tensor) walk.sink(to, seed);
    if (!(to instanceof Node)) continue;
    arrive(to, seed, walk.recorded);
    roots.push(to);
  }
  propagate(roots, walk);
}

/** Runs code as part of backward(): what it makes is released afterwards, unless it is recorded. */
function inWalk(outer: Context, recorded: boolean, fn: () => void): void {
  if (recorded) {
    withContext({ ...outer, grad: true, autocast: null }, fn);
    return;
  }
  const inner = new Scope({ ...outer, grad: false, autocast: null, probe: null });
  withContext(inner.context, () => {
    try {
      fn();
    } finally {
      inner.close();
    }
  });
}

function run(output: Tensor, dout: Tensor | undefined, walk: Walk): void {
  if (destination(output) === null) {
    throw new Error(
      'backward: the tensor has no graph: nothing it was computed from requires gradients, it was ' +
        'computed under noGrad, or an earlier backward() freed the graph (see retainGraph)',
    );
  }
  inWalk(walk.outer, walk.recorded, () => walkFrom([output], [seedOf(output, dout)], walk));
}

/**
 * Computes the gradients of every leaf that `output` depends on and adds them to `leaf.grad`.
 * @param dout the gradient of the output; may be left out for a single element
 */
export function backward(output: Tensor, dout?: Tensor, options: BackwardOptions = {}): void {
  expectTensor('backward', output, 'the output');
  const { retainGraph = false } = expectOptions('backward', options, ['retainGraph']);
  const outer = context();
  run(output, dout, {
    outer,
    retainGraph,
    recorded: false,
    wanted: new Map(),
    sink: (leaf, gradient) => accumulate(leaf, gradient, outer),
  });
}

/**
 * Inside a rule: walks a graph that the rule has just made. Gradients of `inputs` are returned
 * (null where there is none), those of other leaves go where the walk under way sends them.
 */
export function nestedGradients(
  outputs: readonly Tensor[],
  douts: readonly Tensor[],
  inputs: readonly Tensor[],
): (Tensor | null)[] {
  const around = current;
  if (!around) throw new Error('backward: a nested walk needs one around it');
  const found = new Map<Tensor, Tensor>();
  const { outer } = around;
  const holder = context();
  const sink: Sink = (leaf, gradient) => {
    if (!inputs.includes(leaf)) {
      around.sink(leaf, gradient);
      return;
    }
    const part = fitTo(computed(gradient), leaf);
    const before = found.get(leaf);
    if (before) native.add(before.h, part.h);
    else native.alias(part.h);
    found.set(leaf, take(0, leaf.device, holder));
  };
  inWalk(holder, false, () =>
    walkFrom(outputs, douts, { ...around, outer, sink, retainGraph: false, recorded: false }),
  );
  return inputs.map((input) => found.get(input) ?? null);
}

function expectInputs(inputs: readonly Tensor[]): void {
  if (!Array.isArray(inputs)) {
    throw new TypeError(`grad: inputs must be an array of tensors, got ${describe(inputs)}`);
  }
  for (const input of inputs) {
    if (destination(expectTensor('grad', input, 'each input')) === null) {
      throw new Error('grad: inputs must require gradients: leaves, or computed from such');
    }
  }
}

/**
 * The gradients of `output` with respect to `inputs` (tensors that require gradients, computed ones
 * too), returned instead of accumulated. Inputs that the output does not depend on get zeros.
 * @example
 * const [dx] = grad(critic.forward(x).sum(), [x], undefined, { createGraph: true });
 * const penalty = dx.square().sum(1).sqrt().sub(1).square().mean();
 */
export function grad(
  output: Tensor,
  inputs: readonly Tensor[],
  dout?: Tensor,
  options: GradOptions = {},
): Tensor[] {
  expectTensor('grad', output, 'the output');
  const { createGraph = false, retainGraph = createGraph } = expectOptions('grad', options, [
    'createGraph',
    'retainGraph',
  ]);
  expectBoolean('grad', 'createGraph', createGraph);
  expectInputs(inputs);
  const outer = context();
  const found = new Map<Node | Tensor, Tensor>();
  const keep = (place: Node | Tensor, part: Tensor): void => {
    const before = found.get(place);
    if (createGraph) {
      found.set(place, before ? add(before, part) : alias(part));
      return;
    }
    if (before) native.add(before.h, part.h);
    else native.clone(part.h);
    found.set(place, take(0, part.device, outer));
  };
  const places = inputs.map((input) => destination(input) as Node | Tensor);
  const wanted = new Map<Node, (dout: Tensor) => void>();
  for (const place of places) {
    if (place instanceof Node) wanted.set(place, (gradient) => keep(place, gradient));
  }
  run(output, dout, {
    outer,
    retainGraph,
    recorded: createGraph,
    wanted,
    sink: (leaf, gradient) => {
      if (places.includes(leaf)) keep(leaf, fitTo(computed(gradient), leaf, createGraph));
    },
  });
  return inputs.map((input, i) => {
    const gradient = found.get(places[i] as Node | Tensor);
    if (gradient) return gradient;
    native.clone(input.h);
    const zeros = take(0, input.device, outer);
    native.fillInto(zeros.h, 0);
    return zeros;
  });
}
