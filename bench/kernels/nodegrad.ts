/**
 * The kernels by nodegrad: `nodegrad.ts DEVICE BACKEND`, which speaks the lines of contest.ts. What is
 * timed is a captured step that runs the op on several sets of inputs in turn, so that they do not stay
 * in the cache. BACKEND is setMatmulBackend's: `own`, or `cublas` for the rival cuBLASLt.
 */
import { createInterface } from 'node:readline';
import {
  arange,
  batchNorm,
  type CapturedStep,
  capture,
  clone,
  conv2d,
  crossEntropy,
  device,
  dropout,
  embedding,
  gelu,
  grad,
  layerNorm,
  manualSeed,
  matmul,
  nn,
  noGrad,
  optim,
  randn,
  rmsNorm,
  saveSafetensors,
  scaledDotProductAttention,
  scope,
  setDefaultDevice,
  setMatmulBackend,
  setMatmulPrecision,
  softmax,
  sum,
  type Tensor,
  tensor,
} from 'nodegrad';
import type { KernelCase } from './cases.js';
import type { Answer, Request } from './process.js';

/** A case made ready: its inputs by name, and the op over them. */
interface Ready {
  inputs: Record<string, Tensor>;
  run: (inputs: Record<string, Tensor>) => Tensor;
  /** The inputs whose gradients are taken; those that are floating where left out. */
  wanted?: readonly string[];
}

const target = device(process.argv[2] ?? 'cpu');
setDefaultDevice(target);
const rival = process.argv[3] === 'cublas';
setMatmulBackend(rival ? 'cublas' : 'own');

type Maker = (item: KernelCase, size: (name: string) => number) => Ready;
const normal = (shape: number[], item: KernelCase, scale = 1): Tensor =>
  randn(shape).mul(scale).to(item.dtype);

/** Ops over one table of rows × columns. */
function overRows(run: (x: Tensor, columns: number) => Tensor): Maker {
  return (item, size) => ({
    inputs: { x: normal([size('rows'), size('columns')], item) },
    run: ({ x }) => run(x as Tensor, size('columns')),
  });
}

/** Layers over [T, B, I]; packed, rows have from all steps down to half of them. */
function recurrent(Layer: typeof nn.LSTM | typeof nn.GRU): Maker {
  return (item, size) => {
    const { dtype } = item;
    const [length, batch] = [size('length'), size('batch')];
    const layer = new Layer(size('input'), size('hidden'), { numLayers: size('layers'), dtype });
    const lengths = Array.from({ length: batch }, (_, b) =>
      Math.round(length - (length * b) / (2 * Math.max(1, batch - 1))),
    );
    const packed = size('ragged') ? tensor(lengths, [batch], { dtype: 'int64' }).keep() : null;
    return {
      inputs: {
        x: normal([length, batch, size('input')], item),
        ...Object.fromEntries(layer.namedParameters()),
      },
      run: ({ x }) => {
        if (!packed) return layer.forward(x as Tensor)[0];
        const sequence = nn.packPaddedSequence(x as Tensor, packed);
        return nn.padPackedSequence(layer.forward(sequence)[0])[0];
      },
    };
  };
}

