/**
 * Recurrent layers of accelerators at sizes where a sequence is one launch, of a cooperative grid or
 * of clusters, whose blocks exchange their units' h: against the CPU in float64 of the same rounded
 * inputs, twice with the same bits.
 */
import { describe, expect, it } from 'vitest';
import {
  type Device,
  type DType,
  type RecurrentMode,
  recurrent,
  scope,
  setMatmulPrecision,
  type Tensor,
  tensor,
} from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { accelerators, cpu, hopper } from '../support/devices.js';
import type { Nd } from '../support/nd.js';
import { toleranceOf } from '../support/tolerance.js';
import { uniformOf } from '../support/vectors.js';

interface Case {
  mode: RecurrentMode;
  batch: number;
  steps: number;
  hidden: number;
  dtype: DType;
  lengths?: boolean;
  directions?: number;
  /** Products with W_hh in TF32. */
  high?: boolean;
  forwardOnly?: boolean;
}

const gatesOf = { lstm: 4, gru: 3, tanh: 1, relu: 1 } as const;

const cases: Case[] = [
  { mode: 'lstm', batch: 1, steps: 5, hidden: 32, dtype: 'float32' },
  { mode: 'lstm', batch: 3, steps: 33, hidden: 40, dtype: 'bfloat16', lengths: true },
  { mode: 'lstm', batch: 3, steps: 33, hidden: 40, dtype: 'float32', lengths: true },
  {
    mode: 'lstm',
    batch: 17,
    steps: 2,
    hidden: 100,
    dtype: 'float32',
    lengths: true,
    directions: 2,
  },
  { mode: 'lstm', batch: 17, steps: 2, hidden: 100, dtype: 'float32', high: true },
  { mode: 'lstm', batch: 64, steps: 5, hidden: 32, dtype: 'float16', lengths: true },
  { mode: 'lstm', batch: 64, steps: 5, hidden: 32, dtype: 'float32' },
  { mode: 'lstm', batch: 3, steps: 2, hidden: 256, dtype: 'bfloat16' },
  { mode: 'lstm', batch: 3, steps: 2, hidden: 256, dtype: 'float32', high: true },
  { mode: 'lstm', batch: 1, steps: 4, hidden: 100, dtype: 'float16' },
  { mode: 'lstm', batch: 17, steps: 1, hidden: 40, dtype: 'float32', lengths: true },
  { mode: 'gru', batch: 17, steps: 5, hidden: 40, dtype: 'float32', directions: 2 },
  { mode: 'gru', batch: 1, steps: 2, hidden: 256, dtype: 'float32' },
  { mode: 'gru', batch: 3, steps: 5, hidden: 100, dtype: 'bfloat16', lengths: true },
  { mode: 'gru', batch: 64, steps: 5, hidden: 32, dtype: 'float32', high: true },
  { mode: 'tanh', batch: 17, steps: 33, hidden: 32, dtype: 'float16', lengths: true },
  { mode: 'relu', batch: 3, steps: 5, hidden: 100, dtype: 'float32' },
  { mode: 'tanh', batch: 64, steps: 5, hidden: 40, dtype: 'bfloat16', lengths: true },
  { mode: 'lstm', batch: 33, steps: 2, hidden: 128, dtype: 'bfloat16', lengths: true },
  { mode: 'lstm', batch: 5, steps: 4, hidden: 100, dtype: 'float16' },
  { mode: 'gru', batch: 5, steps: 3, hidden: 128, dtype: 'float32', lengths: true },
  { mode: 'lstm', batch: 3, steps: 2, hidden: 320, dtype: 'bfloat16', forwardOnly: true },
];

// As many units as take the grid of a chip of capability 9.0.
const wide: Case[] = [
  { mode: 'lstm', batch: 1, steps: 2, hidden: 512, dtype: 'bfloat16' },
  { mode: 'gru', batch: 1, steps: 2, hidden: 1024, dtype: 'bfloat16', forwardOnly: true },
];

const inputSize = 6;

