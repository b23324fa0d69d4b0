/**
 * One helper tests an op. On the CPU in float64 its values are compared with a reference in plain
 * JavaScript and its gradient rule with central differences. Then every device's forward and
 * backward, in every dtype, is compared with the CPU's float64 of the same (rounded) inputs under
 * the same random upstream gradient: at sizes 0, 1, 31, 33, 64 and 1025, over transposed and stepped
 * views, and with one tensor as several operands.
 */
import { describe, expect, it } from 'vitest';
import type { Device, DType, opTable, Shape } from '../../lib/index.js';
import { grad, memory, noGrad, scope, type Tensor, tensor, zeros } from '../../lib/index.js';
import { expectClose, valuesOf } from './compare.js';
import { cpu, devices } from './devices.js';
import { count, map, type Nd, nd } from './nd.js';
import { Random } from './random.js';
import { skipReason } from './skips.js';
import { floatingDTypes, toleranceOf, type Wider } from './tolerance.js';

/** Where an input's values come from: uniform in [low, high), drawn again where `avoid` holds. */
export interface Domain {
  readonly low: number;
  readonly high: number;
  readonly avoid?: (x: number) => boolean;
  readonly integer?: boolean;
}

export interface Input {
  readonly shape: (n: number) => Shape;
  readonly domain?: Domain | ((n: number) => Domain);
  /** A dtype of its own, as indices and conditions have; such an input has no gradient. */
  readonly dtype?: DType;
}

export interface ErrorCase {
  readonly name: string;
  readonly call: (device: Device) => unknown;
  /** The whole sentence, or a pattern of it. */
  readonly message: string | RegExp;
}

/** The description of one op, or of one way to call it. */
export interface OpRow {
  /** The row of the op table that this tests. */
  readonly op: keyof typeof opTable;
  /** How it is called, where an op has several rows. */
  readonly variant?: string;
  readonly fn: (...inputs: Tensor[]) => Tensor;
  readonly reference: (...inputs: Nd[]) => Nd;
  readonly inputs: readonly Input[];
  readonly sizes?: readonly number[];
  /** A size that takes several threads or many blocks; float32 on real devices alone. */
  readonly large?: number;
  /** Floating dtypes that it takes; all four where left out. */
  readonly dtypes?: readonly DType[];
  /** Dtypes in which results are compared with the reference exactly. */
  readonly exact?: readonly DType[];
  /** The dtype of the result; that of the inputs where left out. */
  readonly result?: (dtype: DType) => DType;
  readonly differentiable?: boolean;
  /** Terms of the sums behind one element of the result or a gradient. */
  readonly terms?: (n: number) => number;
  readonly wider?: Wider;
  /** Values for the first input, compared one by one without a gradient. */
  readonly special?: readonly number[];
  readonly errors?: readonly ErrorCase[];
}

export const defaultSizes = [0, 1, 31, 33, 64, 1025];
const layoutSize = 33;
const gradientSize = 5;
const layouts = ['contiguous', 'transposed', 'stepped'] as const;
type Layout = (typeof layouts)[number];

/** NaN, infinities, zeros, and the far ends of the range. */
export const specialValues = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  0,
  -0,
  1,
  -1,
  0.5,
  -2.5,
  1e30,
  -1e30,
  1e-30,
  -1e-30,
];

function isIntegral(dtype: DType): boolean {
  return !(floatingDTypes as readonly DType[]).includes(dtype);
}

/** A number as an integer dtype stores it. */
export function wrap(dtype: DType, value: number): number {
  switch (dtype) {
    case 'bool':
      return value === 0 ? 0 : 1;
    case 'uint8':
      return ((Math.trunc(value) % 256) + 256) % 256;
    case 'int32':
      return Math.trunc(value) | 0;
    default:
      return isIntegral(dtype) ? Math.trunc(value) : value;
  }
}

/** The same values laid out in memory in another way. */
export function laidOut(x: Tensor, layout: Layout): Tensor {
  if (layout === 'contiguous' || x.rank === 0) return x;
  if (layout === 'transposed') {
    const reversed = x.shape.map((_, axis) => x.rank - 1 - axis);
    return x.permute(reversed).contiguous().permute(reversed);
  }
  const shape = x.shape.map((size) => 2 * size + 3);
  const room = zeros(shape, { dtype: x.dtype, device: x.device });
  let part = room;
  for (let axis = 0; axis < x.rank; ++axis) {
    part = part.slice(axis, 1, 1 + 2 * (x.shape[axis] as number), 2);
  }
  return part.copyFrom(x);
}

