/**
 * Gradient checkpointing: a part of a network whose intermediate results are not kept but computed
 * again in backward(). Source: Chen, Xu, Zhang and Guestrin 2016, as torch.utils.checkpoint has it.
 *
 * Memory: the inputs and outputs of the part, and those intermediates of one part at a time.
 * Cost: one more forward of the part.
 */
import { needsGradient } from '../autograd.js';
import { nestedGradients } from '../backward.js';
import { describe, expectFunction } from '../check.js';
import { context, type GradientProbe, runInContext, withContext } from '../context.js';
import { isFloating } from '../dtype.js';
import { native } from '../native.js';
import { onDraw } from '../ops/random.js';
import { scope } from '../scope.js';
import { Tensor, take } from '../tensor.js';
import { fresh, recordJointly } from './joint.js';

/** The states of the generators that `fn` draws from, as they were before. */
function withStatesSaved<T>(saved: Map<Tensor, Tensor>, fn: () => T): T {
  const owner = context();
  return onDraw((state) => {
    if (saved.has(state)) return;
    native.clone(state.h);
    saved.set(state, take(0, state.device, owner));
  }, fn);
}

/** Runs `fn` with generators as they were, and puts them back afterwards. */
function withStates<T>(states: readonly (readonly [Tensor, Tensor])[], fn: () => T): T {
  const later = states.map(([state, earlier]) => {
    native.clone(state.h);
    const now = take(0, state.device);
    native.copyInto(state.h, earlier.h);
    return now;
  });
  try {
    return fn();
  } finally {
    for (const [i, [state]] of states.entries()) native.copyInto(state.h, (later[i] as Tensor).h);
  }
}

/**
 * Runs `fn(...inputs)` without keeping its intermediate results; backward() runs it again. Random
 * numbers repeat, so dropout drops the same elements; buffers that `fn` changes (running statistics)
 * are changed twice. `fn` must not read values, and what it makes may leave it as its result only.
 * @param fn one tensor or an array of tensors from the inputs; not async
 * @example const y = checkpoint((h) => block.forward(h), x);
 */
export function checkpoint<Args extends unknown[], Result extends Tensor | readonly Tensor[]>(
  fn: (...inputs: Args) => Result,
  ...inputs: Args
): Result {
  expectFunction('checkpoint', 'its first argument', fn);
  const outer = context();
  const tensors = inputs.filter((input) => input instanceof Tensor) as Tensor[];
  const probe: GradientProbe = { reached: false };
  const states = new Map<Tensor, Tensor>();
  const result = withStatesSaved(states, () =>
    runInContext({ ...outer, grad: false, probe: outer.grad ? probe : outer.probe }, () =>
      scope(() => fn(...inputs)),
    ),
  );
  const given: readonly unknown[] = Array.isArray(result) ? result : [result];
  for (const output of given) {
    if (!(output instanceof Tensor)) {
      throw new TypeError(`checkpoint: the function must return tensors, got ${describe(output)}`);
    }
  }
  const outputs = (given as Tensor[]).map((output, i) =>
    output.node || output.gradient || tensors.includes(output) || given.indexOf(output) !== i
      ? fresh(output)
      : output,
  );
  const packed = (Array.isArray(result) ? outputs : outputs[0]) as Result;
  if (!outer.grad || !(probe.reached || tensors.some(needsGradient))) return packed;

  const generators = [...states.keys()];
  const differentiates = (t: Tensor): boolean => isFloating(t.dtype);
  const rule = (
    douts: readonly (Tensor | null)[],
    saved: readonly Tensor[],
    needs: readonly boolean[],
  ): (Tensor | null)[] => {
    const within = {
      ...context(),
      grad: true,
      autocast: outer.autocast && { dtype: outer.autocast.dtype, casts: new Map() },
    };
    const leaves: Tensor[] = [];
    const again = withContext(within, () =>
      withStates(
        generators.map((state, i) => [state, saved[tensors.length + i] as Tensor] as const),
        () => {
          let at = 0;
          const own = inputs.map((input) => {
            if (!(input instanceof Tensor)) return input;
            const leaf = fresh(saved[at] as Tensor);
            if (needs[at++]) leaf.requireGrad();
            leaves.push(leaf);
            return leaf;
          }) as Args;
          const list = runInContext(within, () => fn(...own)) as Tensor | readonly Tensor[];
          return (Array.isArray(list) ? list : [list]) as readonly Tensor[];
        },
      ),
    );
    const used = again.filter(differentiates);
    const reached = used.flatMap((output, i) => {
      const dout = douts[i];
      return dout && needsGradient(output) ? [[output, dout] as const] : [];
    });
    return nestedGradients(
      reached.map(([output]) => output),
      reached.map(([, dout]) => dout),
      leaves,
    ).slice(0, tensors.length);
  };
  // The scalar of a leaf that needs a gradient stands for the parameters that `fn` reaches.
  native.full((tensors[0] ?? (outputs[0] as Tensor)).device.code, [], 0, 0);
  const anchor = take(0, (tensors[0] ?? (outputs[0] as Tensor)).device).requireGrad();
  recordJointly(
    'checkpoint',
    rule,
    outputs.filter(differentiates),
    [...tensors, anchor],
    () => [...tensors, ...states.values()],
    false,
  );
  return packed;
}
