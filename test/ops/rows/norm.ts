import * as ng from '../../../lib/index.js';
import { build, type Nd, nd } from '../../support/nd.js';
import type { Domain, ErrorCase, OpRow } from '../../support/op.js';

/** Which group an element is normalised with, and which weight it takes. */
interface Place {
  group: number;
  weight: number;
}

interface Formula {
  place: (index: readonly number[]) => Place;
  eps: number;
  centered?: boolean;
}

function normalized({ place, eps, centered = true }: Formula) {
  return (x: Nd, weight?: Nd, bias?: Nd): Nd => {
    const groups = new Map<number, number[]>();
    build(x.shape, (index) => {
      const { group } = place(index);
      if (!groups.has(group)) groups.set(group, []);
      return 0;
    });
    let at = 0;
    build(x.shape, (index) => {
      groups.get(place(index).group)?.push(x.data[at++] as number);
      return 0;
    });
    const statistics = new Map(
      [...groups].map(([group, values]) => {
        const mean = centered ? values.reduce((a, b) => a + b, 0) / values.length : 0;
        const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
        return [group, { mean, rstd: 1 / Math.sqrt(variance + eps) }];
      }),
    );
    at = 0;
    const data = build(x.shape, (index) => {
      const found = place(index);
      const { mean, rstd } = statistics.get(found.group) as { mean: number; rstd: number };
      const value = ((x.data[at++] as number) - mean) * rstd;
      return value * (weight?.data[found.weight] ?? 1) + (bias?.data[found.weight] ?? 0);
    });
    return nd(x.shape, data.data);
  };
}

const domain: Domain = { low: -2, high: 3 };
const wider: OpRow['wider'] = {
  // A central difference through 1/√variance of a few numbers; float32 sums of products.
  by: { float64: 100, float32: 10, bfloat16: 4, float16: 4 },
  because: 'the gradient subtracts means, and divides by a variance that may be small',
};
/** Rows of one element are all 0 and have no direction to check. */
const sizes = [0, 2, 31, 33, 64, 1025];

function offset(index: readonly number[], shape: readonly number[], from: number): number {
  return index.slice(from).reduce((sum, i, axis) => sum * (shape[axis] as number) + i, 0);
}

type Shaped = (n: number) => readonly number[];

/** Layer and RMS norm over the trailing axes of [...lead, ...row]. */
function trailing(
  op: 'layerNorm' | 'rmsNorm',
  lead: Shaped,
  row: Shaped,
  parameters: 0 | 1 | 2,
  more: Partial<OpRow> = {},
): OpRow {
  const eps = 1e-3;
  const shape: Shaped = (n) => [...lead(n), ...row(n)];
  return {
    op,
    variant: `of [${shape(7)}] over ${row(7).length}, ${parameters} parameters`,
    fn: (x, weight, bias) => {
      const tensor = x as ng.Tensor;
      const sizesOfRow = tensor.shape.slice(lead(1).length);
      const options = { eps, ...(weight && { weight }) };
      return op === 'rmsNorm'
        ? ng.rmsNorm(tensor, sizesOfRow, options)
        : ng.layerNorm(tensor, sizesOfRow, { ...options, ...(bias && { bias }) });
    },
    reference: (x, weight, bias) => {
      const from = lead(1).length;
      const rowShape = x.shape.slice(from);
      return normalized({
        eps,
        centered: op === 'layerNorm',
        place: (index) => ({
          group: offset(index.slice(0, from), x.shape, 0),
          weight: offset(index, rowShape, from),
        }),
      })(x as Nd, weight, bias);
    },
    inputs: [{ shape, domain }, ...Array(parameters).fill({ shape: row, domain })],
    sizes,
    terms: (n) => n,
    wider,
    ...more,
  };
}

