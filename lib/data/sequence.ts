/** Sequences of token numbers as batches: padding, truncation, lengths. */
import { describe, expectInteger, expectOneOf, expectOptions } from '../check.js';
import { cpu } from '../device.js';
import { tensor } from '../ops/fill.js';
import type { Tensor } from '../tensor.js';
import type { Dataset } from './dataset.js';

type Side = 'pre' | 'post';
const sides = ['pre', 'post'] as const;

export interface PadSequencesOptions {
  /** Steps of the result; those of the longest sequence where left out. */
  maxLength?: number;
  /** Where padding goes; 'pre' where left out, as in Keras. */
  padding?: Side;
  /** Which end of a longer sequence is cut off; 'pre' where left out, as in Keras. */
  truncating?: Side;
  /** What padding is; 0 where left out. */
  value?: number;
}

type Numbers = readonly number[] | Int32Array | Uint32Array;

function expectSequence(op: string, sequence: unknown): Numbers {
  if (Array.isArray(sequence) || ArrayBuffer.isView(sequence)) return sequence as Numbers;
  throw new TypeError(`${op}: a sequence must be an array of numbers, got ${describe(sequence)}`);
}

/** Writes a sequence into its row, and says how much of it there was room for. */
function place(row: BigInt64Array, sequence: Numbers, padding: Side, truncating: Side): number {
  const length = Math.min(sequence.length, row.length);
  const from = truncating === 'pre' ? sequence.length - length : 0;
  const at = padding === 'pre' ? row.length - length : 0;
  for (let i = 0; i < length; ++i) row[at + i] = BigInt(sequence[from + i] as number);
  return length;
}

/**
 * Sequences of whole numbers as one tensor int64 [N, T], padded and cut as Keras's pad_sequences.
 * @example padSequences([[1, 2, 3], [4]], { maxLength: 2 }) // [[2, 3], [0, 4]]
 */
export function padSequences(
  sequences: readonly Numbers[],
  options: PadSequencesOptions = {},
): Tensor {
  const op = 'padSequences';
  if (!Array.isArray(sequences)) {
    throw new TypeError(`${op}: sequences must be an array of arrays, got ${describe(sequences)}`);
  }
  const {
    padding = 'pre',
    truncating = 'pre',
    value = 0,
    maxLength,
  } = expectOptions(op, options, ['maxLength', 'padding', 'truncating', 'value']);
  expectOneOf(op, 'padding', padding, sides);
  expectOneOf(op, 'truncating', truncating, sides);
  expectInteger(op, 'value', value);
  let longest = 0;
  for (const sequence of sequences) {
    for (const number of expectSequence(op, sequence)) expectInteger(op, 'a number', number);
    longest = Math.max(longest, sequence.length);
  }
  const steps = maxLength === undefined ? longest : expectInteger(op, 'maxLength', maxLength, 0);
  const rows = new BigInt64Array(sequences.length * steps).fill(BigInt(value));
  sequences.forEach((sequence, i) => {
    place(rows.subarray(i * steps, (i + 1) * steps), sequence, padding, truncating);
  });
  return tensor(rows, [sequences.length, steps], { device: cpu });
}

export interface SequenceDatasetOptions {
  /** Longer sequences are cut to so many steps; none are where left out. */
  maxLength?: number;
  /** Which end is cut off; 'post' where left out. */
  truncating?: Side;
  /** What padding is; 0 where left out. */
  value?: number;
  /** The padded length is rounded up to a multiple of this, for fewer shapes of captured steps; 1. */
  multiple?: number;
  /** Number of classes, against which labels are checked. */
  classes?: number;
}

