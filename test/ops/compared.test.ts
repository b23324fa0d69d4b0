/** That every public op is compared with PyTorch's numbers, and every differentiable one with its slopes. */
import { readdirSync } from 'node:fs';
import { expect, it } from 'vitest';
import { documentedOps } from '../support/documented.js';
import { readVectors } from '../support/vectors.js';

interface Entry {
  op?: string;
  kind?: string;
  gradients?: Record<string, object | null> | (object | null)[];
}

/** Files whose cases are all of one op. */
const files: Record<string, string> = {
  attention: 'scaledDotProductAttention',
  rnn: 'recurrent',
  upsample: 'upsample',
};

const draws = 'draws numbers: its distribution is tested, PyTorch draws others';
const uncompared: Record<string, string> = {
  bernoulli: draws,
  dropout: draws,
  multinomial: draws,
  normal: draws,
  rand: draws,
  randint: draws,
  randLike: draws,
  randn: draws,
  randnLike: draws,
  randperm: draws,
  truncatedNormal: draws,
  uniform: draws,
};
const withoutSlopes: Record<string, string> = {
  copyInto: 'no gradient flows through a write in place',
  floorDivide: 'PyTorch has no derivative of it; here it is 0',
};

const ops = documentedOps();
const values = new Set<string>();
const slopes = new Set<string>();
for (const file of readdirSync(new URL('../vectors', import.meta.url))) {
  if (!file.endsWith('.json')) continue;
  const name = file.replace('.json', '');
  for (const entry of readVectors<Entry>(name).cases ?? []) {
    const op = files[name] ?? entry.op ?? entry.kind;
    if (op === undefined) continue;
    values.add(op);
    if (files[name] || Object.values(entry.gradients ?? {}).some(Boolean)) slopes.add(op);
  }
}

it('lists the public ops', () => {
  expect(ops.length).toBeGreaterThan(220);
});

it('compares the values of every op with PyTorch, or says why not', () => {
  const missing = ops.filter(({ name }) => !values.has(name)).map(({ name }) => name);
  expect(missing.sort()).toEqual(Object.keys(uncompared).sort());
});

it('compares the gradients of every differentiable op with PyTorch, or says why not', () => {
  const missing = ops
    .filter(({ name, differentiable }) => differentiable && values.has(name) && !slopes.has(name))
    .map(({ name }) => name);
  expect(missing.sort()).toEqual(Object.keys(withoutSlopes).sort());
});