/** Group norm of [2, channels, ...positions]. */
function grouped(
  name: string,
  shape: Shaped,
  groups: number,
  parameters: 0 | 1 | 2,
  call: (x: ng.Tensor, options: ng.AffineOptions) => ng.Tensor,
  more: Partial<OpRow> = {},
): OpRow {
  const eps = 1e-3;
  return {
    op: 'groupNorm',
    variant: `${name} of [${shape(7)}] in ${groups}, ${parameters} parameters`,
    fn: (x, weight, bias) =>
      call(x as ng.Tensor, { eps, ...(weight && { weight }), ...(bias && { bias }) }),
    reference: (x, weight, bias) => {
      const [, channels = 1] = x.shape;
      const each = channels / groups;
      return normalized({
        eps,
        place: ([n = 0, c = 0]) => ({ group: n * groups + Math.floor(c / each), weight: c }),
      })(x as Nd, weight, bias);
    },
    inputs: [
      { shape, domain },
      ...Array(parameters).fill({ shape: (n: number) => [shape(n)[1]], domain }),
    ],
    sizes: [0, 2, 31, 33, 400],
    terms: (n) => n * 4,
    wider,
    ...more,
  };
}

/** Batch norm in training, without what it keeps. */
function batch(shape: Shaped, parameters: 0 | 1 | 2, more: Partial<OpRow> = {}): OpRow {
  const eps = 1e-3;
  return {
    op: 'batchNorm',
    variant: `of [${shape(7)}] in training, ${parameters} parameters`,
    fn: (x, weight, bias) =>
      ng.batchNorm(x as ng.Tensor, {
        eps,
        training: true,
        ...(weight && { weight }),
        ...(bias && { bias }),
      }),
    reference: (x, weight, bias) =>
      normalized({ eps, place: ([, c = 0]) => ({ group: c, weight: c }) })(x as Nd, weight, bias),
    inputs: [
      { shape, domain },
      ...Array(parameters).fill({ shape: (n: number) => [shape(n)[1]], domain }),
    ],
    sizes: [0, 2, 31, 33, 400],
    terms: (n) => n * 6,
    wider,
    ...more,
  };
}

const evaluation: OpRow = {
  op: 'batchNorm',
  variant: 'in evaluation',
  fn: (x, weight, bias) => {
    const { device, dtype } = x as ng.Tensor;
    const wide = dtype === 'float64' ? dtype : 'float32';
    return ng.batchNorm(x as ng.Tensor, {
      weight: weight as ng.Tensor,
      bias: bias as ng.Tensor,
      runningMean: ng.tensor([0.5, -1, 2], { dtype: wide, device }),
      runningVar: ng.tensor([1, 0.25, 4], { dtype: wide, device }),
      eps: 0,
    });
  },
  reference: (x, weight, bias) => {
    const [mean, deviation] = [
      [0.5, -1, 2],
      [1, 0.5, 2],
    ] as [number[], number[]];
    let at = 0;
    return build((x as Nd).shape, ([, c = 0]) => {
      const value = ((x?.data[at++] as number) - (mean[c] as number)) / (deviation[c] as number);
      return value * (weight?.data[c] as number) + (bias?.data[c] as number);
    });
  },
  inputs: [
    { shape: (n) => [n, 3, 2], domain },
    { shape: () => [3], domain },
    { shape: () => [3], domain },
  ],
  terms: (n) => n * 2,
  wider,
};