/**
 * Token sequences with labels, kept packed (4 bytes a token). A batch is padded at the end to its
 * longest sequence: tokens int64 [B, T], lengths int64 [B] (at least 1), labels int64 [B]; give the
 * lengths to packPaddedSequence and the LSTM never sees the padding.
 * @example
 * const data = new SequenceDataset(texts.map((t) => vocabulary.encode(t)), labels, { maxLength: 256 });
 * const batchSampler = new BucketSampler(data.lengths, { batchSize: 64, seed: 1 });
 * for await (const [tokens, lengths, labels] of new DataLoader(data, { batchSampler })) …
 */
export class SequenceDataset implements Dataset<[tokens: Tensor, lengths: Tensor, labels: Tensor]> {
  readonly length: number;
  /** Tokens of each sequence. */
  readonly lengths: Uint32Array;
  private readonly tokens: Int32Array;
  private readonly starts: Float64Array;
  private readonly labels: BigInt64Array;
  private readonly value: bigint;
  private readonly multiple: number;

  constructor(
    sequences: readonly Numbers[],
    labels: readonly number[],
    options: SequenceDatasetOptions = {},
  ) {
    const op = 'SequenceDataset';
    if (!Array.isArray(sequences) || !Array.isArray(labels) || sequences.length !== labels.length) {
      throw new RangeError(
        `${op}: needs an array of sequences and one label each, got ` +
          `${describe(sequences?.length)} and ${describe(labels?.length)}`,
      );
    }
    const {
      maxLength,
      truncating = 'post',
      value = 0,
      multiple = 1,
      classes,
    } = expectOptions(op, options, ['maxLength', 'truncating', 'value', 'multiple', 'classes']);
    const most =
      maxLength === undefined
        ? Number.POSITIVE_INFINITY
        : expectInteger(op, 'maxLength', maxLength, 1);
    expectOneOf(op, 'truncating', truncating, sides);
    this.value = BigInt(expectInteger(op, 'value', value));
    this.multiple = expectInteger(op, 'multiple', multiple, 1);
    const last =
      classes === undefined
        ? Number.MAX_SAFE_INTEGER
        : expectInteger(op, 'classes', classes, 1) - 1;
    this.labels = BigInt64Array.from(labels, (label) =>
      BigInt(expectInteger(op, 'a label', label, classes === undefined ? -last : 0, last)),
    );
    this.length = sequences.length;
    this.lengths = Uint32Array.from(sequences, (sequence) =>
      Math.min(most, expectSequence(op, sequence).length),
    );
    this.starts = new Float64Array(this.length + 1);
    this.lengths.forEach((length, i) => {
      this.starts[i + 1] = (this.starts[i] as number) + length;
    });
    this.tokens = new Int32Array(this.starts[this.length] as number);
    sequences.forEach((sequence, i) => {
      const length = this.lengths[i] as number;
      const from = truncating === 'pre' ? sequence.length - length : 0;
      for (let t = 0; t < length; ++t) {
        const token = sequence[from + t];
        this.tokens[(this.starts[i] as number) + t] = expectInteger(
          op,
          'a token',
          token,
          0,
          2 ** 31 - 1,
        );
      }
    });
  }

  batch(indices: Uint32Array): [tokens: Tensor, lengths: Tensor, labels: Tensor] {
    const { length: rows } = indices;
    const lengths = Array.from(indices, (i) => Math.max(1, this.lengths[i] as number));
    const steps = Math.ceil(Math.max(1, ...lengths) / this.multiple) * this.multiple;
    const tokens = new BigInt64Array(rows * steps).fill(this.value);
    indices.forEach((index, row) => {
      const own = this.tokens.subarray(this.starts[index], this.starts[index + 1]);
      place(tokens.subarray(row * steps, (row + 1) * steps), own, 'post', 'post');
    });
    const onCpu = { device: cpu };
    return [
      tensor(tokens, [rows, steps], onCpu),
      tensor(BigInt64Array.from(lengths, BigInt), onCpu),
      tensor(
        BigInt64Array.from(indices, (i) => this.labels[i] as bigint),
        onCpu,
      ),
    ];
  }
}
