/** The first and second gradients of every public op by central differences, at arguments of the fuzzer's catalogue. */
import { describe, expect, it } from 'vitest';
import { isFloating } from '../../lib/dtype.js';
import * as ng from '../../lib/index.js';
import { OneDType, tensorsIn } from '../../scripts/ops-table.js';
import { catalogue } from '../fuzz/catalogue.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { documentedOps } from '../support/documented.js';
import { nd } from '../support/nd.js';
import { uniformOf } from '../support/vectors.js';

const cpu = ng.device('cpu');
const tries = 40;
const mostElements = 64;
const wanted = 2;

/** Why an op is not checked here. */
const exceptions: Record<string, string> = {
  batchNorm: 'running statistics are no operands of its gradient',
  copyInto: 'no gradient flows through a write in place',
  embedding: 'a row of padding takes no gradient',
};
/** Where an op is defined and smooth, if not between 0.15 and 0.85. */
const domains: Record<string, readonly [number, number]> = { acosh: [1.2, 2.5] };

/** Few elements, so that moving each of them is cheap. */
class Small extends OneDType {
  override shape(rank = this.integer(0, 3)): number[] {
    return Array.from({ length: rank }, () => this.integer(1, 3));
  }
}

/** The same argument with other tensors in the place of its floating ones. */
function replaced(argument: unknown, make: (x: ng.Tensor) => ng.Tensor): unknown {
  if (argument instanceof ng.Tensor) return isFloating(argument.dtype) ? make(argument) : argument;
  if (Array.isArray(argument)) return argument.map((one) => replaced(one, make));
  if (argument === null || typeof argument !== 'object') return argument;
  if (Object.getPrototypeOf(argument) !== Object.prototype) return argument;
  const entries = Object.entries(argument).map(([key, one]) => [key, replaced(one, make)]);
  return Object.fromEntries(entries);
}

type Call = (...args: unknown[]) => unknown;

/** Σ w·y over the differentiable results, of a call with its floating tensors as given. */
function weighted(call: Call, args: unknown, values: readonly ng.Tensor[]): ng.Tensor {
  let next = 0;
  const given = replaced(args, () => values[next++] as ng.Tensor) as unknown[];
  const results = tensorsIn(call(...given)).filter((y) => isFloating(y.dtype));
  const sums = results.map((y, i) => y.mul(uniformOf(700 + i, y.shape, 0.2, 1)).sum());
  return sums.reduce((a, b) => a.add(b), ng.zeros([], { dtype: 'float64', device: cpu }));
}

/** Σ (g + w)² over the gradients g of the weighted results; w shows what slopes of 0 would hide. */
function slopes(call: Call, args: unknown, leaves: ng.Tensor[], createGraph: boolean): ng.Tensor {
  const found = ng.grad(weighted(call, args, leaves), leaves, undefined, { createGraph });
  const squares = found.map((g, i) =>
    g
      .add(uniformOf(800 + i, g.shape, 0.2, 1))
      .square()
      .sum(),
  );
  return squares.reduce((a, b) => a.add(b), ng.zeros([], { dtype: 'float64', device: cpu }));
}

/** Compares gradients with central differences of f, which gets tensors like `values`. */
function compare(
  what: string,
  gradients: readonly (ng.Tensor | null)[],
  values: readonly ng.Tensor[],
  f: (values: readonly ng.Tensor[]) => number,
  within: number,
): void {
  values.forEach((value, i) => {
    const x = valuesOf(value);
    const h = 1e-6;
    const slope = (j: number): number => {
      const [up, down] = [h, -h].map((by) => {
        const data = Float64Array.from(x.data);
        data[j] = (data[j] as number) + by;
        const moved = ng.tensor(data, x.shape, { dtype: 'float64', device: cpu });
        return f(values.map((other, k) => (k === i ? moved : other)));
      }) as [number, number];
      return (up - down) / (2 * h);
    };
    const numeric = nd(
      x.shape,
      Array.from(x.data, (_, j) => slope(j)),
    );
    const gradient = gradients[i];
    const found = gradient ? valuesOf(gradient) : nd(x.shape, new Float64Array(x.data.length));
    // Where all are 0, up to the rounding of the sums, there is no scale to compare by.
    const near = Math.max(...numeric.data.map(Math.abs)) < within;
    if (near) expect(Math.max(...found.data.map(Math.abs)), `${what} ${i}`).toBeLessThan(within);
    else expectClose(found, numeric, within, `${what} ${i}`);
  });
}

/** Checks one call; false where it says nothing: refused, too large, random, or not finite. */
function check(name: string, again: boolean, call: Call, args: unknown[]): boolean {
  const shapes: ng.Shape[] = [];
  replaced(args, (x) => {
    shapes.push(x.shape);
    return x;
  });
  const [low, high] = domains[name] ?? [0.15, 0.85];
  const values = shapes.map((shape, i) => uniformOf(50 + i, shape, low, high));
  const size = values.reduce((n, x) => n + x.size, 0);
  if (size === 0 || size > mostElements) return false;
  const leavesOf = (given: readonly ng.Tensor[]): ng.Tensor[] =>
    given.map((x) => x.detach().requireGrad());
  const leaves = leavesOf(values);
  const total = (() => {
    try {
      return weighted(call, args, leaves);
    } catch {
      return null;
    }
  })();
  if (!total?.requiresGrad) return false;
  const at = (moved: readonly ng.Tensor[]): number =>
    ng.scope(() => ng.noGrad(() => Number(weighted(call, args, moved).item())));
  const here = at(values);
  if (!Number.isFinite(here) || here !== Number(total.item())) return false;
  total.backward();
  const first = leaves.map((leaf) => leaf.grad);
  compare(`${name}: gradient`, first, values, at, 1e-6);
  if (!again) return true;
  const others = leavesOf(values);
  const squares = slopes(call, args, others, true);
  if (squares.requiresGrad) squares.backward();
  const second = others.map((leaf) => leaf.grad);
  const slopeAt = (moved: readonly ng.Tensor[]): number =>
    ng.scope(() => Number(slopes(call, args, leavesOf(moved), false).item()));
  compare(`${name}: second gradient`, second, values, slopeAt, 1e-5);
  return true;
}

describe('central differences', () => {
  const ops = documentedOps().filter(({ differentiable }) => differentiable);

  it.each(ops.filter(({ name }) => !exceptions[name]))('of $name', ({ name, again }) => {
    const entry = catalogue.find((one) => one.name.replace('nn.', '') === name);
    let checked = 0;
    for (let attempt = 0; attempt < tries && checked < wanted; ++attempt) {
      ng.scope(() => {
        const args = entry?.args(new Small(cpu, 'float64', attempt)) ?? [];
        checked += Number(check(name, again, entry?.call as unknown as Call, args));
      });
    }
    expect(checked, `calls of ${name} that could be checked`).toBeGreaterThan(0);
  });

  it('leave out none without a reason', () => {
    expect(ops.length).toBeGreaterThan(150);
    const names = ops.map(({ name }) => name);
    expect(Object.keys(exceptions).filter((name) => !names.includes(name))).toEqual([]);
  });
});
