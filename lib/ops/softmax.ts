/** Softmax and cross-entropy over the last axis, each one kernel forward and one backward. */

import { forPrecision } from '../autocast.js';
import { type Rule, record, spare } from '../autograd.js';
import {
  describe,
  expectAxis,
  expectInteger,
  expectOneOf,
  expectOptions,
  expectRange,
  expectTensor,
} from '../check.js';
import { isFloating } from '../dtype.js';
import { native } from '../native.js';
import { type Shape, sameShape, type Tensor, take } from '../tensor.js';
import { ne, where } from './binary.js';
import { asClasses, to } from './copy.js';
import { addMethods, type OpRows, ruleOf } from './define.js';
import { indexSelect } from './index.js';
import { mean, sum } from './reduce.js';
import { permute, reshape, transpose } from './view.js';

declare module '../native.js' {
  interface NativeOps {
    softmax(x: Handle, logarithm: boolean): void;
    crossEntropy(logits: Handle, target: Handle, ignoreIndex: number): void;
    softCrossEntropy(
      logits: Handle,
      target: Handle,
      weight: Handle | undefined,
      smoothing: number,
      ignoreIndex: number,
    ): void;
  }
  interface NativeKernels {
    softmaxBackward(y: Handle, dy: Handle, logarithm: boolean): void;
    crossEntropyBackward(
      logits: Handle,
      target: Handle,
      lse: Handle,
      dloss: Handle,
      ignoreIndex: number,
      spare: boolean,
    ): void;
    softCrossEntropyBackward(
      logits: Handle,
      target: Handle,
      weight: Handle | undefined,
      smoothing: number,
      ignoreIndex: number,
      lse: Handle,
      mass: Handle,
      dloss: Handle,
      targetGradient: boolean,
      spare: boolean,
    ): void;
  }
}

const softmaxRule: Rule<boolean> = (dout, [y], logarithm) => {
  native.softmaxBackward((y as Tensor).h, dout.h, logarithm);
  return [take(0, dout.device)];
};

/** @internal */
export interface HardAttributes {
  ignoreIndex: number;
  /** Whether the logits are a copy that nobody but the op knows. */
  copied: boolean;
}

/** @internal */
export interface SoftAttributes extends HardAttributes {
  smoothing: number;
}

// Where nobody reads the logits again, their gradient takes their place.
const crossEntropyRule: Rule<HardAttributes> = (dout, saved, { ignoreIndex, copied }) => {
  const [logits, target, lse] = saved as [Tensor, Tensor, Tensor];
  const over = spare(logits, copied);
  native.crossEntropyBackward(logits.h, target.h, lse.h, dout.h, ignoreIndex, over);
  return [take(0, dout.device), null];
};

const softCrossEntropyRule: Rule<SoftAttributes> = (dout, saved, attributes, needs) => {
  const [logits, target, lse, mass, weight] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor?];
  const wanted = needs[1] as boolean;
  native.softCrossEntropyBackward(
    logits.h,
    target.h,
    weight?.h,
    attributes.smoothing,
    attributes.ignoreIndex,
    lse.h,
    mass.h,
    dout.h,
    wanted,
    spare(logits, attributes.copied),
  );
  const dx = take(0, dout.device);
  const dt = take(1, dout.device);
  return [dx, wanted ? dt : null];
};

export const softmaxOps: OpRows<'softmax' | 'crossEntropy' | 'softCrossEntropy'> = {
  softmax: {
    family: 'softmax',
    summary: 'eˣ / Σ eˣ over an axis, or its logarithm',
    dtypes: 'floating',
    gradient: softmaxRule,
  },
  crossEntropy: {
    family: 'softmax',
    summary: '-log softmax(logits)[target] per row, fused',
    dtypes: 'floating',
    gradient: crossEntropyRule,
  },
  softCrossEntropy: {
    family: 'softmax',
    summary: 'cross-entropy with probabilities, class weights or smoothed labels, fused',
    dtypes: 'floating',
    gradient: softCrossEntropyRule,
  },
};

function softmaxOver(input: Tensor, axis: number, logarithm: boolean): Tensor {
  const name = logarithm ? 'logSoftmax' : 'softmax';
  expectTensor(name, input);
  const x = forPrecision(input);
  const at = expectAxis(name, axis, x.rank);
  if (x.rank > 0 && at !== x.rank - 1) {
    return transpose(softmaxOver(transpose(x, at, -1), -1, logarithm), at, -1);
  }
  native.softmax(x.h, logarithm);
  const out = take(0, x.device);
  return record(name, ruleOf(softmaxOps.softmax), out, [x], () => [out], logarithm);
}

/** eˣ / Σ eˣ over an axis, the last where left out. */
export function softmax(x: Tensor, axis = -1): Tensor {
  return softmaxOver(x, axis, false);
}

/** The logarithm of {@link softmax}, without its loss of precision. */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return softmaxOver(x, axis, true);
}

const reductions = ['mean', 'sum', 'none'] as const;
export type Reduction = (typeof reductions)[number];

export interface CrossEntropyOptions {
  /** Over the rows; 'mean' leaves ignored ones out and counts the others by their class's weight. */
  reduction?: Reduction;
  /** Rows with this class count nothing. None are ignored where it is left out. */
  ignoreIndex?: number;
  /** [C], how much each class counts; 1 where left out. No gradient flows to it. */
  weight?: Tensor;
  /** Share of the target that is spread evenly over the classes, in [0,1]; 0 where left out. */
  labelSmoothing?: number;
}

