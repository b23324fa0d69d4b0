/** Ten losses of a small classifier with each layer, against PyTorch's (test/vectors/layer_runs.py). */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  crossEntropy,
  type Device,
  type DType,
  flatten,
  flip,
  nn,
  optim,
  scope,
  sub,
  type Tensor,
  tensor,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { mixed, readVectors, uniformOf } from '../support/vectors.js';

interface Case {
  layer: string;
  /** The class of the loss; cross-entropy where left out. */
  loss?: string;
  shape: number[];
  /** Names, sorted, as PyTorch's. */
  parameters: string[];
  float32: number[];
  float64: number[];
}

type Place = { dtype: DType; device: Device };

const { cases } = readVectors<Case>('layer_runs');
const [batch, classes, words] = [6, 3, 11];

/** A part of the model under a name, called by a function. */
function calling<M extends nn.Module>(name: string, part: M, call: (part: M, x: Tensor) => Tensor) {
  const module = new (class extends nn.Module {
    forward = (x: Tensor): Tensor => call(part, x);
  })();
  return Object.assign(module, { [name]: part });
}

/** A cell over the positions of [B, T, E]; the last h. */
function unrolled(cell: nn.RNNCell | nn.GRUCell | nn.LSTMCell): nn.Layer {
  return calling('cell', cell, (_, x) => {
    let state: Tensor | [Tensor, Tensor] | null = null;
    for (let step = 0; step < (x.shape[1] as number); ++step) {
      state = cell.forward(x.select(1, step), state as never);
    }
    return Array.isArray(state) ? state[0] : (state as unknown as Tensor);
  });
}

const transformer = (place: Place) =>
  ({ dimFeedforward: 10, dropout: 0, activation: 'gelu', batchFirst: true, ...place }) as const;

const layers: Record<string, (place: Place) => nn.Layer> = {
  Conv1d: (place) => new nn.Conv1d(3, 4, 3, { stride: 2, padding: 2, dilation: 2, ...place }),
  Conv2d: (place) => new nn.Conv2d(4, 6, 3, { stride: 2, padding: 1, groups: 2, ...place }),
  ConvTranspose1d: (place) =>
    new nn.ConvTranspose1d(3, 4, 3, { stride: 2, padding: 1, outputPadding: 1, ...place }),
  ConvTranspose2d: (place) =>
    new nn.ConvTranspose2d(4, 2, 3, { stride: 2, padding: 1, groups: 2, ...place }),
  MaxPool1d: () => new nn.MaxPool1d(3, { stride: 2 }),
  MaxPool2d: () => new nn.MaxPool2d(2),
  AvgPool1d: () => new nn.AvgPool1d(3, { stride: 2 }),
  AvgPool2d: () => new nn.AvgPool2d(3, { stride: 2, padding: 1 }),
  AdaptiveAvgPool2d: () => new nn.AdaptiveAvgPool2d([2, 3]),
  AdaptiveMaxPool2d: () => new nn.AdaptiveMaxPool2d([2, 3]),
  Upsample: () => new nn.Upsample({ scaleFactor: 2, mode: 'bilinear' }),
  EmbeddingBag: (place) => new nn.EmbeddingBag(words, 5, { mode: 'mean', ...place }),
  RNNCell: (place) => unrolled(new nn.RNNCell(4, 5, place)),
  GRUCell: (place) => unrolled(new nn.GRUCell(4, 5, place)),
  LSTMCell: (place) => unrolled(new nn.LSTMCell(4, 5, place)),
  MultiheadAttention: (place) =>
    calling(
      'attention',
      new nn.MultiheadAttention(6, 2, { batchFirst: true, ...place }),
      (part, x) => part.forward(x, x, x)[0],
    ),
  AdditiveAttention: (place) => {
    const layer = new nn.AdditiveAttention(4, 4, 5, place);
    const { query, key, score } = layer;
    const module = calling('query', query, (_, x) => layer.forward(x, x)[0]);
    return Object.assign(module, { key, score });
  },
  DotProductAttention: () =>
    calling('attention', new nn.DotProductAttention(), (part, x) => part.forward(x, x)[0]),
  TransformerDecoderLayer: (place) =>
    calling('decoder', new nn.TransformerDecoderLayer(6, 2, transformer(place)), (part, x) =>
      part.forward(x, flip(x, 1)),
    ),
  TransformerEncoder: (place) =>
    new nn.TransformerEncoder(() => new nn.TransformerEncoderLayer(6, 2, transformer(place)), 2),
  TransformerEncoderLayer: (place) => new nn.TransformerEncoderLayer(6, 2, transformer(place)),
  TransformerDecoder: (place) => {
    const make = () => new nn.TransformerDecoderLayer(6, 2, transformer(place));
    return calling('decoder', new nn.TransformerDecoder(make, 2), (part, x) =>
      part.forward(x, flip(x, 1)),
    );
  },
  LearnedPositions: (place) => new nn.LearnedPositions(5, 4, place),
  SinusoidalPositions: (place) => new nn.SinusoidalPositions(5, 4, place),
  RotaryPositions: (place) => new nn.RotaryPositions(5, 4, place),
  Sigmoid: () => new nn.Sigmoid(),
  Tanh: () => new nn.Tanh(),
  GELU: () => new nn.GELU(),
  SiLU: () => new nn.SiLU(),
  Softplus: () => new nn.Softplus(),
  ReLU6: () => new nn.ReLU6(),
  Hardsigmoid: () => new nn.Hardsigmoid(),
  Hardswish: () => new nn.Hardswish(),
  SELU: () => new nn.SELU(),
  Mish: () => new nn.Mish(),
  Softsign: () => new nn.Softsign(),
  LogSigmoid: () => new nn.LogSigmoid(),
  Hardtanh: () => new nn.Hardtanh(),
  LeakyReLU: () => new nn.LeakyReLU(),
  ELU: () => new nn.ELU(),
  CELU: () => new nn.CELU(0.5),
  Softmax: () => new nn.Softmax(-1),
  LogSoftmax: () => new nn.LogSoftmax(-1),
  Dropout: () => new nn.Dropout(0),
  Dropout1d: () => new nn.Dropout1d(0),
  Dropout2d: () => new nn.Dropout2d(0),
  AlphaDropout: () => new nn.AlphaDropout(0),
  PReLU: (place) => new nn.PReLU(3, place),
  GLU: () => new nn.GLU(1),
  Unflatten: () => new nn.Unflatten(1, [2, 3]),
  AdaptiveAvgPool1d: () => new nn.AdaptiveAvgPool1d(3),
  AdaptiveMaxPool1d: () => new nn.AdaptiveMaxPool1d(3),
  Identity: () => new nn.Identity(),
};

