/**
 * Recurrent layers and cells: LSTM, GRU and vanilla RNN, with PyTorch's formulas, names of parameters
 * and initial values (uniform in ±1/√hiddenSize). Formulas stand in lib/ops/rnn.ts.
 * Sources: Hochreiter and Schmidhuber 1997 (LSTM); Cho et al. 2014 (GRU); Elman 1990 (RNN).
 */
import {
  describe,
  expectBoolean,
  expectInteger,
  expectNames,
  expectObject,
  expectOneOf,
  expectRange,
  expectTensor,
} from '../check.js';
import { dropout } from '../ops/dropout.js';
import type { TensorOptions } from '../ops/fill.js';
import { zeros } from '../ops/fill.js';
import { cat } from '../ops/movement.js';
import { type RecurrentMode, type RecurrentResult, recurrent } from '../ops/rnn.js';
import { select, slice, squeeze, unsqueeze } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import { uniform } from './init.js';
import { Module, parameter } from './module.js';
import { PackedSequence } from './sequence.js';

type Place = Pick<TensorOptions, 'dtype' | 'device'>;

export interface RecurrentLayerOptions extends Place {
  /** Layers one above the other; 1 where left out. */
  numLayers?: number;
  /** Whether there are biases; true where left out. */
  bias?: boolean;
  /** Whether x and the output are [B, T, …] rather than [T, B, …]; false where left out. */
  batchFirst?: boolean;
  /** Probability of dropping an element between layers, in training; 0 where left out. */
  dropout?: number;
  /** Whether every layer also goes backwards, from each row's end; false where left out. */
  bidirectional?: boolean;
}

export interface RNNOptions extends RecurrentLayerOptions {
  /** 'tanh' where left out. */
  nonlinearity?: 'tanh' | 'relu';
}

/** h and c of an LSTM, [numLayers·D, B, H] each, or [numLayers·D, H] for one sequence. */
export type LSTMState = readonly [h: Tensor, c: Tensor];

const gatesOf: Readonly<Record<RecurrentMode, number>> = { lstm: 4, gru: 3, tanh: 1, relu: 1 };

const cellNames = ['bias', 'dtype', 'device'] as const;
const layerNames = [...cellNames, 'numLayers', 'batchFirst', 'dropout', 'bidirectional'] as const;

/** The options of a kind of layer; those without gates have a nonlinearity. */
function namesFor(mode: RecurrentMode, names: readonly (keyof RNNOptions)[]): readonly string[] {
  return gatesOf[mode] === 1 ? [...names, 'nonlinearity'] : names;
}

/** The parameters of one layer and direction, as properties of a module named by PyTorch. */
function addParameters(
  module: Module,
  suffix: string,
  [gates, inputs, hidden]: readonly [gates: number, inputs: number, hidden: number],
  bias: boolean,
  place: Place,
): string[] {
  const bound = 1 / Math.sqrt(hidden);
  const shapes: Record<string, number[]> = {
    [`weight_ih${suffix}`]: [gates * hidden, inputs],
    [`weight_hh${suffix}`]: [gates * hidden, hidden],
    ...(bias && { [`bias_ih${suffix}`]: [gates * hidden], [`bias_hh${suffix}`]: [gates * hidden] }),
  };
  for (const [name, shape] of Object.entries(shapes)) {
    const tensor = parameter(zeros(shape, place));
    uniform(tensor, -bound, bound);
    (module as unknown as Record<string, Tensor>)[name] = tensor;
  }
  return Object.keys(shapes);
}

function named(module: Module, names: readonly string[]): Tensor[] {
  return names.map((name) => (module as unknown as Record<string, Tensor>)[name] as Tensor);
}

interface Outcome<Output> {
  output: Output;
  h: Tensor;
  c: Tensor | null;
}

/** What LSTM, GRU and RNN share. */
abstract class Recurrent extends Module {
  readonly numLayers: number;
  readonly batchFirst: boolean;
  readonly dropout: number;
  readonly bidirectional: boolean;
  // Per layer and direction, so that tensors are found where `to` puts others in their place.
  private readonly names: string[][][] = [];