function drawInput(row: OpRow, at: number, n: number, dtype: DType): Nd {
  const input = row.inputs[at] as Input;
  const shape = input.shape(n);
  const { domain = { low: -2, high: 2 } } = input;
  const { low, high, avoid, integer } = typeof domain === 'function' ? domain(n) : domain;
  const random = new Random(`${row.op} ${row.variant} ${at} ${n}`);
  const whole = integer || isIntegral(dtype);
  const values = Array.from({ length: count(shape) }, () => {
    for (;;) {
      let x = random.between(low, high);
      if (whole) x = dtype === 'uint8' ? Math.abs(Math.round(x)) : Math.round(x);
      if (dtype === 'bool') x = random.integer(0, 1);
      if (!avoid?.(x)) return x;
    }
  });
  return nd(shape, values);
}

/** Inputs of a row as CPU tensors, rounded to the dtype that is being tested. */
function rounded(row: OpRow, n: number, dtype: DType): Tensor[] {
  return row.inputs.map((input, at) => {
    const as = input.dtype ?? dtype;
    const { shape, data } = drawInput(row, at, n, as);
    return tensor(data, shape, { dtype: 'float64' }).to(as);
  });
}

interface Outcome {
  output: Nd;
  dtype: DType;
  gradients: Nd[];
}

interface Setting {
  device: Device;
  dtype: DType;
  layout?: Layout;
  backward?: boolean;
}

/** Runs a row on prepared inputs; the upstream gradient follows from the row and the shapes. */
function evaluate(row: OpRow, inputs: Tensor[], roundTo: DType, setting: Setting): Outcome {
  const { device, dtype, layout = 'contiguous', backward = true } = setting;
  return scope(() => {
    const leaves = inputs.map((x, i) => {
      const own = row.inputs[i]?.dtype;
      const leaf = laidOut((own ? x : x.to(dtype)).to(device), layout).detach();
      return own || !backward ? leaf : leaf.requireGrad();
    });
    const output = row.fn(...leaves);
    const outcome: Outcome = {
      output: valuesOf(output.detach()),
      dtype: output.dtype,
      gradients: [],
    };
    if (!backward) return outcome;
    const random = new Random(`${row.op} ${row.variant} dout ${output.shape}`);
    const dout = tensor(
      Float64Array.from({ length: output.size }, () => random.between(-1, 1)),
      output.shape,
      { dtype: 'float64' },
    );
    output.backward(dout.to(roundTo).to(output.dtype).to(device));
    outcome.gradients = leaves
      .filter((_, i) => !row.inputs[i]?.dtype)
      .map((leaf) => {
        expect(leaf.grad, 'a gradient for every input').not.toBeNull();
        expect(leaf.grad?.dtype, 'dtype of a gradient').toBe(leaf.dtype);
        return valuesOf(leaf.grad as Tensor);
      });
    return outcome;
  });
}

function compare(
  row: OpRow,
  actual: Outcome,
  expected: Outcome,
  dtype: DType,
  n: number,
  what: string,
) {
  const within = toleranceOf(dtype, row.terms?.(n), row.wider);
  expect(actual.dtype, `${what}: dtype`).toBe(row.result ? row.result(dtype) : dtype);
  expectClose(actual.output, expected.output, isIntegral(actual.dtype) ? 0 : within, what);
  expect(actual.gradients.length).toBe(expected.gradients.length);
  actual.gradients.forEach((gradient, i) => {
    expectClose(gradient, expected.gradients[i] as Nd, within, `${what}: gradient ${i}`);
  });
}

