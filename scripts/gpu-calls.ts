/**
 * Calls that fill several tiles, stages and clusters of the kernels with the most ways to go wrong,
 * each forward and backward beside the CPU: `tsx scripts/gpu-calls.ts [--device cuda] [--tiny]`, for
 * gpu.mjs, which runs them under compute-sanitizer. Products run again in processes that ask for plans
 * which the sizes would not lead to. --tiny takes sizes for the emulated device.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  conv2d,
  cumsum,
  type Device,
  type DType,
  device as deviceOf,
  embedding,
  grad,
  indexAdd,
  linear,
  matmul,
  type RecurrentMode,
  recurrent,
  type Shape,
  scaledDotProductAttention,
  scope,
  setMatmulBackend,
  setMatmulPrecision,
  sort,
  type Tensor,
  tensor,
} from '../lib/index.js';
import { uniformOf } from '../test/support/vectors.js';

const { values: options } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    tiny: { type: 'boolean', default: false },
    products: { type: 'boolean', default: false },
  },
});
const { tiny } = options;
const target = deviceOf(options.device);
const cpu = deviceOf('cpu');

interface Call {
  name: string;
  dtype: DType;
  /** 'high' lets float32 products be TF32. */
  high?: boolean;
  inputs: readonly Shape[];
  run(...inputs: Tensor[]): Tensor;
}

const lengths = (batch: number, steps: number): number[] =>
  Array.from({ length: batch }, (_, b) => 1 + ((b * 7) % steps));

function products(): Call[] {
  const [m, n, k] = tiny ? [70, 136, 72] : [520, 648, 1032];
  const wide: Call['inputs'] = [
    [m, k],
    [k, n],
  ];
  const plain = (a: Tensor, b: Tensor): Tensor => matmul(a, b);
  const dtypes = ['bfloat16', 'float16', 'float32'] as const;
  return [
    ...dtypes.map((dtype) => ({ name: 'matmul', dtype, inputs: wide, run: plain })),
    { name: 'matmul', dtype: 'float32', high: true, inputs: wide, run: plain },
    {
      name: 'matmul of a batch, both transposed',
      dtype: 'bfloat16',
      inputs: [
        [3, k, m],
        [3, n, k],
      ],
      run: (a, b) => matmul(a.transpose(1, 2), b.transpose(1, 2)),
    },
    ...(['relu', 'gelu'] as const).map(
      (activation): Call => ({
        name: `linear with ${activation} and a residual`,
        dtype: 'bfloat16',
        inputs: [[m, k], [n, k], [n], [m, n]],
        run: (x, w, b, residual) =>
          linear(x as Tensor, w as Tensor, b as Tensor, {
            activation,
            residual: residual as Tensor,
          }),
      }),
    ),
  ];
}

function attentions(): Call[] {
  const sizes = tiny
    ? ([[1, 2, 70, 32]] as const)
    : ([
        [2, 3, 331, 64],
        [1, 2, 331, 128],
      ] as const);
  return sizes.flatMap(([b, h, t, d]) => {
    const inputs = [0, 1, 2].map(() => [b, h, t, d]);
    const call = (dtype: DType, what: string, given: (place: Device) => object): Call => ({
      name: `attention of ${d} numbers, ${what}`,
      dtype,
      inputs,
      run: (q, k, v) =>
        scaledDotProductAttention(
          q as Tensor,
          k as Tensor,
          v as Tensor,
          given((q as Tensor).device),
        ),
    });
    const padding = (place: Device): Tensor =>
      tensor(
        Array.from({ length: b * t }, (_, i) => Number(i % t > t - 20)),
        [b, t],
        { dtype: 'bool', device: place },
      );
    return [
      call('bfloat16', 'plain', () => ({})),
      call('float16', 'causal', () => ({ isCausal: true })),
      call('bfloat16', 'padded', (place) => ({ keyPadding: padding(place) })),
      call('float32', 'causal', () => ({ isCausal: true })),
    ];
  });
}

function recurrences(): Call[] {
  const shapes: [RecurrentMode, number, DType, boolean][] = tiny
    ? [['lstm', 40, 'bfloat16', true]]
    : [
        ['lstm', 256, 'bfloat16', true], // clusters of eight blocks
        ['gru', 100, 'float32', true],
        ['lstm', 512, 'bfloat16', false], // a cooperative grid
        ['gru', 1024, 'bfloat16', false],
        ['lstm', 512, 'float32', false],
      ];
  return shapes.map(([mode, hidden, dtype, ragged]) => {
    const [batch, steps, input] = tiny ? [3, 3, 8] : [19, 9, 64];
    const rows = (mode === 'lstm' ? 4 : 3) * hidden;
    return {
      name: `${mode} of ${hidden} units`,
      dtype,
      inputs: [[batch, steps, input], [rows, input], [rows, hidden], [rows], [rows]],
      run: (x, ...weights) =>
        recurrent(mode, x as Tensor, [weights], {
          batchFirst: true,
          lengths: ragged
            ? tensor(lengths(batch, steps), [batch], {
                dtype: 'int64',
                device: (x as Tensor).device,
              })
            : null,
        }).output,
    };
  });
}