  constructor(
    private readonly mode: RecurrentMode,
    readonly inputSize: number,
    readonly hiddenSize: number,
    options: RecurrentLayerOptions,
  ) {
    super();
    const op = new.target.name;
    expectInteger(op, 'inputSize', inputSize, 1);
    expectInteger(op, 'hiddenSize', hiddenSize, 1);
    const {
      numLayers = 1,
      bias = true,
      batchFirst = false,
      dropout = 0,
      bidirectional = false,
      dtype,
      device,
    } = expectNames(op, options, namesFor(mode, layerNames));
    this.numLayers = expectInteger(op, 'numLayers', numLayers, 1);
    this.batchFirst = expectBoolean(op, 'batchFirst', batchFirst);
    this.dropout = expectRange(op, 'dropout', dropout, 0, 1);
    this.bidirectional = expectBoolean(op, 'bidirectional', bidirectional);
    expectBoolean(op, 'bias', bias);
    const place: Place = { ...(dtype && { dtype }), ...(device && { device }) };
    for (let layer = 0; layer < numLayers; ++layer) {
      const inputs = layer === 0 ? inputSize : hiddenSize * this.directions;
      const sizes = [gatesOf[mode], inputs, hiddenSize] as const;
      this.names.push(
        (bidirectional ? ['', '_reverse'] : ['']).map((direction) =>
          addParameters(this, `_l${layer}${direction}`, sizes, bias, place),
        ),
      );
    }
  }

  private get directions(): number {
    return this.bidirectional ? 2 : 1;
  }

  private stateOf(name: string, state: Tensor | null, batched: boolean): Tensor | null {
    if (state === null) return null;
    const op = this.constructor.name;
    expectTensor(op, state, name);
    const rows = this.numLayers * this.directions;
    if (state.rank !== (batched ? 3 : 2) || state.shape[0] !== rows) {
      throw new RangeError(
        `${op}: ${name} must be [${rows},${batched ? 'B,' : ''}${this.hiddenSize}], ` +
          `got [${state.shape}]`,
      );
    }
    return batched ? state : unsqueeze(state, 1);
  }

  /** All layers over a padded or packed batch, or over one sequence [T, I]. */
  protected run<Input extends Tensor | PackedSequence>(
    input: Input,
    h0: Tensor | null,
    c0: Tensor | null,
  ): Outcome<Input> {
    const packed = input instanceof PackedSequence ? input : null;
    const x = packed?.data ?? expectTensor(this.constructor.name, input, 'the input');
    const batched = x.rank !== 2;
    const size = x.shape[x.rank - 1];
    if ((x.rank !== 3 && (packed || x.rank !== 2)) || size !== this.inputSize) {
      throw new RangeError(
        `${this.constructor.name}: the input must be [${this.batchFirst ? 'B,T' : 'T,B'},` +
          `${this.inputSize}] or [T,${this.inputSize}], got [${x.shape}]`,
      );
    }
    const h = this.stateOf('the initial h', h0, batched);
    const c = this.stateOf('the initial c', c0, batched);
    const d = this.directions;
    const batchFirst = packed ? true : batched && this.batchFirst;
    let output = batched ? x : unsqueeze(x, 1);
    const results: RecurrentResult[] = [];
    this.names.forEach((own, layer) => {
      if (layer > 0 && this.dropout > 0 && this.training) output = dropout(output, this.dropout);
      const part = (state: Tensor | null) => state && slice(state, 0, layer * d, (layer + 1) * d);
      const result = recurrent(
        this.mode,
        output,
        own.map((names) => named(this, names)),
        { batchFirst, lengths: packed?.lengths ?? null, h0: part(h), c0: part(c) },
      );
      output = result.output;
      results.push(result);
    });
    const together = (states: (Tensor | null)[]): Tensor | null => {
      const found = states.filter((state) => state !== null);
      const [first] = found;
      if (!first) return null;
      const all = found.length === 1 ? first : cat(found);
      return batched ? all : squeeze(all, 1);
    };
    return {
      output: (packed
        ? new PackedSequence(output, packed.lengths, packed.longest)
        : batched
          ? output
          : squeeze(output, 1)) as Input,
      h: together(results.map(({ hN }) => hN)) as Tensor,
      c: together(results.map(({ cN }) => cN)),
    };
  }