/** Central differences of Σ dout·fn(x), on the CPU in float64. */
function checkGradient(row: OpRow, n: number): void {
  const inputs = rounded(row, n, 'float64');
  const setting: Setting = { device: cpu, dtype: 'float64' };
  const { output, gradients } = evaluate(row, inputs, 'float64', setting);
  const random = new Random(`${row.op} ${row.variant} dout ${output.shape}`);
  const dout = output.data.map(() => random.between(-1, 1));
  const values = inputs.map((x) => valuesOf(x));
  const at = (i: number, j: number, by: number): number =>
    scope(() =>
      noGrad(() => {
        const moved = values.map((x, k) => {
          const data = Float64Array.from(x.data);
          if (k === i) data[j] = (data[j] as number) + by;
          return tensor(data, x.shape, { dtype: 'float64' }).to((inputs[k] as Tensor).dtype);
        });
        return valuesOf(row.fn(...moved)).data.reduce(
          (sum, y, k) => sum + y * (dout[k] as number),
          0,
        );
      }),
    );
  let next = 0;
  values.forEach((x, i) => {
    if (row.inputs[i]?.dtype) return;
    const numeric = x.data.map((value, j) => {
      const h = 1e-5 * Math.max(1, Math.abs(value));
      return (at(i, j, h) - at(i, j, -h)) / (2 * h);
    });
    // Truncation h² and cancellation ε/h are both near 1e-10.
    expectClose(gradients[next++] as Nd, nd(x.shape, numeric), 1e-7, `gradient ${i} at size ${n}`);
  });
}

function checkRelease(row: OpRow): void {
  const dtype = (row.dtypes ?? floatingDTypes)[0] as DType;
  const floating = row.inputs.flatMap(({ dtype: own }, i) => (own ? [] : [i]));
  const run = (wanted: readonly number[]): number => {
    scope(() => {
      const leaves = rounded(row, gradientSize, dtype).map((x, i) => {
        const leaf = (row.inputs[i]?.dtype ? x : x.to(dtype)).detach();
        return wanted.includes(i) ? leaf.requireGrad() : leaf;
      });
      const output = row.fn(...leaves);
      if (wanted.length === 0) return;
      // Not in the leaves, which would hold them for as long as the garbage collector does.
      grad(
        output.to('float64').sum(),
        wanted.map((i) => leaves[i] as Tensor),
      );
    });
    return memory.stats(cpu).liveTensors;
  };
  let live = run(floating);
  for (const wanted of [[], ...(floating.length > 1 ? floating.map((i) => [i]) : []), floating]) {
    const after = run(wanted);
    expect(after, `gradients of inputs ${wanted}`).toBeLessThanOrEqual(live);
    live = after;
  }
}

