/**
 * Reverse-mode differentiation. Every op that has a gradient rule records a node; backward() walks
 * the nodes from the newest to the oldest. Rules know nothing of accumulation or broadcasting:
 * this file alone sums gradients and reduces them to the shape of what they belong to.
 *
 * backward() frees the graph as it goes: saved tensors are given back at once, and a tensor whose
 * graph is gone is a constant from then on (so a running sum of losses does not grow a graph).
 */
import { describe, expectOptions, expectTensor } from './check.js';
import { type Context, context, withContext } from './context.js';
import { type DType, dtypeCode } from './dtype.js';
import { observe, observed } from './guards.js';
import { native } from './native.js';
import { Scope } from './scope.js';
import { type Shape, Tensor, take } from './tensor.js';

/** A gradient that can be computed straight into where it belongs, saving a pass over memory. */
export interface DeferredGradient {
  compute(): Tensor;
  /** Writes into `out`, or adds to it; false where it cannot add. */
  into(out: Tensor, accumulate: boolean): boolean;
}
/** What a rule returns for one input; null where the input needs none. */
export type Gradient = Tensor | DeferredGradient | null;

/**
 * The gradient rule of an op: from the gradient of the output to those of the inputs. `saved` are
 * the tensors that the op recorded, `needs[i]` whether input i wants a gradient.
 */
export type Rule<Attributes = unknown> = (
  dout: Tensor,
  saved: readonly Tensor[],
  attributes: Attributes,
  needs: readonly boolean[],
) => readonly Gradient[];

/** What a leaf keeps of its gradient. */
export interface GradientState {
  /** Whether backward() accumulates a gradient here. */
  required: boolean;
  /** A persistent buffer, so that captured steps find it where they left it. */
  buffer: Tensor | null;
  /** Whether the buffer holds a gradient; false after zeroGrad(). */
  filled: boolean;
  hooks: GradientHook[];
}

/** Called with a gradient; what it returns, if anything, replaces it. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook may return nothing
export type GradientHook = (gradient: Tensor) => Tensor | void;

let serial = 0;

export class Node {
  readonly id = ++serial;
  consumed = false;
  /** The output's gradient, while backward() gathers it. */
  pending: Tensor | null = null;
  /** The output itself, where its gradient is to be kept. */
  retained: Tensor | null = null;
  hooks: GradientHook[] | null = null;
  // Live tensors with this node, and younger nodes that lead to it.
  private references = 1;
  private readonly versions: number[];

  constructor(
    readonly name: string,
    readonly rule: Rule,
    readonly attributes: unknown,
    /** Per input: the node that made it, the leaf itself, or null where no gradient is wanted. */
    readonly parents: (Node | Tensor | null)[],
    readonly saved: readonly Tensor[],
    /** The output's form, which its gradient must have. */
    readonly shape: Shape,
    readonly dtype: DType,
  ) {
    for (const parent of parents) if (parent instanceof Node) ++parent.references;
    for (const tensor of saved) tensor.hold();
    this.versions = saved.map((tensor) => tensor.version);
  }

  /** One reference more, as backward() takes on every node it is to visit. */
  retain(): void {
    ++this.references;
  }

  /** One reference less; the last one frees the saved tensors. */
  drop(): void {
    if (--this.references === 0) this.free();
  }

  /** Whether no leaf can be reached any more; such a node is freed. */
  dead(): boolean {
    if (this.consumed) return true;
    for (const parent of this.parents) {
      if (parent instanceof Tensor || (parent && !parent.consumed)) return false;
    }
    this.free();
    return true;
  }

  free(): void {
    if (this.consumed) return;
    this.consumed = true;
    for (const tensor of this.saved) tensor.unhold();
    for (let i = 0; i < this.parents.length; ++i) {
      const parent = this.parents[i];
      if (parent instanceof Node) parent.drop();
      this.parents[i] = null;
    }
    (this as { saved: readonly Tensor[] }).saved = [];
    this.retained = null;
  }

  run(dout: Tensor): readonly Gradient[] {
    const revived: Tensor[] = [];
    for (let i = 0; i < this.saved.length; ++i) {
      const tensor = this.saved[i] as Tensor;
      if (tensor.version !== this.versions[i]) {
        throw new Error(
          `backward: a tensor that ${this.name} needs was changed in place after it was used`,
        );
      }
      if (tensor.revive()) revived.push(tensor);
    }
    try {
      return this.rule(
        dout,
        this.saved,
        this.attributes,
        this.parents.map((parent) => parent !== null),
      );
    } finally {
      for (const tensor of revived) tensor.retire();
    }
  }
}

