/**
 * Functions with a gradient of their own. `forward` runs unrecorded; `backward` takes the gradients
 * of the outputs and returns one per argument of `forward`.
 */
import { needsGradient, record } from '../autograd.js';
import { describe, expectFunction, expectOptions } from '../check.js';
import { context, noGrad, runInContext } from '../context.js';
import { dtypeCode, isFloating } from '../dtype.js';
import { native } from '../native.js';
import { sameShape, Tensor, take } from '../tensor.js';
import { fresh, recordJointly } from './joint.js';

/** What `forward` hands to `backward`. One per call of the function. */
export interface FunctionContext<Attributes extends object = Record<string, unknown>> {
  /** Keeps tensors for backward, whatever becomes of the scope they are in. */
  save(...tensors: Tensor[]): void;
  /** What was saved; only in backward. */
  readonly saved: readonly Tensor[];
  /** Per argument of forward, whether its gradient is asked for; others may be null. */
  readonly needsInputGrad: readonly boolean[];
  /** Whatever else backward needs: numbers, shapes, words. */
  readonly attributes: Attributes;
}

type Returned = Tensor | null | undefined | readonly (Tensor | null | undefined)[];

export interface FunctionDefinition<
  Args extends unknown[],
  Result extends Tensor | readonly Tensor[],
  Attributes extends object,
> {
  /** How errors and profiles call it; 'customFunction' where left out. */
  name?: string;
  forward(ctx: FunctionContext<Attributes>, ...args: Args): Result;
  /**
   * One gradient per argument of forward, null for what is no tensor or needs none; a single one
   * may stand alone. An output that was not used has a gradient of zeros.
   */
  backward(ctx: FunctionContext<Attributes>, ...douts: Tensor[]): Returned;
}

function zeros(like: Tensor): Tensor {
  native.full(like.device.code, like.shape, 0, dtypeCode('backward', like.dtype));
  return take(0, like.device);
}

/** The gradients of the tensors among the arguments, checked. */
function checked(name: string, returned: Returned, args: readonly unknown[]): (Tensor | null)[] {
  const list: readonly unknown[] = Array.isArray(returned) ? returned : [returned];
  if (list.length !== args.length) {
    throw new RangeError(
      `${name}: backward must return a gradient per argument, ${args.length} in all, got ${list.length}`,
    );
  }
  const gradients: (Tensor | null)[] = [];
  for (const [i, arg] of args.entries()) {
    const gradient = list[i] ?? null;
    if (!(arg instanceof Tensor)) {
      if (gradient === null) continue;
      throw new TypeError(
        `${name}: argument ${i} is no tensor, so its gradient must be null, got ${describe(gradient)}`,
      );
    }
    if (gradient !== null) {
      const fits =
        gradient instanceof Tensor &&
        gradient.device === arg.device &&
        isFloating(gradient.dtype) &&
        sameShape(gradient.shape, arg.shape);
      if (!fits) {
        throw new RangeError(
          `${name}: the gradient of argument ${i} must be a floating tensor of the shape ` +
            `[${arg.shape}] on ${arg.device}, got ${describe(gradient)}`,
        );
      }
    }
    gradients.push(gradient as Tensor | null);
  }
  return gradients;
}

/**
 * A function with a gradient of its own.
 * @param definition `forward` and `backward`, and a name for errors
 * @returns the function; its tensor arguments are differentiated, the others pass as they are
 * @example
 * const clampSte = customFunction({
 *   forward: (ctx, x: Tensor, limit: number) => x.minimum(limit).maximum(-limit),
 *   backward: (ctx, dout) => [dout, null], // straight through
 * });
 * const y = clampSte(x, 1);
 */
export function customFunction<
  Args extends unknown[],
  Result extends Tensor | readonly Tensor[],
  Attributes extends object = Record<string, unknown>,
>(definition: FunctionDefinition<Args, Result, Attributes>): (...args: Args) => Result {
  const options = expectOptions('customFunction', definition, ['name', 'forward', 'backward']);
  const { name = 'customFunction' } = options;
  if (typeof name !== 'string') {
    throw new TypeError(`customFunction: name must be a text, got ${describe(name)}`);
  }
  expectFunction('customFunction', 'forward', options.forward);
  expectFunction('customFunction', 'backward', options.backward);

  return (...args) => {
    const tensors = args.filter((arg) => arg instanceof Tensor) as Tensor[];
    const kept: Tensor[] = [];
    const attributes = {} as Attributes;
    const needsInputGrad = args.map((arg) => arg instanceof Tensor && needsGradient(arg));
    const save = (...list: Tensor[]): void => {
      for (const tensor of list) {
        if (!(tensor instanceof Tensor)) {
          throw new TypeError(`${name}: only tensors can be saved, got ${describe(tensor)}`);
        }
        kept.push(tensor);
      }
    };
    const result = noGrad(() =>
      options.forward({ save, saved: [], needsInputGrad, attributes }, ...args),
    );
    const given: readonly unknown[] = Array.isArray(result) ? result : [result];
    for (const output of given) {
      if (!(output instanceof Tensor)) {
        throw new TypeError(`${name}: forward must return tensors, got ${describe(output)}`);
      }
    }
    // An argument handed through, or something made earlier, must not change its own history.
    const outputs = (given as Tensor[]).map((output, i) =>
      output.node || output.gradient || tensors.includes(output) || given.indexOf(output) !== i
        ? fresh(output)
        : output,
    );
    const forms = outputs.map(({ shape, dtype, device }) => ({ shape, dtype, device }) as Tensor);
    const floats = outputs.filter((output) => isFloating(output.dtype));
    const rule = (
      douts: readonly (Tensor | null)[],
      saved: readonly Tensor[],
      needs: readonly boolean[],
    ): (Tensor | null)[] => {
      let at = 0;
      const whole = forms.map((form) =>
        isFloating(form.dtype) ? (douts[at++] ?? zeros(form)) : zeros(form),
      );
      let tensor = 0;
      const wanted = args.map((arg) => arg instanceof Tensor && (needs[tensor++] as boolean));
      const ctx = { save: refuseSaving, saved, needsInputGrad: wanted, attributes };
      const gradients = runInContext(context(), () => options.backward(ctx, ...whole));
      return checked(name, gradients, args);
    };
    if (floats.length > 0) recordJointly(name, rule, floats, tensors, () => kept);
    for (const output of outputs) {
      if (!isFloating(output.dtype)) record(name, null, output, tensors, null, null);
    }
    return (Array.isArray(result) ? outputs : outputs[0]) as Result;
  };
}

function refuseSaving(): never {
  throw new Error('customFunction: tensors are saved in forward, not in backward');
}
