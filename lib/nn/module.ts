/**
 * Module: a network or a part of one. Parameters, buffers and sub-modules are found among its
 * properties, in the order in which they were assigned, also in arrays, Maps and plain objects.
 */
import { describe, expectOptions, expectTensor, expectTensorMap } from '../check.js';
import { noGrad } from '../context.js';
import { type Device, type DeviceLike, device } from '../device.js';
import { type DType, isDType, isFloating } from '../dtype.js';
import { type HookHandle, makeParameter } from '../gradient.js';
import { observe } from '../guards.js';
import { cast, copyInto, to } from '../ops/copy.js';
import { scope } from '../scope.js';
import { sameShape, Tensor } from '../tensor.js';
import { addHook, type BackwardHook, type ForwardHook, type ForwardPreHook } from './hooks.js';
import { type Member, membersOf } from './members.js';

/** A trainable tensor: it outlives every scope, and backward() finds its gradient. */
export function parameter(tensor: Tensor): Tensor {
  return makeParameter(tensor);
}

/** A tensor that belongs to a module but is not trained: it is saved with the module. */
export function buffer(tensor: Tensor): Tensor {
  return expectTensor('buffer', tensor).persist();
}

function targetsOf(targets: readonly (DeviceLike | DType)[]) {
  let [on, dtype]: [Device | null, DType | null] = [null, null];
  for (const target of targets) {
    if (!isDType(target)) on = device(target);
    else if (isFloating(target)) dtype = target;
    else throw new TypeError(`to: a module's dtype must be floating, got ${target}`);
  }
  return { on, dtype };
}

/** A parameter or buffer on another device or in another dtype, in place of what it was. */
function movedTo(tensor: Tensor, on: Device, dtype: DType): Tensor {
  if (tensor.device === on && tensor.dtype === dtype) return tensor;
  const values = noGrad(() => scope(() => to(tensor.detach(), dtype, on)));
  const made = tensor.gradient
    ? makeParameter(values).requireGrad(tensor.gradient.required)
    : buffer(values);
  tensor.dispose();
  return made;
}

/** Tensors by name, as saved and loaded. */
export type StateDict = Map<string, Tensor>;

/**
 * Base class of layers and models.
 * @example
 * class Net extends nn.Module {
 *   hidden = new nn.Linear(784, 128);
 *   out = new nn.Linear(128, 10);
 *   forward(x: Tensor) { return this.out.forward(this.hidden.forward(x).relu()); }
 * }
 */
export abstract class Module {
  private inTraining = true;

  /** What the module computes; the class says of which shapes. */
  abstract forward(...args: never[]): unknown;

  /** Whether the module is in training mode, which dropout and batch norm ask. */
  get training(): boolean {
    observe(this, 'inTraining');
    return this.inTraining;
  }

  /** Sets training mode here and in every sub-module. Returns the module. */
  train(mode = true): this {
    observe(this, 'inTraining');
    this.inTraining = mode;
    for (const child of this.children()) child.train(mode);
    return this;
  }

  /** Sets evaluation mode here and in every sub-module. Returns the module. */
  eval(): this {
    return this.train(false);
  }

  /** Direct sub-modules by name; those in containers as in `blocks.0.1` and `heads.left`. */
  *namedChildren(): Generator<[string, Module]> {
    for (const { name, value } of membersOf(this)) {
      if (value instanceof Module) yield [name, value];
    }
  }

  /** The modules that are properties of this one, in order. */
  *children(): Generator<Module> {
    for (const [, child] of this.namedChildren()) yield child;
  }