/** Where a gradient for this tensor would go: its node, the leaf itself, or nowhere. */
function destination(tensor: Tensor): Node | Tensor | null {
  const { node } = tensor;
  if (node) {
    if (!node.dead()) return node;
    tensor.node = null;
    node.drop();
    return null;
  }
  const state = tensor.gradient;
  if (!state) return null;
  if (observed()) observe(state, 'required');
  return state.required ? tensor : null;
}

/** Whether backward() from this tensor reaches anything. */
export function needsGradient(tensor: Tensor): boolean {
  return destination(tensor) !== null;
}

/**
 * Records an op. Every op calls it with its output; it also notes whether the output must outlive
 * its iteration (see lib/scope.ts).
 * @param saves what the rule needs; called only if the op is recorded
 */
export function record<A>(
  name: string,
  rule: Rule<A> | null,
  output: Tensor,
  inputs: readonly Tensor[],
  saves: (() => readonly Tensor[]) | null,
  attributes: A,
): Tensor {
  const current = context();
  const iteration = current.scope?.iteration;
  if (iteration) {
    for (const input of inputs) {
      if (input.carried || (!input.persistent && input.scope?.iteration !== iteration)) {
        output.carried = true;
        break;
      }
    }
  }
  if (!current.grad || rule === null) return output;
  let parents: (Node | Tensor | null)[] | null = null;
  for (let i = 0; i < inputs.length; ++i) {
    const to = destination(inputs[i] as Tensor);
    if (to === null) continue;
    parents ??= new Array(inputs.length).fill(null);
    parents[i] = to;
  }
  if (parents === null) return output;
  output.node = new Node(
    name,
    rule as Rule,
    attributes,
    parents,
    saves ? saves() : [],
    output.shape,
    output.dtype,
  );
  return output;
}

function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; ++i) if (a[i] !== b[i]) return false;
  return true;
}