/** @internal An `ignoreIndex` that ignores nothing. */
export const noIndex = Number.MIN_SAFE_INTEGER;

function inShape(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : reshape(x, shape);
}

/** [N, C, d1…] as rows [N·d1…, C]. */
function classesLast(x: Tensor): Tensor {
  if (x.rank <= 2) return x.rank === 1 ? reshape(x, [1, x.size]) : x;
  const axes = x.shape.map((_, axis) => axis);
  const [batch, classes, ...rest] = x.shape as [number, number, ...number[]];
  const count = rest.reduce((a, b) => a * b, batch);
  return reshape(permute(x, [0, ...axes.slice(2), 1]), [count, classes]);
}

/**
 * Cross-entropy between logits and classes: lse(logits) - logits[target] per row; with weights,
 * smoothing ε or probabilities t: Σ_c w_c·((1 - ε)·t_c + ε/C)·(lse(logits) - logits_c).
 * Source: torch.nn.functional.cross_entropy; Szegedy et al. 2016 (label smoothing).
 * @param scores the logits, [N, C] or [N, C, d1…], or [C] for one row
 * @param targets classes, of the shape without C; one outside [0, C) gives NaN. Or
 * probabilities in the shape of the logits, which may have a gradient, too.
 */
export function crossEntropy(
  scores: Tensor,
  targets: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  const op = 'crossEntropy';
  const logits = forPrecision(expectTensor(op, scores, 'logits'));
  const classes = !isFloating(expectTensor(op, targets, 'target').dtype);
  const target = classes ? asClasses(op, targets, 'target') : targets;
  const {
    reduction = 'mean',
    ignoreIndex = noIndex,
    weight,
    labelSmoothing = 0,
  } = expectOptions(op, options, ['reduction', 'ignoreIndex', 'weight', 'labelSmoothing']);
  expectOneOf(op, 'reduction', reduction, reductions);
  expectInteger(op, 'ignoreIndex', ignoreIndex);
  expectRange(op, 'labelSmoothing', labelSmoothing, 0, 1);
  if (weight !== undefined) expectTensor(op, weight, 'weight');
  if (!classes && options.ignoreIndex !== undefined) {
    throw new RangeError(`${op}: ignoreIndex needs class indices, got ${describe(target)}`);
  }
  const rowShape = logits.shape.filter((_, axis) => axis !== (logits.rank > 1 ? 1 : 0));
  if (logits.rank === 0 || !sameShape(target.shape, classes ? rowShape : logits.shape)) {
    const rule = classes ? '[N,C,…] and [N,…]' : 'equal for probabilities';
    throw new RangeError(
      `${op}: shapes must be ${rule}, got [${logits.shape}] and [${target.shape}]`,
    );
  }
  const x = classesLast(logits);
  const copied = x !== scores;
  const t = classes ? inShape(target, [target.size]) : classesLast(to(target, logits.dtype));
  const losses =
    classes && !weight && labelSmoothing === 0
      ? hardLosses(x, t, { ignoreIndex, copied })
      : softLosses(x, t, weight, { smoothing: labelSmoothing, ignoreIndex, copied });
  if (reduction === 'none') return inShape(losses, rowShape);
  if (reduction === 'sum') return sum(losses);
  if (!classes || (!weight && options.ignoreIndex === undefined)) return mean(losses);
  // The 16-bit floats could neither count nor sum the rows of a large batch.
  const wide = logits.dtype === 'float64' ? 'float64' : 'float32';
  const kept = ne(t, ignoreIndex);
  const counted = weight ? where(kept, indexSelect(weight.detach().to(wide), t), 0) : kept.to(wide);
  return sum(losses.to(wide)).div(sum(counted)).to(logits.dtype);
}

function hardLosses(x: Tensor, target: Tensor, attributes: HardAttributes): Tensor {
  native.crossEntropy(x.h, target.h, attributes.ignoreIndex);
  const losses = take(0, x.device);
  const lse = take(1, x.device);
  return record(
    'crossEntropy',
    ruleOf(softmaxOps.crossEntropy),
    losses,
    [x, target],
    () => [x, target, lse],
    attributes,
  );
}

function softLosses(
  x: Tensor,
  target: Tensor,
  weight: Tensor | undefined,
  attributes: SoftAttributes,
): Tensor {
  const { smoothing, ignoreIndex } = attributes;
  const w = weight && to(weight.detach(), x.dtype);
  native.softCrossEntropy(x.h, target.h, w?.h, smoothing, ignoreIndex);
  const losses = take(0, x.device);
  const lse = take(1, x.device);
  const mass = take(2, x.device);
  return record(
    'crossEntropy',
    ruleOf(softmaxOps.softCrossEntropy),
    losses,
    [x, target],
    () => [x, target, lse, mass, ...(w ? [w] : [])],
    attributes,
  );
}

declare module '../tensor.js' {
  interface Tensor {
    /** exp(xᵢ)/Σ exp(xⱼ) along an axis, the last where left out. */
    softmax(axis?: number): Tensor;
    /** xᵢ − ln Σ exp(xⱼ) along an axis, the last where left out. */
    logSoftmax(axis?: number): Tensor;
  }
}

addMethods({
  softmax(axis?: number) {
    return softmax(this, axis);
  },
  logSoftmax(axis?: number) {
    return logSoftmax(this, axis);
  },
});
