/** Values and gradients of a family against PyTorch's, from its own file of vectors. */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from './compare.js';
import { devices } from './devices.js';
import { type Packed, readVectors, uniformOf, unpacked } from './vectors.js';

interface Case {
  op: string;
  arguments: unknown[];
  inputs: { seed: number; shape: number[]; low: number; high: number }[];
  doutSeed: number;
  output: Packed;
  gradients: Packed[];
}

/** Defines the tests of test/vectors/<name>.json. */
export function testTorch(name: string): void {
  const { torch, cases } = readVectors<Case>(name);
  const functions = { ...ng } as unknown as Record<string, (...args: unknown[]) => ng.Tensor>;
  const named = cases.map((entry, i) => [`${entry.op} (case ${i})`, entry] as const);

  describe.each(devices)(`PyTorch ${torch} and ${name} on $name`, (device) => {
    describe.each(['float32', 'float64'] as const)('in %s', (dtype) => {
      const within = dtype === 'float32' ? 1e-5 : 1e-10;
      it.each(named)('%s', (_, entry) => {
        ng.scope(() => {
          const leaves = entry.inputs.map(({ seed, shape, low, high }) =>
            uniformOf(seed, shape, low, high).to(dtype, device).detach().requireGrad(),
          );
          const fn = functions[entry.op] as (...args: unknown[]) => ng.Tensor;
          const output = fn(...leaves, ...entry.arguments);
          expectClose(valuesOf(output.detach()), unpacked(entry.output), within, 'output');
          output.backward(uniformOf(entry.doutSeed, output.shape).to(dtype, device));
          expect(leaves.length).toBe(entry.gradients.length);
          leaves.forEach((leaf, i) => {
            const expected = unpacked(entry.gradients[i] as Packed);
            expectClose(valuesOf(leaf.grad as ng.Tensor), expected, within, `gradient ${i}`);
          });
        });
      });
    });
  });
}