/** Of outputs y, labels c, targets t in (0, 1) of the outputs' shape, and their signs s. */
const losses: Record<string, (y: Tensor, c: Tensor, t: Tensor, s: Tensor) => Tensor> = {
  CrossEntropyLoss: (y, c) => new nn.CrossEntropyLoss({ labelSmoothing: 0.1 }).forward(y, c),
  NLLLoss: (y, c) => new nn.NLLLoss().forward(y.logSoftmax(), c),
  BCELoss: (y, _, t) => new nn.BCELoss().forward(y.sigmoid(), t),
  BCEWithLogitsLoss: (y, _, t) => new nn.BCEWithLogitsLoss().forward(y, t),
  KLDivLoss: (y, _, t) =>
    new nn.KLDivLoss({ reduction: 'batchmean' }).forward(y.logSoftmax(), t.softmax()),
  MultiMarginLoss: (y, c) => new nn.MultiMarginLoss().forward(y, c),
  CosineSimilarity: (y, _, t) => sub(1, new nn.CosineSimilarity().forward(y, t).mean()),
  CosineEmbeddingLoss: (y, _, t, s) => new nn.CosineEmbeddingLoss().forward(y, t, s.select(1, 0)),
  HingeEmbeddingLoss: (y, _, __, s) => new nn.HingeEmbeddingLoss().forward(y, s),
  HingeLoss: (y, _, __, s) => new nn.HingeLoss().forward(y, s),
  MarginRankingLoss: (y, _, __, s) =>
    new nn.MarginRankingLoss({ margin: 0.2 }).forward(
      y.select(1, 0),
      y.select(1, 1),
      s.select(1, 0),
    ),
  TripletMarginLoss: (y, _, t, s) => new nn.TripletMarginLoss({ margin: 5 }).forward(y, t, s),
  MSELoss: (y, _, t) => new nn.MSELoss().forward(y, t),
  L1Loss: (y, _, t) => new nn.L1Loss().forward(y, t),
  SmoothL1Loss: (y, _, t) => new nn.SmoothL1Loss().forward(y, t),
  HuberLoss: (y, _, t) => new nn.HuberLoss().forward(y, t),
  PoissonNLLLoss: (y, _, t) => new nn.PoissonNLLLoss().forward(y, t),
};
/** Classes of lib/nn with such runs in other files, or made of parts that have them. */
const elsewhere: Record<string, string[]> = {
  network: ['Linear', 'ReLU', 'Sequential'],
  norm: [
    ...['BatchNorm1d', 'BatchNorm2d', 'Embedding', 'Flatten', 'GroupNorm', 'InstanceNorm2d'],
    ...['LayerNorm', 'RMSNorm'],
  ],
  rnn: ['GRU', 'LSTM', 'RNN'],
};