  protected override describe(): string {
    const { numLayers, bidirectional, dropout } = this;
    const more = [
      ...(numLayers > 1 ? [`${numLayers} layers`] : []),
      ...(bidirectional ? ['bidirectional'] : []),
      ...(dropout > 0 ? [`dropout ${dropout}`] : []),
    ];
    return [`${this.inputSize} → ${this.hiddenSize}`, ...more].join(', ');
  }
}

/** h and c, or nothing. */
function lstmState(op: string, state: LSTMState | null): [Tensor | null, Tensor | null] {
  if (state === null) return [null, null];
  if (Array.isArray(state) && state.length === 2) {
    return [expectTensor(op, state[0], 'h'), expectTensor(op, state[1], 'c')];
  }
  throw new TypeError(`${op}: the state must be [h, c], got ${describe(state)}`);
}

/**
 * Long short-term memory over whole sequences: [T, B, I] to [T, B, D·H] (batch first where asked),
 * with D = 2 where bidirectional. Takes a padded batch, one sequence [T, I], or a PackedSequence.
 * @example
 * const lstm = new nn.LSTM(100, 256, { numLayers: 2, batchFirst: true });
 * const [output, [h, c]] = lstm.forward(x);
 */
export class LSTM extends Recurrent {
  constructor(inputSize: number, hiddenSize: number, options: RecurrentLayerOptions = {}) {
    super('lstm', inputSize, hiddenSize, options);
  }

  /** The output of the last layer, and h and c of all layers after each row's last step. */
  forward<Input extends Tensor | PackedSequence>(
    input: Input,
    state: LSTMState | null = null,
  ): [output: Input, state: [h: Tensor, c: Tensor]] {
    const { output, h, c } = this.run(input, ...lstmState('LSTM', state));
    return [output, [h, c as Tensor]];
  }
}

/**
 * Gated recurrent units over whole sequences; shapes and options as {@link LSTM} has them.
 * @example const [output, h] = new nn.GRU(8, 16).forward(x);
 */
export class GRU extends Recurrent {
  constructor(inputSize: number, hiddenSize: number, options: RecurrentLayerOptions = {}) {
    super('gru', inputSize, hiddenSize, options);
  }

  /** The output of the last layer, and h of all layers after each row's last step. */
  forward<Input extends Tensor | PackedSequence>(
    input: Input,
    state: Tensor | null = null,
  ): [output: Input, h: Tensor] {
    const { output, h } = this.run(input, state, null);
    return [output, h];
  }
}

function nonlinearityOf(op: string, options: { nonlinearity?: 'tanh' | 'relu' }): 'tanh' | 'relu' {
  const { nonlinearity = 'tanh' } = expectObject(op, options);
  return expectOneOf(op, 'nonlinearity', nonlinearity, ['tanh', 'relu']);
}

/**
 * Vanilla recurrent layers, with tanh or ReLU; shapes and options as {@link LSTM} has them.
 * @example const [output, h] = new nn.RNN(8, 16, { nonlinearity: 'relu' }).forward(x);
 */
export class RNN extends Recurrent {
  constructor(inputSize: number, hiddenSize: number, options: RNNOptions = {}) {
    super(nonlinearityOf('RNN', options), inputSize, hiddenSize, options);
  }

  /** The output of the last layer, and h of all layers after each row's last step. */
  forward<Input extends Tensor | PackedSequence>(
    input: Input,
    state: Tensor | null = null,
  ): [output: Input, h: Tensor] {
    const { output, h } = this.run(input, state, null);
    return [output, h];
  }
}

