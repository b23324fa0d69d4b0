/**
 * Hooks of modules: functions that see, and may replace, what goes into forward, comes out of it,
 * and the gradients of both. A module with hooks gets a `forward` of its own that calls them, so
 * that modules without hooks pay nothing.
 */
import { needsGradient } from '../autograd.js';
import { describe, expectFunction } from '../check.js';
import { context, runInContext } from '../context.js';
import type { HookHandle } from '../gradient.js';
import { fresh, recordJointly } from '../gradients/joint.js';
import { hostState } from '../guards.js';
import { sameShape, Tensor } from '../tensor.js';
import type { Module } from './module.js';

/** Sees the arguments of forward; what it returns, if anything, replaces them. */
export type ForwardPreHook = (module: Module, args: unknown[]) => unknown;
/** Sees arguments and result of forward; what it returns, if anything, replaces the result. */
export type ForwardHook = (module: Module, args: unknown[], result: unknown) => unknown;
/**
 * Sees the gradients of the arguments (null for what has none) and of the results of forward; what
 * it returns, if anything, replaces those of the arguments.
 */
export type BackwardHook = (
  module: Module,
  gradInput: readonly (Tensor | null)[],
  gradOutput: readonly (Tensor | null)[],
  // biome-ignore lint/suspicious/noConfusingVoidType: a hook may return nothing
) => readonly (Tensor | null)[] | Tensor | void;

interface Hooks {
  before: ForwardPreHook[];
  after: ForwardHook[];
  backward: BackwardHook[];
}

const hooked = new WeakMap<Module, Hooks>();
type Forward = (...args: unknown[]) => unknown;

function asArray(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [value];
}

function replaced(
  hooks: readonly BackwardHook[],
  module: Module,
  gradInput: readonly (Tensor | null)[],
  gradOutput: readonly (Tensor | null)[],
): readonly (Tensor | null)[] {
  let gradients = gradInput;
  for (const hook of hooks) {
    const result = runInContext(context(), () => hook(module, gradients, gradOutput));
    if (result === undefined) continue;
    const list = asArray(result) as (Tensor | null)[];
    const fits =
      list.length === gradients.length &&
      list.every((item, i) => {
        const own = gradients[i];
        return own ? item instanceof Tensor && sameShape(item.shape, own.shape) : item === null;
      });
    if (!fits) {
      throw new TypeError(
        'registerFullBackwardHook: a hook must return the gradients of the arguments in their ' +
          `shapes, ${describe(gradients)}, or nothing, got ${describe(list)}`,
      );
    }
    gradients = list;
  }
  return gradients;
}

/** Puts nodes before and after the module, through which the gradients pass. */
function withBackwardHooks(
  hooks: readonly BackwardHook[],
  module: Module,
  args: unknown[],
  run: (args: unknown[]) => unknown,
): unknown {
  const places = args.flatMap((arg, i) => (arg instanceof Tensor && needsGradient(arg) ? [i] : []));
  const inputs = places.map((i) => args[i] as Tensor);
  const aliases = inputs.map(fresh);
  let gradOutput: readonly (Tensor | null)[] = [];
  const inRule = (douts: readonly (Tensor | null)[]): (Tensor | null)[] => {
    const gradInput: (Tensor | null)[] = args.map(() => null);
    for (const [at, i] of places.entries()) gradInput[i] = douts[at] ?? null;
    const revived = gradOutput.filter((dout) => dout?.revive());
    try {
      const gradients = replaced(hooks, module, gradInput, gradOutput);
      return places.map((i) => gradients[i] ?? null);
    } finally {
      for (const dout of revived) dout?.retire();
      for (const dout of gradOutput) dout?.unhold();
      gradOutput = [];
    }
  };
  recordJointly('backwardHook', inRule, aliases, inputs, () => []);
  const given = [...args];
  for (const [at, i] of places.entries()) given[i] = aliases[at];

  const result = run(given);
  const results = asArray(result);
  const open = results.flatMap((out, i) =>
    out instanceof Tensor && needsGradient(out) ? [i] : [],
  );
  const outputs = open.map((i) => results[i] as Tensor);
  const passed = outputs.map(fresh);
  recordJointly(
    'backwardHook',
    (douts) => {
      const whole: (Tensor | null)[] = results.map(() => null);
      for (const [at, i] of open.entries()) whole[i] = douts[at] ?? null;
      if (inputs.length === 0) {
        replaced(
          hooks,
          module,
          args.map(() => null),
          whole,
        );
      } else {
        for (const dout of gradOutput) dout?.unhold();
        for (const dout of whole) dout?.hold();
        gradOutput = whole;
      }
      return douts;
    },
    passed,
    outputs,
    () => [],
  );
  const final = results.map((out, i) => (open.includes(i) ? passed[open.indexOf(i)] : out));
  return Array.isArray(result) ? final : final[0];
}

function runHooked(hooks: Hooks, module: Module, forward: Forward, first: unknown[]): unknown {
  let args = first;
  for (const hook of hooks.before) {
    const result = hook(module, args);
    if (result !== undefined) args = asArray(result);
  }
  const run = (given: unknown[]): unknown => {
    let result = forward.apply(module, given);
    for (const hook of hooks.after) result = hook(module, given, result) ?? result;
    return result;
  };
  return hooks.backward.length > 0
    ? withBackwardHooks(hooks.backward, module, args, run)
    : run(args);
}

/** Adds a hook of a kind; the first of a module gives it a forward that calls them. */
export function addHook<Kind extends keyof Hooks>(
  op: string,
  module: Module,
  kind: Kind,
  hook: Hooks[Kind][number],
): HookHandle {
  expectFunction(op, 'the hook', hook);
  let hooks = hooked.get(module);
  if (!hooks) {
    hooks = { before: [], after: [], backward: [] };
    hooked.set(module, hooks);
    const own = Object.getOwnPropertyDescriptor(module, 'forward');
    const forward = module.forward as Forward;
    const made = hooks;
    Object.defineProperty(module, 'forward', {
      value: (...args: unknown[]) => runHooked(made, module, forward, args),
      configurable: true,
      writable: true,
    });
    restore.set(made, () => {
      if (own) Object.defineProperty(module, 'forward', own);
      else delete (module as Partial<Module>).forward;
    });
  }
  const list = hooks[kind] as Hooks[Kind][number][];
  // The same function may be there twice.
  const entry = ((...args: Parameters<Forward>) =>
    (hook as Forward)(...args)) as Hooks[Kind][number];
  list.push(entry);
  ++hostState.moduleHooks;
  const whole = hooks;
  return {
    remove(): void {
      const at = list.indexOf(entry);
      if (at < 0) return;
      list.splice(at, 1);
      ++hostState.moduleHooks;
      if (whole.before.length + whole.after.length + whole.backward.length > 0) return;
      restore.get(whole)?.();
      hooked.delete(module);
    },
  };
}

const restore = new WeakMap<Hooks, () => void>();