function inputsOf({ mode, batch, steps, hidden, dtype, lengths, directions = 1 }: Case): Tensor[] {
  const gates = gatesOf[mode] * hidden;
  const bound = 1 / Math.sqrt(hidden);
  const weights = Array.from({ length: directions }, (_, d) => [
    uniformOf(10 + d, [gates, inputSize], -0.5, 0.5),
    uniformOf(20 + d, [gates, hidden], -1.5 * bound, 1.5 * bound),
    uniformOf(30 + d, [gates], -0.3, 0.3),
    uniformOf(40 + d, [gates], -0.3, 0.3),
  ]);
  const states = [50, 60].slice(0, mode === 'lstm' ? 2 : 1);
  const floats = [
    uniformOf(1, [batch, steps, inputSize]),
    ...weights.flat(),
    ...states.map((seed) => uniformOf(seed, [directions, batch, hidden])),
  ].map((x) => x.to(dtype));
  if (!lengths) return floats;
  const values = Array.from({ length: batch }, (_, b) => (b * 7 + steps - 2) % (steps + 1));
  return [...floats, tensor(values, [batch], { dtype: 'int64' })];
}

/** The output, the last states and, unless forward alone is asked for, all gradients. */
function run(options: Case, dtype: DType, device: Device): Nd[] {
  const { mode, lengths, directions = 1, high, forwardOnly } = options;
  if (high) setMatmulPrecision('high');
  try {
    return scope(() => {
      const inputs = inputsOf(options);
      const last = lengths ? (inputs.pop() as Tensor).to(device) : null;
      const leaves = inputs.map((x) => {
        const leaf = x.to(dtype).to(device).detach();
        return forwardOnly ? leaf : leaf.requireGrad();
      });
      const [x, ...rest] = leaves as [Tensor, ...Tensor[]];
      const weights = Array.from({ length: directions }, (_, d) => rest.slice(4 * d, 4 * d + 4));
      const [h0, c0] = rest.slice(4 * directions);
      const found = recurrent(mode, x, weights, {
        batchFirst: true,
        lengths: last,
        h0: h0 ?? null,
        c0: c0 ?? null,
      });
      const results = [found.output, found.hN, ...(found.cN ? [found.cN] : [])];
      const values = results.map((result) => valuesOf(result.detach()));
      if (forwardOnly) return values;
      results
        .map((r, i) =>
          r.mul(
            uniformOf(70 + i, r.shape)
              .to(options.dtype)
              .to(dtype)
              .to(device),
          ),
        )
        .map((r) => r.sum())
        .reduce((a, b) => a.add(b))
        .backward();
      return [...values, ...leaves.map((leaf) => valuesOf(leaf.grad as Tensor))];
    });
  } finally {
    setMatmulPrecision('highest');
  }
}

/** Compares a device with the CPU; returns its results. */
function compare(options: Case, device: Device): Nd[] {
  const { batch, steps, hidden, dtype, high } = options;
  const expected = run({ ...options, high: false }, 'float64', cpu);
  const actual = run(options, dtype, device);
  const terms = batch * steps + inputSize + gatesOf[options.mode] * hidden;
  // Gates, h and their gradients are rounded at every step; TF32 has 10 bits of mantissa.
  const within = high
    ? 2 ** -11 * Math.sqrt(terms)
    : toleranceOf(dtype, terms, { by: { bfloat16: 4, float16: 4 }, because: 'see above' });
  expect(actual.length).toBe(expected.length);
  actual.forEach((value, i) => {
    expectClose(value, expected[i] as Nd, within, `result ${i}`);
  });
  return actual;
}

const title = 'agrees with the CPU: $mode, $batch rows, $steps steps, $hidden units, $dtype';

describe.each([...accelerators, ...hopper])('a sequence in one launch on %s', (device) => {
  it.each(cases)(
    title,
    (options) => {
      const actual = compare(options, device);
      expect(run(options, options.dtype, device)).toEqual(actual);
    },
    120_000,
  );
});

const widest = [...accelerators.filter(({ type }) => type !== 'emulated'), ...hopper];

describe.each(widest)('a sequence over many blocks on %s', (device) => {
  it.each(wide)(title, (options) => void compare(options, device), 240_000);
});