const errors: Record<string, ErrorCase[]> = {
  layerNorm: [
    {
      name: 'a shape that is not the trailing one',
      call: (device) => ng.layerNorm(ng.zeros([2, 3], { device }), 2),
      message: 'layerNorm: the shape must be that of the trailing axes, got [2] for [2,3]',
    },
    {
      name: 'integers',
      call: (device) => ng.layerNorm(ng.zeros([2, 3], { device, dtype: 'int32' }), 3),
      message: 'layerNorm: needs a floating dtype, got int32',
    },
    {
      name: 'a bias alone of another shape',
      call: (device) =>
        ng.layerNorm(ng.zeros([2, 3], { device }), 3, { bias: ng.zeros([2], { device }) }),
      message: 'layerNorm: the bias must be [3], got [2]',
    },
    {
      name: 'a weight of another shape',
      call: (device) =>
        ng.layerNorm(ng.zeros([2, 3], { device }), 3, { weight: ng.zeros([2], { device }) }),
      message: 'layerNorm: the weight must be [3], got [2]',
    },
  ],
  groupNorm: [
    {
      name: 'groups that do not divide the channels',
      call: (device) => ng.groupNorm(ng.zeros([2, 3, 4], { device }), 2),
      message: 'groupNorm: the groups must divide the channels, got 2 groups of 3 channels',
    },
    {
      name: 'a weight of another size',
      call: (device) =>
        ng.groupNorm(ng.zeros([2, 4], { device }), 2, { weight: ng.zeros([2], { device }) }),
      message: 'groupNorm: the weight must be float32 of 4 elements, got float32[2]',
    },
    {
      name: 'instances without positions',
      call: (device) => ng.instanceNorm(ng.zeros([2, 4], { device })),
      message: 'instanceNorm: needs [N,C,...] with positions, got [2,4]',
    },
  ],
  batchNorm: [
    {
      name: 'one value per channel in training',
      call: (device) => ng.batchNorm(ng.zeros([1, 4], { device }), { training: true }),
      message: 'batchNorm: training needs more than one value per channel, got [1,4]',
    },
    {
      name: 'evaluation without running statistics',
      call: (device) => ng.batchNorm(ng.zeros([2, 4], { device })),
      message: 'batchNorm: evaluation needs running statistics, got none',
    },
    {
      name: 'running statistics of another size',
      call: (device) =>
        ng.batchNorm(ng.zeros([2, 4], { device }), {
          runningMean: ng.zeros([3], { device }),
          runningVar: ng.zeros([3], { device }),
        }),
      message: 'batchNorm: running statistics must be float32[4], got float32[3]',
    },
  ],
};

const four: Shaped = () => [4];
const one: Shaped = (n) => [n];

export const normRows: readonly OpRow[] = [
  trailing('layerNorm', four, one, 2, { large: 5000, errors: errors.layerNorm as ErrorCase[] }),
  trailing(
    'layerNorm',
    (n) => [n],
    () => [5],
    2,
    { sizes: [0, 1, 33, 1025] },
  ),
  trailing(
    'layerNorm',
    () => [2],
    (n) => [n, 3],
    1,
    { sizes: [0, 1, 33] },
  ),
  trailing('layerNorm', () => [2, 3], one, 0, { sizes: [0, 2, 33] }),
  trailing('rmsNorm', four, one, 1, { large: 5000 }),
  trailing(
    'rmsNorm',
    (n) => [n],
    () => [6],
    0,
    { sizes: [0, 1, 33] },
  ),
  grouped(
    'groups',
    (n) => [2, 6, n],
    3,
    2,
    (x, options) => ng.groupNorm(x, 3, options),
    {
      large: 20_000,
      errors: errors.groupNorm as ErrorCase[],
    },
  ),
  grouped(
    'groups',
    (n) => [n, 4],
    2,
    2,
    (x, options) => ng.groupNorm(x, 2, options),
    {
      sizes: [0, 1, 33, 400],
    },
  ),
  grouped(
    'groups',
    (n) => [2, 4, n, 2],
    1,
    1,
    (x, options) => ng.groupNorm(x, 1, options),
    {
      sizes: [0, 1, 33],
    },
  ),
  grouped(
    'instances',
    (n) => [2, 3, n, 2],
    3,
    0,
    (x, options) => ng.instanceNorm(x, options),
    {
      sizes: [0, 2, 33],
    },
  ),
  batch((n) => [n, 5], 2, {
    sizes: [0, 3, 31, 33, 400],
    large: 20_000,
    errors: errors.batchNorm as ErrorCase[],
  }),
  batch((n) => [3, 4, n], 2, { large: 20_000 }),
  batch((n) => [n, 3, 2, 2], 1, { sizes: [0, 2, 33] }),
  batch((n) => [4, n], 0, { sizes: [0, 2, 33, 304] }),
  batch((n) => [n, 16], 2, { sizes: [33, 70] }),
  evaluation,
];
