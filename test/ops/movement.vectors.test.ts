/** Movement and index ops against PyTorch's values and gradients (test/vectors/movement.json). */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { type Packed, readVectors, uniformOf, unpacked } from '../support/vectors.js';

interface Case {
  op: string;
  arguments: unknown[];
  inputs: { seed: number; shape: number[] }[];
  extra: Packed[];
  doutSeed: number;
  output: Packed;
  gradients: Packed[];
}

const { torch, cases } = readVectors<Case>('movement');
const functions = ng as unknown as Record<string, (...args: unknown[]) => ng.Tensor>;

it('come from a named version of PyTorch', () => {
  expect(torch).toMatch(/^\d+\.\d+/);
  expect(cases.length).toBeGreaterThanOrEqual(53);
});

describe.each(devices)('PyTorch movement on $name', (device) => {
  it.each(cases.map((entry, i) => [`${entry.op} (case ${i})`, entry] as const))(
    '%s',
    (_, entry) => {
      for (const dtype of ['float32', 'float64'] as const) {
        ng.scope(() => {
          const within = dtype === 'float32' ? 1e-6 : 1e-11;
          const leaves = entry.inputs.map(({ seed, shape }) =>
            uniformOf(seed, shape).to(dtype, device).detach().requireGrad(),
          );
          const extra = entry.extra.map(({ shape, values }) =>
            ng.tensor(values.map(BigInt), shape, { device }),
          );
          const resolve = (argument: unknown): unknown => {
            if (Array.isArray(argument)) return argument.map(resolve);
            if (typeof argument !== 'string') return argument;
            const place = Number(argument.slice(1));
            return argument[0] === '#'
              ? leaves[place]
              : argument[0] === '@'
                ? extra[place]
                : argument;
          };
          const fn = functions[entry.op] as (...args: unknown[]) => ng.Tensor;
          const output = fn(...entry.arguments.map(resolve));
          expectClose(valuesOf(output.detach()), unpacked(entry.output), within, `${dtype} output`);
          output.backward(uniformOf(entry.doutSeed, output.shape).to(dtype, device));
          leaves.forEach((leaf, i) => {
            const expected = unpacked(entry.gradients[i] as Packed);
            expectClose(
              valuesOf(leaf.grad as ng.Tensor),
              expected,
              within,
              `${dtype} gradient ${i}`,
            );
          });
        });
      }
    },
  );
});
