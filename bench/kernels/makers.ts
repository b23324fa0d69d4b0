/** What makes a case ready to be run by nodegrad. */
import { randn, type Tensor } from 'nodegrad';
import type { KernelCase } from './case.js';

/** A case made ready: its inputs by name, and the op over them. */
export interface Ready {
  inputs: Record<string, Tensor>;
  run: (inputs: Record<string, Tensor>) => Tensor;
  /** The inputs whose gradients are taken; those that are floating where left out. */
  wanted?: readonly string[];
}

export type Maker = (item: KernelCase, size: (name: string) => number) => Ready;

export const normal = (shape: number[], item: KernelCase, scale = 1): Tensor =>
  randn(shape).mul(scale).to(item.dtype);

/** Ops over one table of rows × columns, or over two; gradients are those of the first. */
export function overRows(run: (x: Tensor, y: Tensor) => Tensor, count: 1 | 2 = 1): Maker {
  const names = ['x', 'y'].slice(0, count);
  return (item, size) => ({
    inputs: Object.fromEntries(
      names.map((name) => [name, normal([size('rows'), size('columns')], item)]),
    ),
    run: ({ x, y }) => run(x as Tensor, y as Tensor),
    wanted: ['x'],
  });
}
