/**
 * The kernels by nodegrad: `nodegrad.ts DEVICE BACKEND`, which speaks the lines of contest.ts. What is
 * timed is a captured step that runs the op on several sets of inputs in turn, so that they do not stay
 * in the cache. BACKEND is setMatmulBackend's: `own`, or `cublas` for the rival cuBLASLt.
 */
import { createInterface } from 'node:readline';
import {
  arange,
  type CapturedStep,
  capture,
  clone,
  conv2d,
  device,
  grad,
  linear,
  manualSeed,
  matmul,
  nn,
  noGrad,
  saveSafetensors,
  scaledDotProductAttention,
  scope,
  setDefaultDevice,
  setMatmulBackend,
  setMatmulPrecision,
  type Tensor,
  tensor,
} from 'nodegrad';
import type { KernelCase } from './case.js';
import { type Maker, normal, type Ready } from './makers.js';
import { drawn, memoryMakers, ownState } from './memory_makers.js';
import type { Answer, Request } from './process.js';

const target = device(process.argv[2] ?? 'cpu');
setDefaultDevice(target);
const rival = process.argv[3] === 'cublas';
setMatmulBackend(rival ? 'cublas' : 'own');

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
  linear: (item, size) => {
    const [rows, outputs, inputs] = [size('m'), size('n'), size('k')];
    return {
      inputs: {
        x: normal([rows, inputs], item),
        weight: normal([outputs, inputs], item, inputs ** -0.5),
        bias: normal([outputs], item),
      },
      run: ({ x, weight, bias }) => linear(x as Tensor, weight as Tensor, bias as Tensor),
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
    const plane = [side, side];
    const image = size('last') ? [...plane, channels] : [channels, ...plane];
    const layout = size('last') ? 'NHWC' : 'NCHW';
    return {
      inputs: {
        x: normal([size('batch'), ...image], item),
        weight: normal([size('filters'), channels, kernel, kernel], item, fan ** -0.5),
        bias: normal([size('filters')], item),
      },
      run: ({ x, weight, bias }) =>
        conv2d(x as Tensor, weight as Tensor, bias as Tensor, { layout }),
      // The first layer of a network needs no gradient of its image.
      ...(channels === 3 && { wanted: ['weight', 'bias'] }),
    };
  },
  ...memoryMakers,
};

/** Ops whose inputs cannot be replaced by copies: their state is their own. */
const stateful = new Set(['lstm', 'gru', ...ownState]);

/** Whether no rival can share its values. */
function isRandom({ op, sizes }: KernelCase): boolean {
  return drawn.has(op) || (sizes.dropout ?? 0) > 0;
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