/** What a gradient must look like: that of the tensor or the node's output it belongs to. */
interface Form {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** Sums a gradient over the axes that broadcasting had added or stretched, and casts it. */
function fitTo(gradient: Tensor, { shape, dtype }: Form): Tensor {
  let fitted = gradient;
  if (!sameShape(gradient.shape, shape)) {
    const lead = gradient.rank - shape.length;
    let axes = 0;
    for (let i = 0; i < gradient.rank; ++i) {
      if (i < lead || (shape[i - lead] === 1 && gradient.shape[i] !== 1)) axes += 2 ** i;
    }
    native.sum(gradient.h, axes, true);
    fitted = take(0, gradient.device);
    if (lead > 0) {
      native.reshape(fitted.h, shape);
      fitted = take(0, gradient.device);
    }
  }
  if (fitted.dtype !== dtype) {
    native.cast(fitted.h, dtypeCode('backward', dtype));
    fitted = take(0, gradient.device);
  }
  return fitted;
}

function sumOf(a: Tensor, b: Tensor): Tensor {
  native.add(a.h, b.h);
  return take(0, a.device);
}

function computed(gradient: Tensor | DeferredGradient): Tensor {
  return gradient instanceof Tensor ? gradient : gradient.compute();
}

function withHooks(gradient: Tensor, hooks: readonly GradientHook[] | null): Tensor {
  let result = gradient;
  for (const hook of hooks ?? []) {
    const replaced: unknown = hook(result) ?? result;
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

type Sink = (leaf: Tensor, gradient: Tensor | DeferredGradient) => void;

function reachable(start: Node): Node[] {
  const found = new Set<Node>([start]);
  for (const node of found) {
    for (const parent of node.parents) {
      if (parent instanceof Node && !parent.consumed) found.add(parent);
    }
  }
  return [...found].sort((a, b) => b.id - a.id);
}

function propagate(root: Node, seed: Tensor, retainGraph: boolean, outer: Context, sink: Sink) {
  const order = reachable(root);
  const own = context().scope as Scope;
  // Freeing a node lets go of those before it, which are still to be visited.
  for (const node of order) node.retain();
  root.pending = seed;
  seed.hold();
  try {
    for (const node of order) {
      let dout = node.pending;
      if (!dout) continue;
      const mark = own.mark();
      const revived = dout.revive();
      if (node.hooks) dout = withHooks(dout, node.hooks);
      if (node.retained) setRetained(node.retained, dout, outer);
      const gradients = node.run(dout);
      for (let i = 0; i < node.parents.length; ++i) {
        const parent = node.parents[i];
        const gradient = gradients[i];
        if (!parent || !gradient) continue;
        if (parent instanceof Tensor) {
          sink(parent, gradient);
          continue;
        }
        const part = fitTo(computed(gradient), parent);
        const before: Tensor | null = parent.pending;
        parent.pending = before ? sumOf(before, part) : part;
        parent.pending.hold();
        before?.unhold();
      }
      if (revived) node.pending?.retire();
      node.pending?.unhold();
      node.pending = null;
      if (!retainGraph) node.free();
      own.releaseSince(mark);
    }
  } finally {
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

function run(output: Tensor, dout: Tensor | undefined, retainGraph: boolean, sink: Sink): void {
  const outer = context();
  const to = destination(output);
  if (to === null) {
    throw new Error(
      'backward: the tensor has no graph: nothing it was computed from requires gradients, it was ' +
        'computed under noGrad, or an earlier backward() freed the graph (see retainGraph)',
    );
  }
  const inner = new Scope({ scope: outer.scope, grad: false });
  withContext(inner.context, () => {
    try {
      const seed = seedOf(output, dout);
      if (to instanceof Tensor) sink(to, seed);
      else propagate(to, seed, retainGraph, outer, sink);
    } finally {
      inner.close();
    }
  });
}

/**
 * Computes the gradients of every leaf that `output` depends on and adds them to `leaf.grad`.
 * @param dout the gradient of the output; may be left out for a single element
 */
export function backward(output: Tensor, dout?: Tensor, options: BackwardOptions = {}): void {
  expectTensor('backward', output, 'the output');
  const { retainGraph = false } = expectOptions('backward', options);
  const outer = context();
  run(output, dout, retainGraph, (leaf, gradient) => accumulate(leaf, gradient, outer));
}

/**
 * The gradients of `output` with respect to `inputs` (leaves that require gradients), returned
 * instead of accumulated. Inputs that the output does not depend on get zeros.
 */
export function grad(
  output: Tensor,
  inputs: readonly Tensor[],
  dout?: Tensor,
  options: BackwardOptions = {},
): Tensor[] {
  expectTensor('grad', output, 'the output');
  const { retainGraph = false } = expectOptions('grad', options);
  const outer = context();
  const found = new Map<Tensor, Tensor>();
  if (!Array.isArray(inputs)) {
    throw new TypeError(`grad: inputs must be an array of tensors, got ${describe(inputs)}`);
  }
  for (const input of inputs) {
    if (!expectTensor('grad', input, 'each input').gradient?.required) {
      throw new Error('grad: inputs must be leaves that require gradients');
    }
  }
  run(output, dout, retainGraph, (leaf, gradient) => {
    if (!inputs.includes(leaf)) return;
    const part = fitTo(computed(gradient), leaf);
    const before = found.get(leaf);
    if (before) native.add(before.h, part.h);
    else native.clone(part.h);
    found.set(leaf, take(0, leaf.device, outer));
  });
  return inputs.map((input) => {
    const gradient = found.get(input);
    if (gradient) return gradient;
    native.clone(input.h);
    const zeros = take(0, input.device, outer);
    native.fillInto(zeros.h, 0);
    return zeros;
  });
}

/** The gradient state of a leaf, made if need be. */
export function gradientState(tensor: Tensor): GradientState {
  tensor.gradient ??= { required: false, buffer: null, filled: false, hooks: [] };
  return tensor.gradient;
}
