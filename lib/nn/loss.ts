/** Losses as modules, with PyTorch's defaults. */
import { forPrecision } from '../autocast.js';
import { expectOneOf, expectOptions, expectTensor } from '../check.js';
import { sub } from '../ops/binary.js';
import { mean, sum } from '../ops/reduce.js';
import { type CrossEntropyOptions, crossEntropy, type Reduction } from '../ops/softmax.js';
import { square } from '../ops/unary.js';
import type { Tensor } from '../tensor.js';
import { Module } from './module.js';

const reductions = ['mean', 'sum', 'none'] as const;

/** Cross-entropy between logits [N, C] and class indices [N] (int64), mean over the rows. */
export class CrossEntropyLoss extends Module {
  constructor(readonly options: CrossEntropyOptions = {}) {
    super();
    const { reduction = 'mean' } = expectOptions('CrossEntropyLoss', options);
    expectOneOf('CrossEntropyLoss', 'reduction', reduction, reductions);
  }
  forward(logits: Tensor, target: Tensor): Tensor {
    return crossEntropy(logits, target, this.options);
  }
}

/** (prediction - target)², mean over all elements. */
export function mseLoss(prediction: Tensor, target: Tensor, reduction: Reduction = 'mean'): Tensor {
  expectTensor('mseLoss', prediction, 'prediction');
  expectTensor('mseLoss', target, 'target');
  if (prediction.shape.join() !== target.shape.join()) {
    throw new RangeError(
      `mseLoss: shapes must be equal, got [${prediction.shape}] and [${target.shape}]`,
    );
  }
  expectOneOf('mseLoss', 'reduction', reduction, reductions);
  const errors = square(sub(forPrecision(prediction), forPrecision(target)));
  if (reduction === 'none') return errors;
  return reduction === 'sum' ? sum(errors) : mean(errors);
}

/** (prediction - target)², mean over all elements. */
export class MSELoss extends Module {
  readonly reduction: Reduction;
  constructor(options: { reduction?: Reduction } = {}) {
    super();
    const { reduction = 'mean' } = expectOptions('MSELoss', options);
    this.reduction = expectOneOf('MSELoss', 'reduction', reduction, reductions);
  }
  forward(prediction: Tensor, target: Tensor): Tensor {
    return mseLoss(prediction, target, this.reduction);
  }
}
