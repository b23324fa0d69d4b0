/**
 * Convolutions of accelerators at the sizes and dtypes that tensor cores take, with ends of tiles
 * on every side: values and all gradients against the CPU in float64 of the same rounded inputs,
 * twice with the same bits.
 */
import { describe, expect, it } from 'vitest';
import {
  type Conv2dOptions,
  conv2d,
  convTranspose2d,
  type Device,
  type DType,
  nn,
  type Profile,
  profile,
  type Shape,
  scope,
  setMatmulPrecision,
  type Tensor,
} from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { accelerators, cpu, hopper } from '../support/devices.js';
import type { Nd } from '../support/nd.js';
import { toleranceOf } from '../support/tolerance.js';
import { uniformOf } from '../support/vectors.js';

interface Case {
  what: string;
  x: Shape;
  /** [O, C / groups, KH, KW]; of the transposed [C, O / groups, KH, KW]. */
  weight: Shape;
  options?: Omit<Conv2dOptions, 'padding'> & { padding?: number | [number, number] };
  dtype: DType;
  transposed?: boolean;
  /** Whether images lie as [N,H,W,C]. */
  last?: boolean;
}

// float32 runs in TF32 here.
const cases: Case[] = [
  {
    what: 'a first layer',
    x: [2, 3, 17, 19],
    weight: [16, 3, 7, 7],
    options: { stride: 2, padding: 3 },
    dtype: 'bfloat16',
  },
  {
    what: '3 by 3',
    x: [3, 16, 9, 11],
    weight: [40, 16, 3, 3],
    options: { padding: 1 },
    dtype: 'float16',
  },
  {
    what: '3 by 3',
    x: [2, 20, 9, 7],
    weight: [70, 20, 3, 3],
    options: { padding: 1 },
    dtype: 'float32',
  },
  { what: '1 by 1, aligned', x: [2, 64, 8, 8], weight: [136, 64, 1, 1], dtype: 'bfloat16' },
  {
    what: 'stride 2 down, 1 across',
    x: [2, 12, 10, 9],
    weight: [24, 12, 3, 2],
    options: { stride: [2, 1], padding: 1 },
    dtype: 'float32',
  },
  {
    what: 'dilated groups',
    x: [2, 24, 12, 10],
    weight: [32, 12, 3, 3],
    options: { padding: 2, dilation: 2, groups: 2 },
    dtype: 'bfloat16',
  },
  {
    what: 'slices of the weight gradient',
    x: [2, 8, 24, 24],
    weight: [8, 8, 3, 3],
    options: { padding: 1 },
    dtype: 'float16',
  },
  {
    what: 'transposed, stride 2',
    x: [2, 12, 7, 6],
    weight: [12, 20, 4, 4],
    options: { stride: 2, padding: 1 },
    dtype: 'bfloat16',
    transposed: true,
  },
  {
    what: 'stride 3, dilation 2 and 3, fewer taps than residues',
    x: [2, 16, 14, 13],
    weight: [16, 16, 2, 3],
    options: { stride: 3, padding: [2, 1], dilation: [2, 3] },
    dtype: 'float16',
  },
  {
    what: 'stride 2, dilation 2: residues without taps',
    x: [1, 8, 11, 12],
    weight: [8, 8, 3, 2],
    options: { stride: 2, padding: 1, dilation: 2 },
    dtype: 'bfloat16',
  },
  {
    what: 'slices of every product',
    x: [2, 128, 4, 5],
    weight: [130, 128, 3, 3],
    options: { padding: 1 },
    dtype: 'bfloat16',
  },
  {
    what: 'channels last, 3 by 3',
    x: [2, 40, 9, 11],
    weight: [72, 40, 3, 3],
    options: { padding: 1 },
    dtype: 'bfloat16',
    last: true,
  },
  {
    what: 'channels last, stride 2 and groups',
    x: [2, 16, 14, 13],
    weight: [32, 8, 3, 2],
    options: { padding: 1, stride: 2, groups: 2 },
    dtype: 'float16',
    last: true,
  },
  {
    what: 'channels last, 1 by 1, odd outputs',
    x: [2, 20, 9, 16],
    weight: [133, 20, 1, 1],
    dtype: 'float32',
    last: true,
  },
  {
    what: 'channels last, few channels',
    x: [2, 5, 9, 12],
    weight: [9, 5, 3, 3],
    dtype: 'bfloat16',
    last: true,
  },
  {
    what: 'channels last, transposed, stride 2',
    x: [4, 16, 9, 8],
    weight: [16, 24, 4, 4],
    options: { stride: 2, padding: 1 },
    dtype: 'float16',
    transposed: true,
    last: true,
  },
  {
    what: 'patches',
    x: [2, 3, 10, 10],
    weight: [16, 3, 5, 5],
    options: { stride: 5 },
    dtype: 'float16',
  },
];

