/** Attention at sizes beside, at and beyond the tiles of the kernels, against float64 on the CPU. */
import { afterEach, describe, expect, it } from 'vitest';
import {
  arange,
  capture,
  type Device,
  type DType,
  Generator,
  memory,
  scaledDotProductAttention,
  scope,
  setMatmulPrecision,
  type Tensor,
  tensor,
  where,
} from '../../lib/index.js';
import { expectClose, expectSameBits, valuesOf } from '../support/compare.js';
import { accelerators, cpu, hopper } from '../support/devices.js';
import { toleranceOf } from '../support/tolerance.js';
import { uniformOf } from '../support/vectors.js';

interface Case {
  /** Queries, keys and the width of a head. */
  sizes: [number, number, number];
  batch?: number;
  /** Of q, and of k and v. */
  heads?: [number, number];
  causal?: boolean;
  mask?: 'bool' | 'added';
  padding?: boolean;
  /** Of keys, a sample each. */
  lengths?: number[];
  dropout?: number;
  scale?: number;
}

const cases: readonly Case[] = [
  { sizes: [1, 7, 32] },
  { sizes: [7, 2, 64], batch: 2, causal: true },
  { sizes: [63, 65, 64], heads: [2, 1], dropout: 0.3 },
  { sizes: [65, 63, 128], causal: true, dropout: 0.2 },
  { sizes: [129, 200, 64], padding: true },
  { sizes: [200, 129, 80], causal: true },
  { sizes: [129, 129, 128], mask: 'bool' },
  { sizes: [65, 129, 32], heads: [4, 2], mask: 'added', causal: true, dropout: 0.5 },
  { sizes: [70, 66, 96], batch: 2, mask: 'added', padding: true },
  { sizes: [200, 330, 64] },
  { sizes: [150, 270, 128], heads: [2, 1], causal: true },
  { sizes: [35, 70, 256], causal: true, dropout: 0.1 },
  { sizes: [33, 40, 36], batch: 2, heads: [2, 1], mask: 'bool', scale: -0.4 },
  { sizes: [130, 70, 130], padding: true, causal: true },
  { sizes: [40, 330, 64], lengths: [0, 2, 127, 128, 129, 330] },
  { sizes: [70, 270, 128], lengths: [65, 0, 300], heads: [2, 1], causal: true },
  { sizes: [65, 330, 32], lengths: [63, 64, -1], dropout: 0.3, padding: true },
  { sizes: [33, 330, 128], lengths: [5, 260], heads: [2, 1], dropout: 0.2, causal: true },
  { sizes: [20, 260, 256], lengths: [0, 1, 35] },
];

/** Whole tiles of keys behind a length are not read: those that lie so far behind are no numbers. */
const widestTile = 192;

/** Output and gradients in `dtype`, from operands rounded to `rounded`. */
function run(found: Case, dtype: DType, rounded: DType, device: Device): Tensor[] {
  const { sizes, lengths, heads = [1, 1], causal = false, dropout = 0, scale } = found;
  const batch = lengths?.length ?? found.batch ?? 1;
  const [queries, keys, width] = sizes;
  const place = (x: Tensor): Tensor => x.to(rounded).to(dtype).to(device).detach();
  const draw = (seed: number, count: number, length: number): Tensor =>
    uniformOf(seed, [batch, count, length, width], -2, 2);
  const seen = lengths && tensor(lengths, { dtype: 'int64' });
  const holed = (x: Tensor): Tensor => {
    if (!seen) return x;
    const far = arange(0, keys, 1, { dtype: 'int64' }).sub(widestTile);
    return where(far.reshape([keys, 1]).ge(seen.reshape([batch, 1, 1, 1])), Number.NaN, x);
  };
  const leaves = [
    draw(1, heads[0], queries),
    holed(draw(2, heads[1], keys)),
    holed(draw(3, heads[1], keys)),
  ].map((x) => place(x).requireGrad()) as [Tensor, Tensor, Tensor];
  const drawn = uniformOf(4, [batch, 1, queries, keys], -2, 2);
  const bool = found.mask === 'bool' ? drawn.lt(1).to(device) : null;
  const out = scaledDotProductAttention(...leaves, {
    mask: found.mask === 'added' ? place(drawn) : bool,
    keyPadding: found.padding ? uniformOf(5, [batch, keys]).lt(-0.4).to(device) : null,
    lengths: seen?.to(device) ?? null,
    isCausal: causal,
    dropout,
    generator: new Generator(6),
    ...(scale === undefined ? {} : { scale }),
  });
  out.backward(place(uniformOf(7, out.shape)));
  return [out.detach(), ...leaves.map((leaf) => leaf.grad as Tensor)];
}

const names = ['output', 'dq', 'dk', 'dv'];