function convolutions(): Call[] {
  const [batch, channels, side, filters] = tiny ? [2, 3, 9, 20] : [5, 35, 41, 140];
  const inputs: Shape[] = [[batch, channels, side, side], [filters, channels, 3, 3], [filters]];
  const run: Call['run'] = (x, w, b) =>
    conv2d(x as Tensor, w as Tensor, b as Tensor, { padding: 1 });
  return [
    { name: 'conv2d', dtype: 'bfloat16', inputs, run },
    { name: 'conv2d', dtype: 'float32', high: true, inputs, run },
    { name: 'conv2d', dtype: 'float32', inputs, run },
  ];
}

/** What sorts and scans: runs and lines that many blocks share. */
function orders(): Call[] {
  const [count, rows] = tiny ? [300, 3] : [20_000, 3];
  const index = (place: Device): Tensor =>
    tensor(
      Array.from({ length: count }, (_, i) => (i * 7) % (rows + 1)),
      [count],
      { dtype: 'int64', device: place },
    );
  return [
    {
      name: 'embedding',
      dtype: 'bfloat16',
      inputs: [[rows + 1, 40]],
      run: (table) =>
        embedding(table as Tensor, index((table as Tensor).device), { paddingIdx: 0 }),
    },
    {
      name: 'indexAdd',
      dtype: 'float32',
      inputs: [[count, 20]],
      run: (x) => indexAdd([rows + 1, 20], index((x as Tensor).device), x as Tensor),
    },
    {
      name: 'cumsum',
      dtype: 'float32',
      inputs: [[2, count]],
      run: (x) => cumsum(x as Tensor, 1),
    },
    {
      name: 'sort',
      dtype: 'float32',
      inputs: [[2, count]],
      run: (x) => sort(x as Tensor, 1)[0],
    },
  ];
}

/** The result and the gradients of all inputs, as float64. */
function valuesOn(
  place: Device,
  call: Call,
  inputs: readonly Tensor[],
  dtype: DType,
): Float64Array[] {
  return scope(() => {
    const leaves = inputs.map((x) => x.to(dtype).to(place).detach().requireGrad());
    const out = call.run(...leaves);
    const dout = uniformOf(99, out.shape).to(call.dtype).to(dtype).to(place);
    return [out, ...grad(out, leaves, dout)].map((x) =>
      Float64Array.from(x.detach().to('float32').data() as Float32Array),
    );
  });
}

function distance(found: Float64Array, expected: Float64Array): number {
  let [difference, size] = [0, 0];
  found.forEach((value, i) => {
    difference += (value - (expected[i] as number)) ** 2;
    size += (expected[i] as number) ** 2;
  });
  return Math.sqrt(difference / (size || 1));
}

const tolerances: Partial<Record<DType, number>> = { float32: 1e-5, float16: 5e-3, bfloat16: 4e-2 };
setMatmulBackend('own');
let wrong = 0;
const others = options.products
  ? []
  : [...attentions(), ...recurrences(), ...convolutions(), ...orders()];
for (const call of [...products(), ...others]) {
  const inputs = call.inputs.map((shape, i) => {
    const bound = shape.length === 2 ? 1.5 / Math.sqrt(shape[1] as number) : 0.5;
    return uniformOf(i + 1, shape, -bound, bound).to(call.dtype);
  });
  const expected = valuesOn(cpu, call, inputs, 'float32');
  setMatmulPrecision(call.high ? 'high' : 'highest');
  const found = valuesOn(target, call, inputs, call.dtype);
  setMatmulPrecision('highest');
  const worst = Math.max(
    ...found.map((values, i) => distance(values, expected[i] as Float64Array)),
  );
  const most = call.high ? 3e-3 : (tolerances[call.dtype] as number);
  const text = `${call.name}, ${call.high ? 'TF32' : call.dtype}`;
  const fine = worst <= most; // not where it is NaN
  console.log(`  ${text}: ${worst.toExponential(1)}${fine ? '' : ' WRONG'}`);
  if (!fine) ++wrong;
}
// Pairs of blocks that share tiles, blocks that walk over many small tiles, slices of K.
const plans = options.products ? [] : ['128,256,2,1', '128,64,1,1', '64,128,1,4'];
for (const plan of plans) {
  console.log(`  by NODEGRAD_WGMMA_PLAN=${plan}:`);
  const args = [fileURLToPath(import.meta.url), '--products', '--device', options.device];
  const { status } = spawnSync(
    process.execPath,
    [...process.execArgv, ...args, ...(tiny ? ['--tiny'] : [])],
    { stdio: 'inherit', env: { ...process.env, NODEGRAD_WGMMA_PLAN: plan } },
  );
  if (status !== 0) ++wrong;
}
if (wrong > 0) console.error(`gpu: ${wrong} calls went wrong`);
process.exitCode = wrong > 0 ? 1 : 0;