type Counted = Case & { calls: Record<string, number> };

// On warpgroups, where a device has them: enough tiles and channels for these to be worth while.
// Their kernels run forward, for the classes of positions that gradients of strided images fall
// into, and for weights.
const warpgroupCases: Counted[] = [
  {
    what: 'channels last, stride 2, many outputs',
    x: [2, 40, 17, 19],
    weight: [72, 40, 3, 3],
    options: { padding: 1, stride: 2 },
    dtype: 'bfloat16',
    last: true,
    calls: { conv2d_wgmma: 6 },
  },
  {
    what: 'channels last, transposed, stride [2, 3]',
    x: [2, 24, 9, 8],
    weight: [24, 20, 3, 4],
    options: { stride: [2, 3], padding: [1, 0] },
    dtype: 'float32',
    transposed: true,
    last: true,
    calls: { conv2d_wgmma: 5 },
  },
];

// Weight gradients that are cut into slices, at the ends of tiles.
const lastCases: Counted[] = [
  {
    what: 'wide tiles of places and taps',
    x: [1, 12, 17, 32],
    weight: [68, 12, 3, 2],
    options: { padding: 1 },
    dtype: 'float32',
    last: true,
    calls: { conv2d_weight_runs: 1 },
  },
  {
    what: 'dilated groups',
    x: [2, 16, 18, 16],
    weight: [16, 8, 2, 2],
    options: { padding: 1, dilation: 2, groups: 2 },
    dtype: 'float16',
    last: true,
    calls: { conv2d_weight_runs: 1 },
  },
  {
    what: 'strides',
    x: [2, 36, 11, 8],
    weight: [20, 36, 2, 3],
    options: { padding: [0, 1], stride: [2, 1] },
    dtype: 'float32',
    last: true,
    calls: { conv2d_weight_runs: 1 },
  },
];

// Channels first, with work enough for copies whose channels lie together, or of such by their shape.
const copiedCases: Counted[] = [
  {
    what: 'groups',
    x: [2, 32, 13, 13],
    weight: [48, 16, 3, 3],
    options: { padding: 1, groups: 2 },
    dtype: 'float16',
    calls: { conv2d_runs: 2, conv2d_weight_runs: 1 },
  },
  {
    what: 'strides, of which two residues have few places',
    x: [3, 24, 14, 13],
    weight: [40, 24, 5, 5],
    options: { padding: 2, stride: 2 },
    dtype: 'bfloat16',
    calls: { conv2d_runs: 3, conv2d_weight_runs: 1 },
  },
  {
    what: 'images of one place',
    x: [70, 16, 1, 1],
    weight: [76, 16, 1, 2],
    options: { padding: [0, 1] },
    dtype: 'float32',
    calls: { conv2d_runs: 1 },
  },
];

/** The result and the gradients of x, weight and bias. */
function run(options: Case, dtype: DType, device: Device): Nd[] {
  const { x, weight, transposed, last } = options;
  const groups = options.options?.groups ?? 1;
  const outputs = transposed ? (weight[1] as number) * groups : (weight[0] as number);
  return scope(() => {
    const leaves = [uniformOf(1, x), uniformOf(2, weight, -0.3, 0.3), uniformOf(3, [outputs])].map(
      (value) => value.to(options.dtype).to(dtype).to(device).detach().requireGrad(),
    );
    const [image, w, bias] = leaves as [Tensor, Tensor, Tensor];
    const convolve = transposed ? convTranspose2d : conv2d;
    const given = { ...options.options, layout: last ? 'NHWC' : 'NCHW' } as const;
    const lying = last ? image.permute([0, 2, 3, 1]).contiguous() : image;
    const y = convolve(lying, w, bias, given);
    y.backward(uniformOf(4, y.shape).to(options.dtype).to(dtype).to(device));
    return [y.detach(), ...leaves.map((leaf) => leaf.grad as Tensor)].map((t) => valuesOf(t));
  });
}

