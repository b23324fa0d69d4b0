/** The gradients of every public op by central differences, at arguments of the fuzzer's catalogue. */
import { describe, expect, it } from 'vitest';
import { isFloating } from '../../lib/dtype.js';
import * as ng from '../../lib/index.js';
import { OneDType, tensorsIn } from '../../scripts/ops-table.js';
import { catalogue } from '../fuzz/catalogue.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { documentedOps } from '../support/documented.js';
import { type Nd, nd } from '../support/nd.js';
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

/** Checks one call; false where it says nothing: refused, too large, random, or not finite. */
function check(name: string, call: Call, args: unknown[]): boolean {
  const shapes: ng.Shape[] = [];
  replaced(args, (x) => {
    shapes.push(x.shape);
    return x;
  });
  const [low, high] = domains[name] ?? [0.15, 0.85];
  const values = shapes.map((shape, i) => uniformOf(50 + i, shape, low, high));
  const size = values.reduce((n, x) => n + x.size, 0);
  if (size === 0 || size > mostElements) return false;
  const leaves = values.map((x) => x.detach().requireGrad());
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
  leaves.forEach((leaf, i) => {
    const x = valuesOf(values[i] as ng.Tensor);
    const h = 1e-6;
    const slope = (j: number): number => {
      const [up, down] = [h, -h].map((by) => {
        const data = Float64Array.from(x.data);
        data[j] = (data[j] as number) + by;
        const other = ng.tensor(data, x.shape, { dtype: 'float64', device: cpu });
        return at(values.map((value, k) => (k === i ? other : value)));
      }) as [number, number];
      return (up - down) / (2 * h);
    };
    const numeric = nd(
      x.shape,
      Array.from(x.data, (_, j) => slope(j)),
    );
    const found: Nd = leaf.grad
      ? valuesOf(leaf.grad)
      : nd(x.shape, new Float64Array(x.data.length));
    // Near 0 everywhere both are, up to the rounding of the sums.
    const near = Math.max(...numeric.data.map(Math.abs)) < 1e-7;
    if (near) expect(Math.max(...found.data.map(Math.abs)), `${name}: ${i}`).toBeLessThan(1e-7);
    else expectClose(found, numeric, 1e-6, `${name}: gradient ${i}`);
  });
  return true;
}

describe('central differences', () => {
  const ops = documentedOps().filter(({ differentiable }) => differentiable);

  it.each(ops.filter(({ name }) => !exceptions[name]))('of $name', ({ name }) => {
    const entry = catalogue.find((one) => one.name.replace('nn.', '') === name);
    let checked = 0;
    for (let attempt = 0; attempt < tries && checked < wanted; ++attempt) {
      ng.scope(() => {
        const args = entry?.args(new Small(cpu, 'float64', attempt)) ?? [];
        checked += Number(check(name, entry?.call as unknown as Call, args));
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