describe.each([...accelerators, ...hopper])('attention by tiles on $name', (device) => {
  afterEach(() => setMatmulPrecision('highest'));
  // float32 has the same kernels on both emulated devices.
  const halves = ['bfloat16', 'float16'] as const;
  const again = hopper.includes(device);

  for (const found of cases) {
    const { sizes, ...rest } = found;
    for (const dtype of again ? halves : [...halves, 'float32' as const]) {
      it(`agrees in ${dtype} at ${sizes} with ${JSON.stringify(rest)}`, () => {
        scope(() => {
          const expected = run(found, 'float64', dtype, cpu);
          const actual = run(found, dtype, dtype, device);
          const terms = Math.max(...sizes);
          const wider = {
            by: { float32: 3, bfloat16: 2, float16: 2 },
            because: 'weights and slopes are rounded once more than results',
          };
          actual.forEach((x, i) => {
            const tolerance = toleranceOf(dtype, terms, wider);
            expectClose(
              valuesOf(x),
              valuesOf(expected[i] as Tensor),
              tolerance,
              names[i] as string,
            );
          });
        });
      });
    }
  }

  for (const found of again ? [] : cases.filter(({ sizes: [, , width] }) => width <= 128)) {
    const { sizes, ...rest } = found;
    it(`agrees in TF32 at ${sizes} with ${JSON.stringify(rest)}`, () => {
      scope(() => {
        const expected = run(found, 'float64', 'float32', cpu);
        setMatmulPrecision('high');
        const actual = run(found, 'float32', 'float32', device);
        setMatmulPrecision('highest');
        // TF32 has float16's mantissa.
        const tolerance = 2 * toleranceOf('float16', Math.max(...sizes));
        actual.forEach((x, i) => {
          expectClose(valuesOf(x), valuesOf(expected[i] as Tensor), tolerance, names[i] as string);
        });
        expect(valuesOf(actual[0] as Tensor)).not.toEqual(
          valuesOf(run(found, 'float32', 'float32', device)[0] as Tensor),
        );
      });
    });
  }

  it('gives the value of a lone key, and no gradient to its weight', () => {
    scope(() => {
      const found: Case = { sizes: [7, 1, 64], causal: true };
      const [out, dq, dk, dv] = run(found, 'float16', 'float16', device) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const [expected, , , expectedValue] = run(found, 'float64', 'float16', cpu) as Tensor[];
      const tolerance = toleranceOf('float16');
      expectClose(valuesOf(out), valuesOf(expected as Tensor), tolerance, 'output');
      expectClose(valuesOf(dv), valuesOf(expectedValue as Tensor), tolerance, 'dv');
      for (const x of [...valuesOf(dq).data, ...valuesOf(dk).data]) {
        expect(Math.abs(x)).toBeLessThan(1e-5);
      }
    });
  });

  it('gives the same bits each time', () => {
    scope(() => {
      const found: Case = { sizes: [129, 129, 64], heads: [2, 1], causal: true, dropout: 0.1 };
      const once = run(found, 'bfloat16', 'bfloat16', device);
      run(found, 'bfloat16', 'bfloat16', device).forEach((x, i) => {
        expectSameBits(x, once[i] as Tensor, names[i] as string);
      });
    });
  });

  it('needs memory that grows with the length, not with its square', () => {
    const peak = (length: number): number =>
      scope(() => {
        const draw = (seed: number): Tensor =>
          uniformOf(seed, [1, 1, length, 16]).to('bfloat16').to(device).detach().requireGrad();
        const [q, k, v] = [draw(1), draw(2), draw(3)];
        memory.resetPeak();
        const before = memory.stats(device).allocated;
        scaledDotProductAttention(q, k, v).sum().backward();
        return memory.stats(device).peakAllocated - before;
      });
    const [short, long] = [peak(128), peak(640)];
    expect(long).toBeLessThan(5.5 * short);
  });
});

describe.each(hopper)('attention by warpgroups on $name', (device) => {
  const differing = (found: Case, dtype: DType): string[] => {
    const [own, other] = [device, ...accelerators].map((on) => run(found, dtype, dtype, on));
    const bits = (x: Tensor | undefined): string => `${valuesOf(x as Tensor).data}`;
    return names.filter((_, i) => bits(own?.[i]) !== bits(other?.[i]));
  };

  // The first device can be told to have 9.0, too: then there is nothing to compare with.
  const apart = process.env.NODEGRAD_EMULATION_CAPABILITY === '90' ? [] : [32, 64, 128];
  it.each(apart)('sums in another order than mma.sync in heads of %i', (width) => {
    scope(() => {
      const sizes: Case['sizes'] = [66, 130, width];
      const others = expect.arrayContaining(['output', 'dq', 'dk']);
      expect(differing({ sizes }, 'bfloat16')).toEqual(others);
      expect(differing({ sizes, dropout: 0.1, padding: true }, 'float16')).toEqual(others);
    });
  });

  it('takes all tiles at each replay, in whatever turn', async () => {
    // More tiles of queries than multiprocessors: blocks count those that they take.
    const shape = [1, 6, 200, 32];
    const draw = (seed: number): Tensor =>
      uniformOf(seed, shape, -2, 2).to('bfloat16').to(device).detach().keep();
    const inputs = [1, 2, 3, 4].map(draw);
    const lengths = tensor([150], { dtype: 'int32', device }).keep();
    const attend = (x: Tensor): Tensor =>
      scaledDotProductAttention(x, x, x, { isCausal: true, lengths });
    const step = capture(attend);
    for (const x of inputs) {
      const replayed = [...(await (await step(x)).read())];
      scope(() => expect([...attend(x).data()]).toEqual(replayed));
    }
    for (const x of [...inputs, lengths]) x.dispose();
  });

  it('leaves heads of other widths to mma.sync', () => {
    scope(() => {
      expect(differing({ sizes: [66, 70, 36] }, 'bfloat16')).toEqual([]);
      expect(differing({ sizes: [66, 70, 136] }, 'float16')).toEqual([]);
    });
  });
});
