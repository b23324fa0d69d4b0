/**
 * The tape of reverse-mode differentiation: every op that has a gradient rule records a node, which
 * lib/backward.ts walks. A node holds what it saved for as long as its graph can be walked; a tensor
 * whose graph is gone is a constant from then on (so a running sum of losses does not grow a graph).
 */
import { context } from './context.js';
import type { DType } from './dtype.js';
import { observe, observed } from './guards.js';
import { type Shape, Tensor } from './tensor.js';

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
  /** Replaced, never changed, so that a captured step can tell. */
  hooks: readonly GradientHook[];
}

/** Called with a gradient; what it returns, if anything, replaces it. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook may return nothing
export type GradientHook = (gradient: Tensor) => Tensor | void;

let serial = 0;
// Saved tensors of the node whose rule runs that only it can use; null while the graph is kept.
let released: readonly Tensor[] | null = null;

/**
 * Inside a rule: whether a saved tensor's values serve nobody after it, so that the rule may write
 * over them. Its owner has released it, or it was `unseen`, made by the op for itself; no other
 * node saved it and this one is about to be freed. Other tensors in the same memory are for native
 * code to see.
 */
export function spare(saved: Tensor, unseen = false): boolean {
  if (released === null || saved.holds !== 1) return false;
  if (!unseen && !released.includes(saved)) return false;
  ++saved.version; // should this walk fail, a second one is refused
  return true;
}

export class Node {
  readonly id = ++serial;
  consumed = false;
  /** The output's gradient, while backward() gathers it. */
  pending: Tensor | null = null;
  /** The output itself, where its gradient is to be kept. */
  retained: Tensor | null = null;
  hooks: readonly GradientHook[] = [];
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

  /**
   * Calls `use` with the gradients of the inputs by a rule: the node's own, or one that is itself
   * recorded. Deferred gradients may need what was saved, which can be read until `use` returns.
   * @param last whether the node is freed afterwards
   */
  run(
    dout: Tensor,
    rule: Rule,
    recorded: boolean,
    last: boolean,
    use: (gradients: readonly Gradient[]) => void,
  ): void {
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
    if (recorded && revived.length > 0) {
      for (const tensor of revived) tensor.retire();
      throw new Error(
        `grad: createGraph needs the tensors of the graph, but what ${this.name} saved was released`,
      );
    }
    const before = released;
    released = last ? revived : null;
    try {
      const gradients = rule(
        dout,
        this.saved,
        this.attributes,
        this.parents.map((parent) => parent !== null),
      );
      released = before;
      use(gradients);
    } finally {
      released = before;
      for (const tensor of revived) tensor.retire();
    }
  }
}

/** Where a gradient for this tensor would go: its node, the leaf itself, or nowhere. */
export function destination(tensor: Tensor): Node | Tensor | null {
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
  if (rule !== null) {
    if (current.grad) connect(name, rule as Rule, output, inputs, saves, attributes);
    else if (current.probe && !current.probe.reached) {
      current.probe.reached = inputs.some(needsGradient);
    }
  }
  if (watcher !== null) watcher(name, output, inputs);
  return output;
}

function connect(
  name: string,
  rule: Rule,
  output: Tensor,
  inputs: readonly Tensor[],
  saves: (() => readonly Tensor[]) | null,
  attributes: unknown,
): void {
  let parents: (Node | Tensor | null)[] | null = null;
  for (let i = 0; i < inputs.length; ++i) {
    const to = destination(inputs[i] as Tensor);
    if (to === null) continue;
    parents ??= new Array(inputs.length).fill(null);
    parents[i] = to;
  }
  if (parents === null) return;
  output.node = new Node(
    name,
    rule,
    attributes,
    parents,
    saves ? saves() : [],
    output.shape,
    output.dtype,
  );
}

/** Sees every op with its output and inputs, as anomaly detection does. */
export type Watcher = (name: string, output: Tensor, inputs: readonly Tensor[]) => void;
let watcher: Watcher | null = null;

export function setWatcher(next: Watcher | null): void {
  watcher = next;
}

/** Whether every op is looked at, which a recorded step could not be. */
export function watched(): boolean {
  return watcher !== null;
}

const recordedRules = new WeakMap<Rule, Rule>();

/**
 * Says that `rule` can be differentiated in its turn: by `recorded`, an equal rule of recorded ops,
 * or as it stands. Rules that call kernels of their own cannot without.
 */
// biome-ignore lint/suspicious/noExplicitAny: each rule types its own attributes
export function differentiable<R extends Rule<any>>(rule: R, recorded: R = rule): R {
  recordedRules.set(rule as Rule, recorded as Rule);
  return rule;
}

/** Whether a rule can be differentiated in its turn, as grad's createGraph wants it. */
export function isDifferentiable(rule: Rule): boolean {
  return recordedRules.has(rule);
}

/** The rule to use where the gradient is to be differentiated again. */
export function recordedRule(node: Node): Rule {
  const rule = recordedRules.get(node.rule);
  if (rule) return rule;
  throw new Error(`grad: createGraph is not supported by ${node.name}`);
}

/** The gradient state of a leaf, made if need be. */
export function gradientState(tensor: Tensor): GradientState {
  tensor.gradient ??= { required: false, buffer: null, filled: false, hooks: [] };
  return tensor.gradient;
}