export interface RecurrentCellOptions extends Place {
  /** Whether there are biases; true where left out. */
  bias?: boolean;
}

export interface RNNCellOptions extends RecurrentCellOptions {
  /** 'tanh' where left out. */
  nonlinearity?: 'tanh' | 'relu';
}

/** What the cells share: one step. */
abstract class Cell extends Module {
  private readonly names: string[];

  constructor(
    private readonly mode: RecurrentMode,
    readonly inputSize: number,
    readonly hiddenSize: number,
    options: RecurrentCellOptions,
  ) {
    super();
    const op = new.target.name;
    expectInteger(op, 'inputSize', inputSize, 1);
    expectInteger(op, 'hiddenSize', hiddenSize, 1);
    const { bias = true, dtype, device } = expectNames(op, options, namesFor(mode, cellNames));
    expectBoolean(op, 'bias', bias);
    const sizes = [gatesOf[mode], inputSize, hiddenSize] as const;
    const place: Place = { ...(dtype && { dtype }), ...(device && { device }) };
    this.names = addParameters(this, '', sizes, bias, place);
  }

  /** h and c after one step of a batch [B, I], or of one row [I]. */
  protected step(x: Tensor, h: Tensor | null, c: Tensor | null): [Tensor, Tensor | null] {
    const op = this.constructor.name;
    expectTensor(op, x, 'the input');
    if (x.rank < 1 || x.rank > 2 || x.shape[x.rank - 1] !== this.inputSize) {
      throw new RangeError(
        `${op}: the input must be [B,${this.inputSize}] or [${this.inputSize}], got [${x.shape}]`,
      );
    }
    // As a sequence of one step of a batch: [1, B, I] and [1, B, H].
    const stepOf = (tensor: Tensor): Tensor => {
      if (tensor.rank !== x.rank) {
        throw new RangeError(
          `${op}: a state must have ${x.rank} axes as the input has, got [${tensor.shape}]`,
        );
      }
      return unsqueeze(x.rank === 2 ? tensor : unsqueeze(tensor, 0), 0);
    };
    const { hN, cN } = recurrent(this.mode, stepOf(x), [named(this, this.names)], {
      h0: h && stepOf(expectTensor(op, h, 'h')),
      c0: c && stepOf(c),
    });
    const rows = (state: Tensor): Tensor => {
      const batch = select(state, 0, 0);
      return x.rank === 2 ? batch : select(batch, 0, 0);
    };
    return [rows(hN), cN && rows(cN)];
  }

  protected override describe(): string {
    return `${this.inputSize} → ${this.hiddenSize}`;
  }
}

/** One step of an {@link LSTM}: x [B, I] and [h, c], each [B, H], to the next [h, c]. */
export class LSTMCell extends Cell {
  constructor(inputSize: number, hiddenSize: number, options: RecurrentCellOptions = {}) {
    super('lstm', inputSize, hiddenSize, options);
  }

  forward(x: Tensor, state: LSTMState | null = null): [h: Tensor, c: Tensor] {
    const [h, c] = this.step(x, ...lstmState('LSTMCell', state));
    return [h, c as Tensor];
  }
}

/** One step of a {@link GRU}: x [B, I] and h [B, H] to the next h. */
export class GRUCell extends Cell {
  constructor(inputSize: number, hiddenSize: number, options: RecurrentCellOptions = {}) {
    super('gru', inputSize, hiddenSize, options);
  }

  forward(x: Tensor, h: Tensor | null = null): Tensor {
    return this.step(x, h, null)[0];
  }
}

/** One step of an {@link RNN}: x [B, I] and h [B, H] to the next h. */
export class RNNCell extends Cell {
  constructor(inputSize: number, hiddenSize: number, options: RNNCellOptions = {}) {
    super(nonlinearityOf('RNNCell', options), inputSize, hiddenSize, options);
  }

  forward(x: Tensor, h: Tensor | null = null): Tensor {
    return this.step(x, h, null)[0];
  }
}
