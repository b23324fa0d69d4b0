/** Layers for sequences: indices [N, T] and vectors [N, T, C], the features last as in Keras. */
import { expectBoolean, expectInteger } from '../check.js';
import { isFloating } from '../dtype.js';
import { Embedding } from '../nn/embedding.js';
import * as init from '../nn/init.js';
import { Module } from '../nn/module.js';
import { MaxPool1d } from '../nn/pool.js';
import { GRU, LSTM, RNN } from '../nn/rnn.js';
import { to } from '../ops/copy.js';
import { expectSingle } from '../ops/spatial.js';
import { permute, reshape } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import { GlobalPool } from './image.js';
import {
  floats,
  type Initializer,
  initializerOf,
  known,
  type LayerOptions,
  type LazyLayer,
  named,
} from './layer.js';

/** An embedding that takes integers of any size. */
class Lookup extends Embedding {
  override forward(index: Tensor): Tensor {
    return super.forward(to(index, 'int64'));
  }
}

export interface EmbeddingLayerOptions extends LayerOptions {
  /** 'randomUniform' (within ±0.05) where left out. */
  embeddingsInitializer?: Initializer;
  /** The index whose vector starts as zeros and is not trained; none where left out. */
  paddingIdx?: number;
}

/**
 * A vector per index: integers [N, T] below inputDim to [N, T, outputDim].
 * @example layers.embedding(10_000, 32)
 */
export function embedding(
  inputDim: number,
  outputDim: number,
  options: EmbeddingLayerOptions = {},
): LazyLayer {
  const op = 'embedding';
  const {
    name,
    paddingIdx = null,
    embeddingsInitializer = 'randomUniform',
  } = named(op, options, ['name', 'paddingIdx', 'embeddingsInitializer']);
  expectInteger(op, 'inputDim', inputDim, 1);
  expectInteger(op, 'outputDim', outputDim, 1);
  if (paddingIdx !== null) expectInteger(op, 'paddingIdx', paddingIdx, 0, inputDim - 1);
  const initialize = initializerOf(op, embeddingsInitializer);
  return {
    kind: op,
    name,
    vocabulary: inputDim,
    needs: () => ({
      text: `integer indices below ${inputDim} of rank 2, [N,T]`,
      holds: (shape, dtype) => shape.length === 1 && !isFloating(dtype) && dtype !== 'bool',
    }),
    build: (_, place) => {
      const layer = new Lookup(inputDim, outputDim, { paddingIdx, ...place });
      initialize(layer.weight);
      if (paddingIdx !== null) init.zeros(layer.weight.slice(0, paddingIdx, paddingIdx + 1));
      return [layer];
    },
  };
}

export interface RecurrentOptions extends LayerOptions {
  /** Whether all steps are returned, [N, T, units], or the last, [N, units]; false. */
  returnSequences?: boolean;
  /** Whether the sequence is also read backwards, the results side by side; false. */
  bidirectional?: boolean;
}

const cells = { lstm: LSTM, gru: GRU, simpleRnn: RNN } as const;

/** A recurrent layer of one tensor: all steps, or the last of each direction. */
class Recurrent extends Module {
  readonly layer: LSTM | GRU | RNN;
  constructor(
    kind: keyof typeof cells,
    inputs: number,
    units: number,
    readonly returnSequences: boolean,
    options: ConstructorParameters<typeof LSTM>[2],
  ) {
    super();
    this.layer = new cells[kind](inputs, units, { batchFirst: true, ...options });
    for (const [name, weight] of this.layer.namedParameters()) {
      if (name.startsWith('weight_ih')) init.xavierUniform(weight);
      else if (name.startsWith('weight_hh')) init.orthogonal(weight);
      else init.zeros(weight);
      // Keras has one bias where PyTorch adds two up: the second stays at zero.
      if (name.startsWith('bias_hh') && kind !== 'gru') weight.requireGrad(false);
      if (name.startsWith('bias_ih') && kind === 'lstm') {
        init.ones(weight.detach().slice(0, units, 2 * units));
      }
    }
  }

  forward(x: Tensor): Tensor {
    const [output, state] = this.layer.forward(x);
    if (this.returnSequences) return output;
    const h = Array.isArray(state) ? state[0] : state;
    return reshape(permute(h, [1, 0, 2]), [x.shape[0] as number, -1]);
  }
}

function recurrent(kind: keyof typeof cells, units: number, options: RecurrentOptions): LazyLayer {
  const {
    name,
    returnSequences = false,
    bidirectional = false,
  } = named(kind, options, ['name', 'returnSequences', 'bidirectional']);
  expectInteger(kind, 'units', units, 1);
  expectBoolean(kind, 'returnSequences', returnSequences);
  expectBoolean(kind, 'bidirectional', bidirectional);
  return {
    kind,
    name,
    needs: floats(2, -1),
    build: (shape, place) => [
      new Recurrent(kind, known(shape, -1), units, returnSequences, { bidirectional, ...place }),
    ],
  };
}

/**
 * Long short-term memory: [N, T, C] to [N, units]. The forget gate's bias starts at 1.
 * @example layers.lstm(128)
 */
export function lstm(units: number, options: RecurrentOptions = {}): LazyLayer {
  return recurrent('lstm', units, options);
}

/** Gated recurrent units: [N, T, C] to [N, units]. */
export function gru(units: number, options: RecurrentOptions = {}): LazyLayer {
  return recurrent('gru', units, options);
}

/** A recurrent layer with tanh: [N, T, C] to [N, units]. */
export function simpleRnn(units: number, options: RecurrentOptions = {}): LazyLayer {
  return recurrent('simpleRnn', units, options);
}

/** The largest element of each window along a sequence [N, T, C]. */
export function maxPool1d(
  poolSize = 2,
  options: LayerOptions & { strides?: number } = {},
): LazyLayer {
  const { name, strides = poolSize } = named('maxPool1d', options, ['name', 'strides']);
  expectSingle('maxPool1d', 'poolSize', poolSize, 1);
  expectSingle('maxPool1d', 'strides', strides, 1);
  const build = () => [new MaxPool1d(poolSize, { stride: strides, layout: 'NLC' })];
  return { kind: 'maxPool1d', name, needs: floats(2, -1), build };
}

/** The mean over the steps of a sequence: [N, T, C] to [N, C]. */
export function globalAvgPool1d(options: LayerOptions = {}): LazyLayer {
  const { name } = named('globalAvgPool1d', options, ['name']);
  const build = () => [new GlobalPool('mean', [1])];
  return { kind: 'globalAvgPool1d', name, needs: floats(2, -1), build };
}

/** The maximum over the steps of a sequence: [N, T, C] to [N, C]. */
export function globalMaxPool1d(options: LayerOptions = {}): LazyLayer {
  const { name } = named('globalMaxPool1d', options, ['name']);
  const build = () => [new GlobalPool('max', [1])];
  return { kind: 'globalMaxPool1d', name, needs: floats(2, -1), build };
}
