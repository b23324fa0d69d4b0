/** Values and gradients against PyTorch's (test/vectors/ops.json). */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { type Packed, readVectors, uniformOf, unpacked } from '../support/vectors.js';

interface Case {
  op: string;
  arguments: unknown[];
  inputs: { seed: number; shape: number[]; low: number; high: number }[];
  extra: Packed[];
  doutSeed: number;
  output: Packed;
  gradients: Packed[];
}

const { torch, cases } = readVectors<Case>('ops');
const functions: Record<string, (...args: never[]) => ng.Tensor> = { ...ng, ...ng.nn } as never;

it('come from a named version of PyTorch', () => {
  expect(torch).toMatch(/^\d+\.\d+/);
  expect(cases.length).toBeGreaterThanOrEqual(78);
});

describe.each(devices)('PyTorch vectors on $name', (device) => {
  describe.each(['float32', 'float64'] as const)('in %s', (dtype) => {
    const within = dtype === 'float32' ? 1e-5 : 1e-10;
    it.each(cases.map((entry, i) => [`${entry.op} (case ${i})`, entry] as const))(
      '%s',
      (_, entry) => {
        ng.scope(() => {
          const leaves = entry.inputs.map(({ seed, shape, low, high }) =>
            uniformOf(seed, shape, low, high).to(dtype, device).detach().requireGrad(),
          );
          const extra = entry.extra.map(({ shape, values }) =>
            ng.tensor(values.map(BigInt), shape, { device }),
          );
          const fn = functions[entry.op] as (...args: unknown[]) => ng.Tensor;
          const output = fn(...leaves, ...extra, ...entry.arguments);
          expectClose(valuesOf(output.detach()), unpacked(entry.output), within, 'output');
          output.backward(uniformOf(entry.doutSeed, output.shape).to(dtype, device));
          leaves.forEach((leaf, i) => {
            const expected = unpacked(entry.gradients[i] as Packed);
            expectClose(valuesOf(leaf.grad as ng.Tensor), expected, within, `gradient ${i}`);
          });
        });
      },
    );
  });
});
