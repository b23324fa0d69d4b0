/** Calls of public functions against PyTorch's answers, from tables that test/vectors/table.py wrote. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from './compare.js';
import { devices } from './devices.js';
import { nd } from './nd.js';
import { readVectors, uniformOf } from './vectors.js';

/** A tensor of the table; special numbers and integers beyond 2⁵³ are strings. */
interface Written {
  dtype?: ng.DType | 'float';
  shape: number[];
  values?: (number | string | boolean)[];
  seed?: number;
  low?: number;
  high?: number;
  /** Whether there is a gradient for it. */
  leaf?: true;
}

interface Call {
  op: string;
  arguments: unknown[];
  /** What a function gives that answers with a boolean. */
  answer?: boolean;
  outputs?: Required<Pick<Written, 'dtype' | 'shape' | 'values'>>[];
  within?: number;
  doutSeed?: number;
  gradients?: (Required<Pick<Written, 'shape' | 'values'>> | null)[];
}

type FloatDType = 'float32' | 'float64';

const specials: Record<string, number> = { nan: Number.NaN, inf: Number.POSITIVE_INFINITY };
const numberOf = (x: number | string | boolean): number =>
  typeof x !== 'string' ? Number(x) : x === '-inf' ? -Infinity : (specials[x] ?? Number(x));

function tensorOf(words: Written, dtype: FloatDType, device: ng.Device): ng.Tensor {
  const { shape, values, low, high } = words;
  const own = words.dtype === undefined || words.dtype === 'float' ? dtype : words.dtype;
  if (!values) return uniformOf(words.seed as number, shape, low, high).to(own, device);
  if (own === 'int64') return ng.tensor(values.map(BigInt), shape, { device, dtype: own });
  return ng.tensor(values.map(numberOf), shape, { dtype: 'float64' }).to(own, device);
}

/** Calls `entry` with tensors of a dtype, and compares what comes out and its gradients. */
function check(entry: Call, dtype: FloatDType, device: ng.Device): void {
  const leaves: ng.Tensor[] = [];
  const resolve = (argument: unknown): unknown => {
    if (Array.isArray(argument)) return argument.map(resolve);
    if (typeof argument === 'string' && /^-?inf$/.test(argument)) return numberOf(argument);
    if (argument === null || typeof argument !== 'object') return argument;
    if (!('shape' in argument)) return argument;
    const x = tensorOf(argument as Written, dtype, device).detach();
    if ('leaf' in argument) leaves.push(x.requireGrad());
    return x;
  };
  const args = entry.arguments.map(resolve);
  const fn = (ng as unknown as Record<string, (...args: unknown[]) => unknown>)[entry.op];
  const result = (fn as NonNullable<typeof fn>)(...args);
  if (entry.answer !== undefined) {
    expect(result).toBe(entry.answer);
    return;
  }
  const outputs = (Array.isArray(result) ? result : [result]) as ng.Tensor[];
  expect(outputs.length).toBe(entry.outputs?.length);
  const near = dtype === 'float32' ? 1e-5 : 1e-10;
  outputs.forEach((y, i) => {
    const {
      dtype: of,
      shape,
      values,
    } = (entry.outputs as NonNullable<Call['outputs']>)[i] as {
      dtype: string;
      shape: number[];
      values: (number | string | boolean)[];
    };
    expect(y.dtype, `dtype of output ${i}`).toBe(of === 'float' ? dtype : of);
    const within = of === 'float' ? near : (entry.within ?? 0);
    expectClose(valuesOf(y.detach()), nd(shape, values.map(numberOf)), within, `output ${i}`);
  });
  if (!entry.gradients) return;
  const differentiable = outputs.filter((y) => y.requiresGrad);
  const sums = differentiable.map((y, i) => {
    const dout = uniformOf((entry.doutSeed as number) + i, y.shape).to(y.dtype, device);
    return y.mul(dout).sum();
  });
  sums.reduce((a, b) => a.add(b)).backward();
  entry.gradients.forEach((expected, i) => {
    const { grad } = leaves[i] as ng.Tensor;
    const values = expected ? expected.values.map(numberOf) : [];
    if (!expected) expect(grad, `gradient ${i}`).toBeNull();
    else
      expectClose(valuesOf(grad as ng.Tensor), nd(expected.shape, values), near, `gradient ${i}`);
  });
}

/** Defines the tests of test/vectors/<name>.json: float64 too on the CPU. */
export function testTable(name: string): void {
  const { torch, cases } = readVectors<Call>(name);
  const named = cases.map((entry, i) => [`${entry.op} (case ${i})`, entry] as const);
  describe.each(devices)(`PyTorch ${torch} and ${name} on $name`, (device) => {
    const before = ng.getDefaultDevice();
    beforeAll(() => ng.setDefaultDevice(device));
    afterAll(() => ng.setDefaultDevice(before));
    it.each(named)('%s', (_, entry) => {
      const own = JSON.stringify(entry).includes('"float"') || entry.gradients !== undefined;
      for (const dtype of ['float32', 'float64'] as const) {
        if (dtype === 'float32' || (own && device.type === 'cpu')) {
          ng.scope(() => check(entry, dtype, device));
        }
      }
    });
  });
}