const makers: Record<string, Maker> = {
  gemm: (item, size) => {
    const [m, n, k, layout] = [size('m'), size('n'), size('k'), size('layout')];
    const turned = (x: Tensor | undefined, yes: boolean): Tensor =>
      yes ? (x as Tensor).transpose() : (x as Tensor);
    return {
      inputs: {
        a: normal(layout === 2 ? [k, m] : [m, k], item),
        b: normal(layout === 1 ? [n, k] : [k, n], item),
      },
      run: ({ a, b }) => matmul(turned(a, layout === 2), turned(b, layout === 1)),
    };
  },
  attention: (item, size) => {
    const [length, width] = [size('length'), size('size')];
    const of = (heads: number): Tensor => normal([size('batch'), heads, length, width], item);
    const shared = size('keyHeads');
    // A fifth of the keys is left out, others for each query.
    const places = arange(length * length)
      .remainder(5)
      .reshape([length, length]);
    return {
      inputs: {
        q: of(size('heads')),
        k: of(shared),
        v: of(shared),
        ...(size('masked') && { mask: places.gt(0) }),
      },
      run: ({ q, k, v, mask }) =>
        scaledDotProductAttention(q as Tensor, k as Tensor, v as Tensor, {
          isCausal: size('causal') === 1,
          mask: mask ?? null,
          dropout: size('dropout') / 100,
        }),
    };
  },
  lstm: recurrent(nn.LSTM),
  gru: recurrent(nn.GRU),
  conv: (item, size) => {
    const [channels, side, kernel] = [size('channels'), size('side'), size('kernel')];
    const fan = channels * kernel * kernel;
    return {
      inputs: {
        x: normal([size('batch'), channels, side, side], item),
        weight: normal([size('filters'), channels, kernel, kernel], item, fan ** -0.5),
        bias: normal([size('filters')], item),
      },
      run: ({ x, weight, bias }) => conv2d(x as Tensor, weight as Tensor, bias as Tensor),
      // The first layer of a network needs no gradient of its image.
      ...(channels === 3 && { wanted: ['weight', 'bias'] }),
    };
  },
  crossEntropy: (item, size) => ({
    inputs: {
      x: normal([size('rows'), size('columns')], item),
      target: arange(size('rows')).remainder(size('columns')).to('int64'),
    },
    run: ({ x, target }) => crossEntropy(x as Tensor, target as Tensor),
  }),
  layerNorm: (item, size) => ({
    inputs: {
      x: normal([size('rows'), size('columns')], item),
      weight: normal([size('columns')], item),
      bias: normal([size('columns')], item),
    },
    run: ({ x, weight, bias }) =>
      layerNorm(x as Tensor, size('columns'), { weight: weight as Tensor, bias: bias as Tensor }),
  }),
  rmsNorm: (item, size) => ({
    inputs: {
      x: normal([size('rows'), size('columns')], item),
      weight: normal([size('columns')], item),
    },
    run: ({ x, weight }) => rmsNorm(x as Tensor, size('columns'), { weight: weight as Tensor }),
  }),
  copy: overRows((x) => clone(x)),
  sum: overRows((x) => sum(x, 1)),
  softmax: overRows((x) => softmax(x)),
  gelu: overRows((x) => gelu(x)),
  dropout: overRows((x) => dropout(x, 0.1)),
  transpose: overRows((x) => x.transpose().contiguous()),
  gradNorm: overRows((x) => optim.getTotalNorm([x])),
  clip: (item, size) => {
    const weight = nn.parameter(normal([size('rows'), size('columns')], item));
    const gradient = normal([size('rows'), size('columns')], item);
    weight.mul(gradient).sum().backward();
    return {
      inputs: { x: weight.grad as Tensor },
      run: () => optim.clipGradNorm([weight], 1),
    };
  },
  batchNorm: (item, size) => ({
    inputs: {
      x: normal([size('rows'), size('columns')], item),
      weight: normal([size('columns')], item),
      bias: normal([size('columns')], item),
    },
    run: ({ x, weight, bias }) =>
      batchNorm(x as Tensor, { weight: weight as Tensor, bias: bias as Tensor, training: true }),
  }),
  embedding: (item, size) => ({
    inputs: {
      weight: normal([size('rows'), size('columns')], item),
      // Each row as often as another, far from its neighbours.
      index: arange(size('rows')).mul(769).remainder(size('rows')).to('int64'),
    },
    run: ({ weight, index }) => embedding(weight as Tensor, index as Tensor),
  }),
  adamw: (item, size) => {
    // As many tensors as a network has layers, the gradients given.
    const parts = 16;
    const shape = [size('rows') / parts, size('columns')];
    const inputs: Record<string, Tensor> = {};
    const parameters = Array.from({ length: parts }, (_, i) => {
      const w = nn.parameter(normal(shape, item));
      const gradient = normal(shape, item);
      w.mul(gradient).sum().backward();
      inputs[`w${i}`] = w;
      inputs[`g${i}`] = gradient;
      return w;
    });
    const optimizer = new optim.AdamW(parameters, { lr: 1e-3 });
    return {
      inputs,
      run: () => {
        optimizer.step();
        return parameters[0] as Tensor;
      },
    };
  },
};