/** Defines the tests of one row. */
export function testOp(row: OpRow, on: readonly Device[] = devices): void {
  const name = row.variant ? `${row.op} ${row.variant}` : row.op;
  const sizes = row.sizes ?? defaultSizes;
  const layoutAt = sizes.includes(layoutSize) ? layoutSize : (sizes.at(-1) as number);
  const differentiable = row.differentiable ?? true;
  const dtypes = row.dtypes ?? floatingDTypes;
  const expectedOnCpu = new Map<string, Outcome>();

  const expectedOf = (n: number, dtype: DType): Outcome => {
    const key = `${n} ${dtype}`;
    let found = expectedOnCpu.get(key);
    if (!found) {
      const setting: Setting = { device: cpu, dtype: 'float64', backward: differentiable };
      found = scope(() => evaluate(row, rounded(row, n, dtype), dtype, setting));
      expectedOnCpu.set(key, found);
    }
    return found;
  };

  describe(name, () => {
    if (dtypes.includes('float64')) {
      it('has the values of its formula', () => {
        for (const n of sizes) {
          const { output } = expectedOf(n, 'float64');
          const expected = scope(() =>
            row.reference(...rounded(row, n, 'float64').map((x) => valuesOf(x))),
          );
          const within = toleranceOf('float64', row.terms?.(n), row.wider);
          expectClose(output, expected, within, `size ${n}`);
        }
      });
    }

    if (differentiable) {
      it('has the gradient of its formula', () => {
        for (const n of [...new Set([sizes.find((size) => size > 0) as number, gradientSize])]) {
          scope(() => checkGradient(row, n));
        }
      });

      it('leaves no tensor behind, whichever inputs need gradients', () => checkRelease(row));
    }

    for (const device of on) {
      for (const dtype of dtypes) {
        if (skipReason(`${name} ${dtype}`, device.name)) continue;
        it(`agrees on ${device.name} in ${dtype}`, () => {
          for (const n of sizes) {
            for (const layout of n === layoutAt ? layouts : layouts.slice(0, 1)) {
              const setting: Setting = { device, dtype, layout, backward: differentiable };
              const actual = scope(() => evaluate(row, rounded(row, n, dtype), dtype, setting));
              compare(row, actual, expectedOf(n, dtype), dtype, n, `size ${n}, ${layout}`);
            }
          }
        });
      }

      if (row.large && device.type !== 'emulated') {
        const n = row.large;
        it(`agrees on ${device.name} at size ${n}`, () => {
          const setting: Setting = { device, dtype: 'float32', backward: differentiable };
          const actual = scope(() => evaluate(row, rounded(row, n, 'float32'), 'float32', setting));
          const expected = expectedOf(n, 'float32');
          compare(row, actual, expected, 'float32', n, `size ${n}`);
          const reference = scope(() =>
            row.reference(...rounded(row, n, 'float32').map((x) => valuesOf(x))),
          );
          const within = toleranceOf('float64', row.terms?.(n), row.wider);
          expectClose(expected.output, reference, within, `size ${n} in float64`);
        });
      }

      for (const dtype of row.exact ?? []) {
        if (skipReason(`${name} ${dtype}`, device.name)) continue;
        it(`is exact on ${device.name} in ${dtype}`, () => {
          for (const n of sizes) {
            for (const layout of n === layoutAt ? layouts : layouts.slice(0, 1)) {
              scope(() => {
                const inputs = rounded(row, n, dtype);
                const setting: Setting = { device, dtype, layout, backward: false };
                const actual = evaluate(row, inputs, dtype, setting);
                const expected = row.reference(...inputs.map((x) => valuesOf(x)));
                expect(actual.dtype).toBe(row.result ? row.result(dtype) : dtype);
                const stored = map(expected, (v) => wrap(actual.dtype, v));
                const within = isIntegral(actual.dtype) ? 0 : toleranceOf(actual.dtype);
                expectClose(actual.output, stored, within, `size ${n}, ${layout}`);
              });
            }
          }
        });
      }

      if (row.special && !skipReason(`${name} special`, device.name)) {
        it(`takes special values on ${device.name}`, () => {
          scope(() => {
            const x = tensor(row.special as number[], { device });
            expectSpecial(valuesOf(row.fn(x)), row.reference(valuesOf(x)), row.special as number[]);
          });
        });
      }

      for (const { name: mistake, call, message } of row.errors ?? []) {
        it(`refuses ${mistake} on ${device.name}`, () => {
          expect(() => scope(() => call(device))).toThrow(message);
        });
      }
    }

    if (usableTwice(row)) {
      it('takes one tensor as several operands', () => {
        for (const device of on) scope(() => checkTwice(row, device));
      });
    }
  });
}

function expectSpecial(actual: Nd, expected: Nd, inputs: readonly number[]): void {
  inputs.forEach((x, i) => {
    const e = Math.fround(expected.data[i] as number);
    const a = actual.data[i] as number;
    const close = Object.is(a, e) || a === e || Math.abs(a - e) <= 1e-5 * Math.abs(e) + 1e-38;
    expect(close, `at ${x}: got ${a}, expected ${e}`).toBe(true);
  });
}

function usableTwice(row: OpRow): boolean {
  const [first, second] = row.inputs;
  return (
    (row.differentiable ?? true) &&
    row.inputs.length === 2 &&
    !first?.dtype &&
    !second?.dtype &&
    String(first?.shape(gradientSize)) === String(second?.shape(gradientSize))
  );
}

/** f(x, x) has the sum of both operands' gradients. */
function checkTwice(row: OpRow, device: Device): void {
  const [x] = rounded(row, gradientSize, 'float32') as [Tensor];
  const run = (once: boolean): Nd => {
    const a = x.to(device).detach().requireGrad();
    const b = once ? a : x.clone().to(device).detach().requireGrad();
    const y = row.fn(a, b);
    const random = new Random(`${row.op} twice`);
    const dout = Float32Array.from({ length: y.size }, () => random.between(-1, 1));
    y.backward(tensor(dout, y.shape, { device }));
    if (once) return valuesOf(a.grad as Tensor);
    return valuesOf((a.grad as Tensor).add(b.grad as Tensor));
  };
  expectClose(run(true), run(false), 1e-6, `twice on ${device.name}`);
}

/** Defines the tests of several rows. */
export function testOps(rows: readonly OpRow[], on: readonly Device[] = devices): void {
  for (const row of rows) testOp(row, on);
}

/** The shape [n] of most elementwise rows. */
export const vector = (n: number): Shape => [n];
/** A matrix of about n elements. */
export const matrix = (n: number): Shape => [n, 3];
