/** What all losses share: reduction of the elements' losses, and shapes that must be equal. */
import { expectNames, expectOneOf, expectTensor } from '../../check.js';
import { mul } from '../../ops/binary.js';
import { mean, sum } from '../../ops/reduce.js';
import type { Reduction } from '../../ops/softmax.js';
import type { Tensor } from '../../tensor.js';
import { Module } from '../module.js';

export const reductions = ['mean', 'sum', 'none'] as const;

/** Options that most losses have. */
export interface LossOptions {
  /** Over all elements: 'mean' where left out. */
  reduction?: Reduction;
}

/** The loss of all elements together. */
export function reduced(name: string, losses: Tensor, reduction: Reduction = 'mean'): Tensor {
  switch (expectOneOf(name, 'reduction', reduction, reductions)) {
    case 'none':
      return losses;
    case 'sum':
      return sum(losses);
    default:
      return mean(losses);
  }
}

/** The same, each element counted by its weight, where there are weights. */
export function weighted(name: string, losses: Tensor, weight: Tensor | undefined): Tensor {
  return weight === undefined ? losses : mul(losses, expectTensor(name, weight, 'weight'));
}

export function expectSameShape(name: string, a: unknown, b: unknown, names: [string, string]) {
  const [x, y] = [expectTensor(name, a, names[0]), expectTensor(name, b, names[1])];
  if (x.shape.length !== y.shape.length || !x.shape.every((n, axis) => n === y.shape[axis])) {
    throw new RangeError(`${name}: shapes must be equal, got [${x.shape}] and [${y.shape}]`);
  }
}

/** A loss as a module: a function with its options. */
export abstract class Loss<Options extends { reduction?: string }> extends Module {
  constructor(
    readonly options: Options,
    known: readonly (keyof Options & string)[],
    words: readonly string[] = reductions,
  ) {
    super();
    const { name } = new.target;
    expectOneOf(name, 'reduction', expectNames(name, options, known).reduction ?? 'mean', words);
  }
}