  /** This module and all below it, each once, by dotted name. */
  *namedModules(prefix = '', seen = new Set<Module>()): Generator<[string, Module]> {
    if (seen.has(this)) return;
    seen.add(this);
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) {
      yield* child.namedModules(prefix ? `${prefix}.${name}` : name, seen);
    }
  }

  private *ownTensors(): Generator<Member & { value: Tensor }> {
    for (const member of membersOf(this)) {
      const { value } = member;
      if (value instanceof Tensor && value.persistent) yield { ...member, value };
    }
  }

  /** Parameters and buffers by every name that leads to them. */
  private *allNames(prefix = '', above: readonly Module[] = []): Generator<[string, Tensor]> {
    for (const { name, value } of this.ownTensors()) yield [prefix + name, value];
    const path = [...above, this];
    for (const [name, child] of this.namedChildren()) {
      if (!path.includes(child)) yield* child.allNames(`${prefix}${name}.`, path);
    }
  }

  /** The same, each tensor once. */
  private *namedTensors(): Generator<[string, Tensor]> {
    const seen = new Set<Tensor>();
    for (const [name, tensor] of this.allNames()) {
      if (seen.has(tensor)) continue;
      seen.add(tensor);
      yield [name, tensor];
    }
  }

  /** Trainable tensors by dotted name; frozen ones included. */
  *namedParameters(): Generator<[string, Tensor]> {
    for (const [name, tensor] of this.namedTensors()) if (tensor.gradient) yield [name, tensor];
  }

  /** Trainable tensors. */
  *parameters(): Generator<Tensor> {
    for (const [, tensor] of this.namedParameters()) yield tensor;
  }

  /** Tensors that are saved but not trained, by dotted name. */
  *namedBuffers(): Generator<[string, Tensor]> {
    for (const [name, tensor] of this.namedTensors()) if (!tensor.gradient) yield [name, tensor];
  }

  /** Forgets the gradients of all parameters. */
  zeroGrad(): void {
    for (const tensor of this.parameters()) tensor.zeroGrad();
  }

  /** Makes every parameter require gradients, or none. Returns the module. */
  requireGrad(flag = true): this {
    for (const tensor of this.parameters()) tensor.requireGrad(flag);
    return this;
  }

  /** Calls `hook` before each forward; what it returns, if anything, replaces the arguments. */
  registerForwardPreHook(hook: ForwardPreHook): HookHandle {
    return addHook('registerForwardPreHook', this, 'before', hook);
  }

  /** Calls `hook` after each forward; what it returns, if anything, replaces the result. */
  registerForwardHook(hook: ForwardHook): HookHandle {
    return addHook('registerForwardHook', this, 'after', hook);
  }

  /**
   * Calls `hook` in backward() with the gradients of forward's arguments and results; what it
   * returns, if anything, replaces those of the arguments. Called once both are known, or with null
   * for the arguments where none of them needs a gradient.
   */
  registerFullBackwardHook(hook: BackwardHook): HookHandle {
    return addHook('registerFullBackwardHook', this, 'backward', hook);
  }

  /**
   * Moves all tensors to a device, or makes the floating ones of another floating dtype, or both.
   * What was tied stays tied. Do so before making an optimizer. Returns the module.
   * @example model.to('cuda', 'bfloat16');
   */
  to(...targets: (DeviceLike | DType)[]): this {
    const { on, dtype } = targetsOf(targets);
    const moved = new Map<Tensor, Tensor>();
    for (const [, module] of this.namedModules()) {
      for (const { value, replace } of module.ownTensors()) {
        let made = moved.get(value);
        if (!made) {
          const wanted = dtype && isFloating(value.dtype) ? module.dtypeOf(value, dtype) : null;
          made = movedTo(value, on ?? value.device, wanted ?? value.dtype);
          moved.set(value, made);
        }
        if (made !== value) replace(made);
      }
    }
    return this;
  }

  /** What a floating tensor becomes where the module is made to have a dtype. */
  protected dtypeOf(_tensor: Tensor, dtype: DType): DType {
    return dtype;
  }

  /** `to('float32')` */
  float(): this {
    return this.to('float32');
  }

  /** `to('float64')` */
  double(): this {
    return this.to('float64');
  }

  /** `to('bfloat16')` */
  bfloat16(): this {
    return this.to('bfloat16');
  }

  /** `to('float16')` */
  half(): this {
    return this.to('float16');
  }

  /**
   * Parameters and buffers by dotted name: the tensors themselves, not copies. One that is tied is
   * there by each of its names, as in PyTorch.
   */
  stateDict(): StateDict {
    return new Map(this.allNames());
  }

  /**
   * Copies saved values into the module's tensors, in place. Of a tied tensor one name is enough.
   * @param options.strict whether missing and unknown names are errors; true where left out
   */
  loadStateDict(state: StateDict, options: { strict?: boolean } = {}): void {
    expectTensorMap('loadStateDict', state);
    const { strict = true } = expectOptions('loadStateDict', options, ['strict']);
    const own = this.stateDict();
    const given = new Set([...own].flatMap(([name, tensor]) => (state.has(name) ? [tensor] : [])));
    const missing = [...own].flatMap(([name, tensor]) => (given.has(tensor) ? [] : [name]));
    const unknown = [...state.keys()].filter((name) => !own.has(name));
    if (strict && (missing.length > 0 || unknown.length > 0)) {
      throw new Error(
        `loadStateDict: names must match, missing ${describe(missing)}, unknown ${describe(unknown)}`,
      );
    }
    for (const [name, target] of own) {
      const source = state.get(name);
      if (source && !sameShape(source.shape, target.shape)) {
        throw new RangeError(
          `loadStateDict: ${name} must have the shape [${target.shape}], got [${source.shape}]`,
        );
      }
    }
    for (const [name, target] of own) {
      const source = state.get(name);
      if (source) copyInto(target, cast(to(source, target.device), target.dtype));
    }
  }

  /** What `toString` shows of the module itself, as in `Linear(784 → 128)`. */
  protected describe(): string {
    return '';
  }

  /** The module and those in it, one a line. */
  toString(): string {
    const children = [...this.namedChildren()].map(
      ([name, child]) => `  (${name}): ${child.toString().replace(/\n/g, '\n  ')}`,
    );
    const head = `${this.constructor.name}(${this.describe()}`;
    return children.length > 0 ? `${head}\n${children.join('\n')}\n)` : `${head})`;
  }
}