/** Runs it twice on the device, the second time under the profiler, whose result it returns. */
function compare(options: Case, device: Device): Profile<Nd[]> {
  const { dtype, x, weight } = options;
  const expected = run(options, 'float64', cpu);
  setMatmulPrecision('high');
  try {
    const actual = run(options, dtype, device);
    const again = profile(() => run(options, dtype, device));
    expect(again.result).toEqual(actual);
    // Products of K terms each, of numbers rounded to the 10 bits of TF32 at least.
    const terms = Math.max(
      (weight[1] as number) * (weight[2] as number) * (weight[3] as number),
      (x[0] as number) * (x[2] as number) * (x[3] as number),
    );
    const within = dtype === 'float32' ? 3 * 2 ** -11 : toleranceOf(dtype, Math.sqrt(terms));
    actual.forEach((value, i) => {
      expectClose(value, expected[i] as Nd, within, `result ${i}`);
    });
    return again;
  } finally {
    setMatmulPrecision('highest');
  }
}

function expectCalls(options: Counted, device: Device): void {
  const kernels = compare(options, device).summary();
  for (const [kernel, calls] of Object.entries(options.calls)) {
    expect(kernels.find(({ name }) => name === kernel)?.calls, kernel).toBe(calls);
  }
}

describe.each(accelerators)('tensor-core convolutions on %s', (device) => {
  it.each(cases)(
    'agree with the CPU: $what, $dtype',
    (options) => void compare(options, device),
    60_000,
  );
});

describe.each(hopper)('warpgroup convolutions on %s', (device) => {
  it.each(warpgroupCases)(
    'agree with the CPU: $what, $dtype',
    (options) => expectCalls(options, device),
    60_000,
  );
});

describe.each(accelerators)('convolutions that read runs of channels on %s', (device) => {
  it.each([...lastCases, ...copiedCases])(
    'agree with the CPU: $what, $dtype',
    (options) => expectCalls(options, device),
    60_000,
  );
});

describe.each(hopper)('convolutions of channels last on %s', (device) => {
  it.each(lastCases)(
    'agree with the CPU: $what, $dtype',
    (options) => void compare(options, device),
    60_000,
  );
});

// First layers of networks, whose maxima are found in the convolution's own kernel.
const pooledCases: [string, Shape, Shape, nn.Conv2dLayerOptions][] = [
  ['odd sizes', [3, 3, 18, 17], [16, 3, 3, 3], { dtype: 'bfloat16', padding: 1 }],
  ['wide tiles', [1, 3, 21, 20], [72, 3, 3, 3], { dtype: 'float16', stride: 2, padding: [9, 11] }],
  ['channels last', [2, 3, 19, 17], [40, 3, 3, 3], { dtype: 'float32', layout: 'NHWC' }],
  ['groups', [2, 6, 17, 15], [24, 3, 2, 3], { dtype: 'bfloat16', groups: 2, bias: false }],
];

describe.each(accelerators)('convolutions with maxima on %s', (device) => {
  it.each(pooledCases)('give what pooling afterwards does: %s', (_, shape, weight, options) => {
    scope(() => {
      const [n, c, h, w] = shape as [number, number, number, number];
      const [o, , ...kernel] = weight as [number, number, number, number];
      const { layout, dtype } = options;
      const conv = new nn.Conv2d(c, o, kernel, { ...options, device });
      const pool = new nn.MaxPool2d(2, { layout: layout ?? 'NCHW' });
      const model = new nn.Sequential(conv, new nn.ReLU(), pool);
      const values = uniformOf(2, layout === 'NHWC' ? [n, h, w, c] : shape);
      const run = (forward: (x: Tensor) => Tensor): Nd[] => {
        model.zeroGrad();
        const x = values
          .to(dtype as DType)
          .to(device)
          .detach()
          .requireGrad();
        const y = forward(x);
        y.backward(
          uniformOf(3, y.shape)
            .to(dtype as DType)
            .to(device),
        );
        const gradients = [x, ...model.parameters()].map((leaf) => leaf.grad as Tensor);
        return [y.detach(), ...gradients].map((t) => valuesOf(t));
      };
      setMatmulPrecision('high');
      try {
        const apart = run((x) => pool.forwardRelu(conv.forward(x)));
        const joined = profile(() => run((x) => model.forward(x)));
        expect(joined.result).toEqual(apart);
        // That of the gradient.
        expect(joined.summary().find(({ name }) => name === 'maxPool2d')?.calls).toBe(1);
      } finally {
        setMatmulPrecision('highest');
      }
    });
  });
});
