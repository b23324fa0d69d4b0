/** Math, statistics, scans, sorting and products against PyTorch's (test/vectors/numeric.json). */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { type Packed, readVectors, uniformOf, unpacked } from '../support/vectors.js';

interface Case {
  op: string;
  arguments: unknown[];
  inputs: { seed: number; shape: number[]; low: number; high: number }[];
  doutSeed: number;
  output: Packed;
  gradients: Packed[];
}

const { torch, cases } = readVectors<Case>('numeric');
type Fn = (...args: unknown[]) => ng.Tensor | [ng.Tensor, ng.Tensor];
const functions = { ...ng.nn, ...ng } as unknown as Record<string, Fn>;

it('come from a named version of PyTorch', () => {
  expect(torch).toMatch(/^\d+\.\d+/);
  expect(cases.length).toBeGreaterThanOrEqual(90);
});

describe.each(devices)('PyTorch vectors on $name', (device) => {
  describe.each(['float32', 'float64'] as const)('in %s', (dtype) => {
    const within = dtype === 'float32' ? 2e-5 : 1e-10;
    it.each(cases.map((entry, i) => [`${entry.op} (case ${i})`, entry] as const))(
      '%s',
      (_, entry) => {
        ng.scope(() => {
          const leaves = entry.inputs.map(({ seed, shape, low, high }) =>
            uniformOf(seed, shape, low, high).to(dtype, device).detach().requireGrad(),
          );
          const given = entry.arguments;
          const args = entry.op === 'einsum' ? [...given, ...leaves] : [...leaves, ...given];
          const result = (functions[entry.op] as Fn)(...args);
          const output = Array.isArray(result) ? result[0] : result;
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
