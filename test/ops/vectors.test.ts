/** Values and gradients of ops against PyTorch's. */
import { expect, it } from 'vitest';
import { testTorch } from '../support/torch.js';
import { readVectors } from '../support/vectors.js';

const tables = { ops: 1e-5, numeric: 2e-5, movement: 1e-6, comparison: 1e-5, view: 1e-5 };

it('come from a named version of PyTorch', () => {
  const counts = Object.keys(tables).map((name) => {
    const { torch, cases } = readVectors<unknown>(name);
    expect(torch).toMatch(/^\d+\.\d+/);
    return cases.length;
  });
  expect(Math.min(...counts)).toBeGreaterThanOrEqual(53);
});

for (const [name, within] of Object.entries(tables)) testTorch(name, within);
