/** Calls of public functions against PyTorch's answers, from the tables of test/vectors. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from './compare.js';
import { devices } from './devices.js';
import { nd } from './nd.js';
import { type Packed, readVectors, uniformOf } from './vectors.js';

type Value = number | string | boolean;

/** A tensor of a table: `float` is the dtype of the test. Special numbers and long ones are strings. */
interface Written {
  dtype?: ng.DType | 'float';
  shape: number[];
  values?: Value[];
  seed?: number;
  low?: number;
  high?: number;
  /** Whether there is a gradient for it. */
  leaf?: true;
}

interface Answer {
  dtype: ng.DType | 'float';
  shape: number[];
  values: Value[];
}

/** A call as table.py writes it: tensors stand among the arguments. */
interface Call {
  op: string;
  arguments: unknown[];
  /** What a function gives that answers with a boolean. */
  answer?: boolean;
  outputs?: Answer[];
  /** Whether it may give more than these. */
  first?: true;
  /** How far results may be that are not of the test's dtype. */
  within?: number;
  doutSeed?: number;
  gradients?: (Omit<Answer, 'dtype'> | null)[];
}

/** A call as the other files write it: tensors come first, or where "#0" and "@0" name them. */
interface Seeded {
  op: string;
  arguments: unknown[];
  inputs: Written[];
  extra?: Packed[];
  doutSeed: number;
  /** The first of its results. */
  output: Packed;
  gradients: Packed[];
}

const specials: Record<string, number> = {
  nan: Number.NaN,
  inf: Number.POSITIVE_INFINITY,
  '-inf': Number.NEGATIVE_INFINITY,
};
const numberOf = (x: Value): number => specials[String(x)] ?? Number(x);
const functions = { ...ng.nn, ...ng } as unknown as Record<string, (...x: unknown[]) => unknown>;

function callOf(entry: Call | Seeded): Call {
  if (!('output' in entry)) return entry;
  const { op, inputs, extra = [], doutSeed, output, gradients } = entry;
  const leaves = inputs.map((words) => ({ ...words, leaf: true }));
  const indices = extra.map((words) => ({ ...words, dtype: 'int64' }));
  let named = false;
  const resolve = (argument: unknown): unknown => {
    if (Array.isArray(argument)) return argument.map(resolve);
    const [, list, place] = /^([#@])(\d)$/.exec(String(argument)) ?? [];
    named ||= list !== undefined;
    return list ? (list === '#' ? leaves : indices)[Number(place)] : argument;
  };
  const resolved = entry.arguments.map(resolve);
  const tensors = [...leaves, ...indices];
  // einsum begins with its equation.
  const around = op === 'einsum' ? [...resolved, ...tensors] : [...tensors, ...resolved];
  const outputs = [{ dtype: 'float' as const, ...output }];
  return { op, arguments: named ? resolved : around, outputs, first: true, doutSeed, gradients };
}

type FloatDType = 'float32' | 'float64';

function tensorOf(words: Written, dtype: FloatDType, device: ng.Device): ng.Tensor {
  const { shape, values, low, high } = words;
  const own = words.dtype === undefined || words.dtype === 'float' ? dtype : words.dtype;
  if (!values) return uniformOf(words.seed as number, shape, low, high).to(own, device);
  if (own === 'int64') return ng.tensor(values.map(BigInt), shape, { device, dtype: own });
  return ng.tensor(values.map(numberOf), shape, { dtype: 'float64' }).to(own, device);
}

/** Calls the function with tensors of a dtype, and compares what comes out and its gradients. */
function check(call: Call, dtype: FloatDType, device: ng.Device, near: number): void {
  const leaves: ng.Tensor[] = [];
  const resolve = (argument: unknown): unknown => {
    if (Array.isArray(argument)) return argument.map(resolve);
    if (typeof argument === 'string') return specials[argument] ?? argument;
    if (argument === null || typeof argument !== 'object' || !('shape' in argument)) {
      return argument;
    }
    const x = tensorOf(argument as Written, dtype, device).detach();
    if ('leaf' in argument) leaves.push(x.requireGrad());
    return x;
  };
  const fn = functions[call.op] as (...args: unknown[]) => unknown;
  const result = fn(...call.arguments.map(resolve));
  if (call.answer !== undefined) {
    expect(result).toBe(call.answer);
    return;
  }
  const expected = call.outputs ?? [];
  const results = [result].flat() as ng.Tensor[];
  if (!call.first) expect(results.length).toBe(expected.length);
  const outputs = results.slice(0, expected.length);
  expected.forEach((answer, i) => {
    const y = outputs[i] as ng.Tensor;
    const same = answer.dtype === 'float';
    expect(y.dtype, `dtype of output ${i}`).toBe(same ? dtype : answer.dtype);
    const values = nd(answer.shape, answer.values.map(numberOf));
    expectClose(valuesOf(y.detach()), values, same ? near : (call.within ?? 0), `output ${i}`);
  });
  if (!call.gradients) return;
  const sums = outputs
    .filter((y) => y.requiresGrad)
    .map((y, i) => {
      const dout = uniformOf((call.doutSeed as number) + i, y.shape);
      return y.mul(dout.to(y.dtype, device)).sum();
    });
  sums.reduce((a, b) => a.add(b)).backward();
  expect(leaves.length).toBe(call.gradients.length);
  call.gradients.forEach((gradient, i) => {
    const { grad } = leaves[i] as ng.Tensor;
    if (!gradient) {
      expect(grad, `gradient ${i}`).toBeNull();
      return;
    }
    const values = nd(gradient.shape, gradient.values.map(numberOf));
    expectClose(valuesOf(grad as ng.Tensor), values, near, `gradient ${i}`);
  });
}

/**
 * Defines the tests of test/vectors/<name>.json, in both dtypes. Results may be `within` of PyTorch's
 * in float32, and 1e-5 of that in float64.
 */
export function testTorch(name: string, within = 1e-5): void {
  const { torch, cases } = readVectors<Call | Seeded>(name);
  const named = cases.map((entry, i) => [`${entry.op} (case ${i})`, callOf(entry)] as const);
  describe.each(devices)(`PyTorch ${torch} and ${name} on $name`, (device) => {
    const before = ng.getDefaultDevice();
    beforeAll(() => ng.setDefaultDevice(device));
    afterAll(() => ng.setDefaultDevice(before));
    it.each(named)('%s', (_, call) => {
      ng.scope(() => check(call, 'float32', device, within));
      ng.scope(() => check(call, 'float64', device, within * 1e-5));
    });
  });
}
