/**
 * The kernels that are timed, each with its two numbers: the float operations and the fewest bytes.
 * nodegrad.ts and torch_kernels.py know how to run each `op`; those that memory bounds stand in
 * memory_cases.ts.
 */
import { type Counts, type KernelCase, make } from './case.js';
import { memoryGroups } from './memory_cases.js';

function of(sizes: KernelCase['sizes'], ...names: string[]): number[] {
  return names.map((name) => sizes[name] as number);
}

const gemm: Counts = {
  flops: (sizes) => 2 * of(sizes, 'm', 'n', 'k').reduce((a, b) => a * b, 1),
  bytes: (sizes, item) => {
    const [m = 0, n = 0, k = 0] = of(sizes, 'm', 'n', 'k');
    return item * (m * k + k * n + m * n);
  },
};

/** A layer with a bias, as `gemm` with its weight transposed. */
const linear: Counts = {
  flops: gemm.flops,
  bytes: (sizes, item) => gemm.bytes(sizes, item) + item * (sizes.n ?? 0),
};

/** Two products forward, five backward; half of each where causal. */
const attention: Counts = {
  flops: (sizes) => {
    const [batch = 0, heads = 0, length = 0, size = 0, causal] = of(
      sizes,
      ...['batch', 'heads', 'length', 'size', 'causal'],
    );
    return (4 * batch * heads * length * length * size) / (causal ? 2 : 1);
  },
  bytes: (sizes, item) => {
    const [batch = 0, heads = 0, shared = 0, length = 0, size = 0] = of(
      sizes,
      ...['batch', 'heads', 'keyHeads', 'length', 'size'],
    );
    return 2 * item * batch * (heads + shared) * length * size;
  },
};

/** Of layers with so many gates; `ragged` rows take three quarters of the steps. */
const recurrent = (gates: number): Counts => ({
  flops: (sizes) => {
    const [batch = 0, length = 0, input = 0, hidden = 0, layers = 0, ragged] = of(
      sizes,
      ...['batch', 'length', 'input', 'hidden', 'layers', 'ragged'],
    );
    const first = 2 * gates * hidden * (input + hidden);
    const steps = batch * length * (ragged ? 0.75 : 1);
    return steps * (first + (layers - 1) * 4 * gates * hidden * hidden);
  },
  bytes: (sizes, item) => {
    const [batch = 0, length = 0, input = 0, hidden = 0, layers = 0] = of(
      sizes,
      ...['batch', 'length', 'input', 'hidden', 'layers'],
    );
    const weights = gates * hidden * (input + hidden + (layers - 1) * 2 * hidden);
    return item * (batch * length * (input + hidden * layers) + weights);
  },
});
const cells = { lstm: recurrent(4), gru: recurrent(3) };

const conv: Counts = {
  flops: (sizes) => {
    const [batch = 0, channels = 0, side = 0, filters = 0, kernel = 0] = of(
      sizes,
      ...['batch', 'channels', 'side', 'filters', 'kernel'],
    );
    return 2 * batch * filters * (side - kernel + 1) ** 2 * channels * kernel ** 2;
  },
  bytes: (sizes, item) => {
    const [batch = 0, channels = 0, side = 0, filters = 0, kernel = 0] = of(
      sizes,
      ...['batch', 'channels', 'side', 'filters', 'kernel'],
    );
    const out = batch * filters * (side - kernel + 1) ** 2;
    return item * (batch * channels * side ** 2 + out + filters * channels * kernel ** 2);
  },
};

/** Neither operand transposed, the second (a layer's forward pass), the first (its weights' gradient). */
const layouts = ['', ' NT', ' TN'];

function gemms(sides: readonly number[], thin: readonly (readonly number[])[]): KernelCase[] {
  const shapes = [...sides.map((side) => [side, side, side]), ...thin].map(
    ([m = 0, n = 0, k = 0]) => ({ name: `${m}x${n}x${k}`, sizes: { m, n, k, layout: 0 } }),
  );
  const turned = sides.slice(0, 3).flatMap((side) =>
    [1, 2].map((layout) => ({
      name: `${side}x${side}x${side}${layouts[layout]}`,
      sizes: { m: side, n: side, k: side, layout },
    })),
  );
  return [
    ...shapes.flatMap((shape) => [
      make('gemm', shape, gemm, { dtype: 'bfloat16' }),
      make('gemm', shape, gemm, { dtype: 'float16' }),
      make('gemm', shape, gemm, { precision: 'high' }),
      make('gemm', shape, gemm, {}),
    ]),
    ...turned.flatMap((shape) => [
      make('gemm', shape, gemm, { dtype: 'bfloat16' }),
      make('gemm', shape, gemm, { precision: 'high' }),
    ]),
  ];
}

/** Of rows, outputs and inputs: all three gradients, the bias's beside the weight's. */
function linears(shapes: readonly (readonly [number, number, number])[]): KernelCase[] {
  return shapes.flatMap(([m, n, k]) => {
    const shape = { name: `${m} of ${k} to ${n}`, sizes: { m, n, k } };
    return [
      make('linear', shape, linear, { dtype: 'bfloat16', backward: true }),
      make('linear', shape, linear, { precision: 'high', backward: true }),
      make('linear', shape, linear, { backward: true }),
    ];
  });
}