it('have every layer and loss of lib/nn', () => {
  const classes = Object.entries(nn)
    .filter(([, value]) => typeof value === 'function' && value.prototype instanceof nn.Module)
    .map(([name]) => name);
  const run = cases.map(({ layer, loss }) => loss ?? layer);
  const known = new Set([...run, 'Identity', ...Object.values(elsewhere).flat()]);
  expect(classes.filter((name) => !known.has(name))).toEqual([]);
  for (const [file, names] of Object.entries(elsewhere)) {
    const text = readFileSync(new URL(`${file}.test.ts`, import.meta.url), 'utf8');
    for (const name of names) expect(text).toMatch(new RegExp(`\\b${name}\\b`));
  }
});

describe.each(devices)('ten losses on $name', (device) => {
  describe.each(['float32', 'float64'] as const)('in %s', (dtype) => {
    const named = cases.map((entry) => [entry.loss ?? entry.layer, entry] as const);
    it.each(named)('with %s', (_, { layer, loss: criterion, shape, parameters, ...runs }) => {
      scope(() => {
        const place = { dtype, device };
        const indices = layer === 'EmbeddingBag';
        const inputOf = (step: number): Tensor => {
          if (!indices) return uniformOf(2000 + step, [batch, ...shape]).to(dtype, device);
          const found = mixed(2000 + step, batch * 4);
          return tensor(
            Array.from(found, (u) => BigInt(Math.floor(u * words))),
            [batch, 4],
            { device },
          );
        };
        const width = shape.at(-1) as number;
        const front = indices ? new nn.Identity() : new nn.Linear(width, width, place);
        const middle = (layers[layer] as (place: Place) => nn.Layer)(place);
        const features = (x: Tensor) => flatten(middle.forward(front.forward(x)), 1);
        const head = new nn.Linear(features(inputOf(0)).shape[1] as number, classes, place);
        const model = calling('head', head, (_, x) => head.forward(features(x)));
        Object.assign(model, { front, layer: middle });

        const own = new Map(model.namedParameters());
        expect([...own.keys()].sort()).toEqual(parameters);
        parameters.forEach((name, i) => {
          const parameter = own.get(name) as Tensor;
          const values = uniformOf(1000 + i, parameter.shape, -0.5, 0.5);
          const scales = name.includes('norm') && name.endsWith('weight');
          parameter.copyFrom((scales ? values.add(1) : values).to(dtype, device));
        });
        const optimizer = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
        runs[dtype].forEach((expected, step) => {
          const labels = Array.from(mixed(3000 + step, batch), (u) =>
            BigInt(Math.floor(u * classes)),
          );
          optimizer.zeroGrad();
          const [y, c] = [model.forward(inputOf(step)), tensor(labels, { device })];
          const t = uniformOf(4000 + step, [batch, classes], 0.01, 0.99).to(dtype, device);
          const loss = criterion
            ? (losses[criterion] as (typeof losses)[string])(y, c, t, t.sub(0.5).sign())
            : crossEntropy(y, c);
          loss.backward();
          optimizer.step();
          const error = Math.abs(Number(loss.item()) - expected) / expected;
          // Ten steps with a high rate spread roundings.
          expect(error, `loss ${step}`).toBeLessThan(dtype === 'float32' ? 2e-5 : 1e-9);
        });
      });
    });
  });
});
