/**
 * Norms and bounds of gradients, all tensors of a device in one launch. Nothing is read back, so they work in
 * captured steps; sums are made in a fixed order, in float64.
 */
import { describe, expectNumber, expectRange, expectTensor } from '../check.js';
import { observe } from '../guards.js';
import { native } from '../native.js';
import { to } from '../ops/copy.js';
import { type Tensor, take } from '../tensor.js';
import { byDevice, handles } from './rules.js';

declare module '../native.js' {
  interface NativeKernels {
    totalNorm(grads: Numbers, p: number): void;
    scaleGradients(grads: Numbers, norm: Handle, limit: number): void;
    clampGradients(grads: Numbers, limit: number): void;
  }
}

function tensorsOf(op: string, given: Iterable<Tensor> | Tensor): Tensor[] {
  const one = given as Partial<Iterable<Tensor>> | null | undefined;
  if (typeof one?.[Symbol.iterator] !== 'function') return [expectTensor(op, given)];
  return [...(given as Iterable<Tensor>)].map((x) => expectTensor(op, x, 'each parameter'));
}

/** The gradients that backward() left in leaves. */
function gradientsOf(op: string, parameters: Iterable<Tensor> | Tensor): Tensor[] {
  const found: Tensor[] = [];
  for (const { gradient } of tensorsOf(op, parameters)) {
    if (!gradient) continue;
    observe(gradient, 'filled');
    if (gradient.filled && gradient.buffer) found.push(gradient.buffer);
  }
  return found;
}

function expectNorm(op: string, p: unknown): number {
  if (expectNumber(op, 'the kind of norm', p) > 0) return p as number;
  throw new RangeError(`${op}: the kind of norm must be above 0, got ${describe(p)}`);
}

function normOf(op: string, tensors: readonly Tensor[], p: number): Tensor {
  expectNorm(op, p);
  if (tensors.length === 0) throw new RangeError(`${op}: needs at least one gradient, got none`);
  const [first, ...others] = [...byDevice(tensors)].map(([device, own]) => {
    native.totalNorm(handles(own), p);
    return take(0, device);
  }) as [Tensor, ...Tensor[]];
  if (others.length === 0) return first;
  native.totalNorm(handles([first, ...others.map((norm) => to(norm, first.device))]), p);
  return take(0, first.device);
}

/**
 * The p-norm of all elements of all tensors together, (Σ|x|ᵖ)^(1/p); the largest |x| for Infinity.
 * No gradient flows through it.
 * @param tensors floating, on any devices
 * @returns a scalar on the first one's device, float32 (float64 where one of them is)
 */
export function getTotalNorm(tensors: Iterable<Tensor> | Tensor, normType = 2): Tensor {
  return normOf(
    'getTotalNorm',
    tensorsOf('getTotalNorm', tensors).map((x) => x.contiguous()),
    normType,
  );
}

/**
 * Scales the gradients of parameters in place so that their norm together is at most `maxNorm`:
 * by min(1, maxNorm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_. A norm of NaN makes all
 * of them NaN.
 * @returns the norm before, a scalar on the first gradient's device
 */
export function clipGradNorm(
  parameters: Iterable<Tensor> | Tensor,
  maxNorm: number,
  normType = 2,
): Tensor {
  expectRange('clipGradNorm', 'maxNorm', maxNorm, 0);
  const gradients = gradientsOf('clipGradNorm', parameters);
  const norm = normOf('clipGradNorm', gradients, normType);
  for (const [device, own] of byDevice(gradients)) {
    native.scaleGradients(handles(own), to(norm, device).h, maxNorm);
  }
  for (const gradient of gradients) ++gradient.version;
  return norm;
}

/** Brings every element of the parameters' gradients into [-clipValue, clipValue], in place. */
export function clipGradValue(parameters: Iterable<Tensor> | Tensor, clipValue: number): void {
  expectRange('clipGradValue', 'clipValue', clipValue, 0);
  const gradients = gradientsOf('clipGradValue', parameters);
  for (const own of byDevice(gradients).values()) native.clampGradients(handles(own), clipValue);
  for (const gradient of gradients) ++gradient.version;
}