interface AttentionForm {
  causal?: number;
  /** A bool mask of [length, length]. */
  masked?: number;
  /** Percent of the weights. */
  dropout?: number;
  /** How many heads of queries share one of keys and values. */
  share?: number;
}

function attentions(
  lengths: readonly (readonly [number, number])[],
  tokens: number,
  width = 2048,
): KernelCase[] {
  const cases = (length: number, size: number, form: AttentionForm): KernelCase[] => {
    const { causal = 0, masked = 0, dropout = 0, share = 1 } = form;
    const heads = Math.max(share, Math.floor(width / size));
    const batch = Math.max(1, tokens / length);
    const keyHeads = heads / share;
    const sizes = { batch, heads, keyHeads, length, size, causal, masked, dropout };
    const words = [
      `${length} by ${size}`,
      ...(causal ? ['causal'] : []),
      ...(masked ? ['masked'] : []),
      ...(dropout ? ['dropout'] : []),
      ...(share > 1 ? [`${share} heads share`] : []),
    ];
    return [false, true].map((backward) =>
      make('attention', { name: words.join(' '), sizes }, attention, {
        dtype: 'bfloat16',
        backward,
      }),
    );
  };
  const [[length, size] = [0, 0]] = lengths;
  return [
    ...lengths.flatMap(([t, d]) => [...cases(t, d, {}), ...cases(t, d, { causal: 1 })]),
    ...[32, 96].flatMap((d) => cases(length, d, {})),
    ...cases(length, size, { masked: 1 }),
    ...cases(length, size, { dropout: 10 }),
    ...cases(length, size, { causal: 1, share: 4 }),
  ];
}

function recurrences(shapes: readonly (readonly number[])[]): KernelCase[] {
  const of = (op: 'lstm' | 'gru', shape: readonly number[], ragged: number): KernelCase[] => {
    const [batch = 0, length = 0, input = 0, hidden = 0, layers = 0] = shape;
    const sizes = { batch, length, input, hidden, layers, ragged };
    const packed = ragged ? ', packed' : '';
    const name = `${layers} of ${hidden}, batch ${batch}, length ${length}${packed}`;
    return (['float32', 'bfloat16'] as const).flatMap((dtype) =>
      [false, true].map((backward) => make(op, { name, sizes }, cells[op], { dtype, backward })),
    );
  };
  const [first = []] = shapes;
  return [
    ...shapes.flatMap((shape) => of('lstm', shape, 0)),
    ...of('lstm', first, 1),
    ...of('gru', first, 0),
  ];
}

/** Beyond a first layer also of images that lie as [N,H,W,C] (`last`). */
function convolutions(shapes: readonly (readonly number[])[]): KernelCase[] {
  return shapes.flatMap(([batch = 0, channels = 0, side = 0, filters = 0, kernel = 0]) =>
    (channels === 3 ? [0] : [0, 1]).flatMap((last) => {
      const sizes = { batch, channels, side, filters, kernel, last };
      const what = `${channels} to ${filters}, ${side} square, batch ${batch}`;
      const shape = { name: last ? `${what}, channels last` : what, sizes };
      const numbers = [{ precision: 'high' }, { dtype: 'bfloat16' }] as const;
      return numbers.flatMap((number) =>
        [false, true].map((backward) => make('conv', shape, conv, { ...number, backward })),
      );
    }),
  );
}

/** What is timed on a GPU, by family. */
export const gpuCases: Readonly<Record<string, readonly KernelCase[]>> = {
  gemm: gemms(
    [1024, 2048, 4096, 8192],
    [32, 64, 128].flatMap((m) => [
      [m, 768, 768],
      [m, 3072, 768],
      [m, 7168, 7168],
    ]),
  ),
  // Of BERT-base and GPT-2.
  linear: linears([
    [4096, 768, 768],
    [4096, 768, 3072],
    [8192, 2304, 768],
    [8192, 3072, 768],
  ]),
  attention: attentions(
    [
      [512, 64],
      [1024, 64],
      [8192, 128],
    ],
    16384,
  ),
  recurrent: recurrences([
    [32, 200, 100, 256, 2],
    [64, 200, 100, 256, 2],
    [16, 1024, 768, 768, 1],
  ]),
  conv: convolutions([
    [32, 3, 150, 32, 3],
    [32, 32, 74, 64, 3],
    [32, 64, 36, 128, 3],
  ]),
  ...memoryGroups(64 * 2 ** 20, 1024),
};

/** The same at sizes that any device runs in seconds, to try the program itself. */
export const tinyCases: typeof gpuCases = {
  gemm: gemms([64], [[3, 40, 24]]),
  linear: linears([[24, 40, 16]]),
  attention: attentions([[64, 64]], 64, 128),
  recurrent: recurrences([[2, 3, 8, 16, 2]]),
  conv: convolutions([
    [2, 3, 10, 4, 3],
    [2, 8, 6, 8, 3],
  ]),
  ...memoryGroups(4096, 64),
};