/** Ops whose inputs cannot be replaced by copies: their state is their own. */
const stateful = new Set(['lstm', 'gru', 'adamw', 'clip']);

/** Whether no rival can share its values. */
function isRandom({ op, sizes }: KernelCase): boolean {
  return op === 'dropout' || (sizes.dropout ?? 0) > 0;
}

let step: CapturedStep<[], void> | null = null;

function outputsOf(item: KernelCase, ready: Ready, dout: Tensor | null): Tensor[] {
  if (!item.backward) return [noGrad(() => ready.run(ready.inputs))];
  const names = wantedOf(ready);
  const leaves = names.map((name) => ready.inputs[name] as Tensor);
  const out = ready.run(ready.inputs);
  return [out, ...grad(out, leaves, dout ?? undefined)];
}

function wantedOf({ inputs, wanted }: Ready): readonly string[] {
  const other = ['int64', 'bool'];
  return wanted ?? Object.keys(inputs).filter((name) => !other.includes(inputs[name]?.dtype ?? ''));
}

async function prepare({ item, sets, folder }: Extract<Request, { item: unknown }>) {
  const maker = makers[item.op];
  if (!maker) return { missing: `nodegrad: no such op as ${item.op}` };
  step?.dispose();
  manualSeed(1);
  setMatmulPrecision(item.precision);
  const first = maker(item, (name) => item.sizes[name] as number);
  const all = [first];
  for (let i = 1; i < (stateful.has(item.op) ? 1 : sets); ++i) {
    const inputs = Object.entries(first.inputs).map(([name, x]) => [name, clone(x)]);
    all.push({ ...first, inputs: Object.fromEntries(inputs) });
  }
  let dout: Tensor | null = null;
  if (item.backward) {
    for (const ready of all) {
      for (const name of wantedOf(ready)) (ready.inputs[name] as Tensor).requireGrad();
    }
    const { shape } = noGrad(() => first.run(first.inputs));
    if (shape.length > 0) dout = normal([...shape], item);
  }
  // Before the outputs: an optimizer changes what it is given.
  const given = dout ? { ...first.inputs, dout } : first.inputs;
  if (!rival) await saveSafetensors(`${folder}/inputs.safetensors`, given);
  const outputs = scope(() => outputsOf(item, first, dout).map((x) => x.detach()));
  const named = Object.fromEntries(outputs.map((x, i) => [`out${i}`, x.contiguous()]));
  if (!rival) await saveSafetensors(`${folder}/outputs.safetensors`, named);
  step = capture(() => {
    for (const ready of all) scope(() => void outputsOf(item, ready, dout));
  });
  for (let i = 0; i < 4; ++i) await step();
  await target.synchronize();
  return { sets: all.length, checked: !isRandom(item), wanted: wantedOf(first) };
}

async function answer(request: Request): Promise<Answer> {
  if ('item' in request) return prepare(request);
  if (!step) return { missing: 'nodegrad: nothing was prepared' };
  const start = performance.now();
  for (let i = 0; i < request.steps; ++i) await step();
  await target.synchronize();
  return { seconds: (performance.now() - start) / 1e3 };
}

console.log(JSON.stringify({ version: 'nodegrad', details: target.describe() }));
for await (const line of createInterface({ input: process.stdin })) {
  let reply: Answer;
  try {
    reply = await answer(JSON.parse(line) as Request);
  } catch (error) {
    reply = { missing: (error as Error).message };
  }
  console.log(JSON.stringify(reply));
}
