/** Sequences of several lengths in one tensor: padding and packing, as torch.nn.utils.rnn has them. */
import { record } from '../autograd.js';
import { describe, expectBoolean, expectInteger, expectNumber, expectOptions } from '../check.js';
import { native } from '../native.js';
import { lt, where } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { arange, full, tensor } from '../ops/fill.js';
import { pad } from '../ops/movement.js';
import { reshape, slice, transpose } from '../ops/view.js';
import { sameShape, Tensor, take } from '../tensor.js';

/** Whether step t of row b is one of the row's own: [B, T, 1, …] of the given rank. */
function ownSteps(lengths: Tensor, steps: number, rank: number): Tensor {
  const at = arange(steps, { dtype: 'int64', device: lengths.device });
  const ones = new Array<number>(rank - 2).fill(1);
  return lt(
    reshape(at, [1, steps, ...ones]),
    reshape(lengths, [lengths.shape[0] as number, 1, ...ones]),
  );
}

/** Rows of several lengths, as {@link packPaddedSequence} makes them and recurrent layers take them. */
export class PackedSequence {
  /** @internal Made by packPaddedSequence and by recurrent layers. */
  constructor(
    /** [B, T, …]: the rows, with zeros beyond their lengths. */
    readonly data: Tensor,
    /** int64 [B], on the device of the data. */
    readonly lengths: Tensor,
    /** The longest length, where lengths were given as numbers; null where the device alone knows. */
    readonly longest: number | null = null,
  ) {}
}

export interface SequenceOptions {
  /** Whether the padded tensor is [B, T, …] rather than [T, B, …]; false where left out. */
  batchFirst?: boolean;
}

export interface PadPackedOptions extends PadOptions {
  /** Steps of the result, no fewer than the longest length. */
  totalLength?: number;
}

export interface PadOptions extends SequenceOptions {
  /** What stands beyond a row's length; 0 where left out. */
  paddingValue?: number;
}

/**
 * Rows of several lengths, padded to T steps, for a recurrent layer: padding then changes neither
 * results nor gradients. The order of the rows is kept; lengths may also be a tensor, so that a
 * captured step can take others at each replay.
 * @param x [T, B, …], or [B, T, …] where `batchFirst`
 * @param lengths B numbers in [1, T], or an int64 tensor [B] (taken into [0, T])
 */
export function packPaddedSequence(
  x: Tensor,
  lengths: readonly number[] | Tensor,
  options: SequenceOptions = {},
): PackedSequence {
  const op = 'packPaddedSequence';
  if (!(x instanceof Tensor) || x.rank < 2) {
    throw new TypeError(`${op}: needs a tensor of rank 2 or more, got ${describe(x)}`);
  }
  const { batchFirst = false } = expectOptions(op, options, ['batchFirst']);
  const rows = expectBoolean(op, 'batchFirst', batchFirst) ? x : transpose(x, 0, 1);
  const [batch, steps] = rows.shape as [number, number];
  if (lengths instanceof Tensor ? lengths.dtype !== 'int64' : !Array.isArray(lengths)) {
    throw new TypeError(
      `${op}: lengths must be an array of numbers or an int64 tensor, got ${describe(lengths)}`,
    );
  }
  if (!(lengths instanceof Tensor)) {
    for (const length of lengths) expectInteger(op, 'a length', length, 1, steps);
  }
  const own =
    lengths instanceof Tensor
      ? to(lengths, x.device)
      : tensor(lengths as number[], [lengths.length], { dtype: 'int64', device: x.device });
  if (own.rank !== 1 || own.shape[0] !== batch) {
    throw new RangeError(`${op}: needs a length per row, got [${own.shape}] for ${batch} rows`);
  }
  const longest = lengths instanceof Tensor ? null : Math.max(0, ...lengths);
  return new PackedSequence(where(ownSteps(own, steps, rows.rank), rows, 0), own, longest);
}

/**
 * The padded tensor and the lengths of a packed sequence. It has `totalLength` steps; where that is
 * left out, as many as the longest row, or as the tensor that was packed where its lengths were a
 * tensor: nothing is read back from the device, so that steps can be captured.
 * @returns [T, B, …] or [B, T, …], and int64 [B]
 */
export function padPackedSequence(
  sequence: PackedSequence,
  options: PadPackedOptions = {},
): [padded: Tensor, lengths: Tensor] {
  const op = 'padPackedSequence';
  if (!(sequence instanceof PackedSequence)) {
    throw new TypeError(`${op}: needs a PackedSequence, got ${describe(sequence)}`);
  }
  const { data: all, lengths, longest } = sequence;
  const packed = all.shape[1] as number;
  const {
    batchFirst = false,
    paddingValue = 0,
    totalLength = longest ?? packed,
  } = expectOptions(op, options, ['totalLength', 'paddingValue', 'batchFirst']);
  expectBoolean(op, 'batchFirst', batchFirst);
  expectNumber(op, 'paddingValue', paddingValue);
  const steps = expectInteger(op, 'totalLength', totalLength, longest ?? packed);
  let data = steps < packed ? slice(all, 1, 0, steps) : all;
  if (steps > packed) {
    const more = new Array<number>(2 * (all.rank - 2)).fill(0);
    data = pad(all, [...more, 0, steps - packed]);
  }
  const padded =
    paddingValue === 0 ? data : where(ownSteps(lengths, steps, data.rank), data, paddingValue);
  return [batchFirst ? padded : transpose(padded, 0, 1), lengths];
}

/**
 * Tensors of several lengths in one, padded at their ends to the longest.
 * @param sequences [Lᵢ, …] each, alike but for Lᵢ
 * @returns [T, B, …], or [B, T, …] where `batchFirst`
 */
export function padSequence(sequences: readonly Tensor[], options: PadOptions = {}): Tensor {
  const op = 'padSequence';
  const { batchFirst = false, paddingValue = 0 } = expectOptions(op, options, [
    'paddingValue',
    'batchFirst',
  ]);
  expectBoolean(op, 'batchFirst', batchFirst);
  expectNumber(op, 'paddingValue', paddingValue);
  const first: unknown = Array.isArray(sequences) ? sequences[0] : undefined;
  if (!(first instanceof Tensor)) {
    throw new TypeError(`${op}: needs an array of tensors, got ${describe(sequences)}`);
  }
  const { dtype, device } = first;
  const rest = first.shape.slice(1);
  for (const part of sequences) {
    const fits =
      part instanceof Tensor &&
      part.rank > 0 &&
      sameShape(part.shape.slice(1), rest) &&
      part.dtype === dtype &&
      part.device === device;
    if (!fits) {
      throw new TypeError(
        `${op}: sequences must be alike but for their first size, ` +
          `got ${describe(first)} and ${describe(part)}`,
      );
    }
  }
  const lengths = sequences.map(({ shape }) => shape[0] as number);
  const steps = Math.max(...lengths);
  const own = (x: Tensor, i: number): Tensor => {
    native.select(x.h, 0, i);
    return slice(take(0, device), 0, 0, lengths[i]);
  };
  const out = full([sequences.length, steps, ...rest], paddingValue, { dtype, device });
  sequences.forEach((part, i) => void native.copyInto(own(out, i).h, part.h));
  const rows = record(
    op,
    (dout) => lengths.map((_, i) => own(dout, i)),
    out,
    sequences,
    null,
    null,
  );
  return batchFirst ? rows : transpose(rows, 0, 1);
}
