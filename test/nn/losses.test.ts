/** Losses and their gradients against PyTorch's (test/vectors/losses.json). */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { type Packed, readVectors, uniformOf, unpacked } from '../support/vectors.js';

interface Drawn {
  seed: number;
  shape: number[];
  low: number;
  high: number;
}

interface Case {
  op: string;
  inputs: Drawn[];
  options: Record<string, unknown>;
  tensors: Record<string, Drawn>;
  extra: (Packed & { dtype: string })[];
  doutSeed: number;
  output: Packed;
  gradients: Packed[];
}

const { cases } = readVectors<Case>('losses');
const functions = { ...ng, ...ng.nn } as unknown as Record<
  string,
  (...args: unknown[]) => ng.Tensor
>;

describe.each(devices)('losses of PyTorch on $name', (device) => {
  describe.each(['float32', 'float64'] as const)('in %s', (dtype) => {
    const within = dtype === 'float32' ? 1e-5 : 1e-10;
    const draw = ({ seed, shape, low, high }: Drawn): ng.Tensor =>
      uniformOf(seed, shape, low, high).to(dtype, device).detach();

    it.each(
      cases.map(
        (entry, i) => [`${entry.op} ${JSON.stringify(entry.options)} (case ${i})`, entry] as const,
      ),
    )('%s', (_, entry) => {
      ng.scope(() => {
        const leaves = entry.inputs.map((input) => draw(input).requireGrad());
        const extra = entry.extra.map(({ shape, values, dtype: kind }) =>
          kind === 'int64'
            ? ng.tensor(values.map(BigInt), shape, { device })
            : ng.tensor(values, shape, { dtype, device }),
        );
        const tensors = Object.entries(entry.tensors).map(([name, of]) => [name, draw(of)]);
        const options = { ...entry.options, ...Object.fromEntries(tensors) };
        const loss = (functions[entry.op] as (typeof functions)[string])(
          ...leaves,
          ...extra,
          options,
        );
        expect(loss.dtype).toBe(dtype);
        expectClose(valuesOf(loss.detach()), unpacked(entry.output), within, 'loss');
        loss.backward(uniformOf(entry.doutSeed, loss.shape).to(dtype, device));
        leaves.forEach((leaf, i) => {
          const expected = unpacked(entry.gradients[i] as Packed);
          expectClose(valuesOf(leaf.grad as ng.Tensor), expected, within, `gradient ${i}`);
        });
      });
    });
  });
});
