/** Padding and packing; the numbers are those of torch.nn.utils.rnn. */
import { describe, expect, it } from 'vitest';
import { nn, scope, tensor } from '../../lib/index.js';
import { devices } from '../support/devices.js';

describe.each(devices)('sequences on $name', (device) => {
  const column = (...values: number[]) =>
    tensor(values, [values.length, 1], { device, requiresGrad: true });

  it('pads to the longest, and gives each its part of the gradient', () => {
    scope(() => {
      const parts = [column(1, 2, 3), column(4), column(5, 6)];
      const padded = nn.padSequence(parts, { batchFirst: true, paddingValue: -1 });
      expect(padded.squeeze(2).toArray()).toEqual([
        [1, 2, 3],
        [4, -1, -1],
        [5, 6, -1],
      ]);
      expect(nn.padSequence(parts).squeeze(2).toArray()).toEqual([
        [1, 4, 5],
        [2, 0, 6],
        [3, 0, 0],
      ]);
      padded.mul(padded).sum().backward();
      expect(parts.map((part) => part.grad?.reshape([-1]).toArray())).toEqual([
        [2, 4, 6],
        [8],
        [10, 12],
      ]);
    });
  });

  it('packs and pads again, and keeps padding out of the gradient', () => {
    scope(() => {
      const x = tensor(
        [
          [1, 2],
          [3, 4],
          [5, Number.NaN],
        ],
        { device, requiresGrad: true },
      );
      const packed = nn.packPaddedSequence(x, [3, 2]);
      const [padded, lengths] = nn.padPackedSequence(packed);
      expect(padded.toArray()).toEqual([
        [1, 2],
        [3, 4],
        [5, 0],
      ]);
      expect(lengths.toArray()).toEqual([3, 2]);
      const [rows] = nn.padPackedSequence(packed, { batchFirst: true, paddingValue: 9 });
      expect(rows.toArray()).toEqual([
        [1, 3, 5],
        [2, 4, 9],
      ]);
      const lengthOf = (total?: number): number | undefined =>
        nn.padPackedSequence(packed, total === undefined ? {} : { totalLength: total })[0].shape[0];
      expect([lengthOf(), lengthOf(3), lengthOf(5)]).toEqual([3, 3, 5]);
      const short = nn.packPaddedSequence(x, [2, 1]);
      expect(nn.padPackedSequence(short)[0].toArray()).toEqual([
        [1, 2],
        [3, 0],
      ]);
      const long = nn.padPackedSequence(short, { totalLength: 4, paddingValue: -1 })[0];
      expect(long.toArray()).toEqual([
        [1, 2],
        [3, -1],
        [-1, -1],
        [-1, -1],
      ]);
      expect(() => nn.padPackedSequence(short, { totalLength: 1 })).toThrow(
        'padPackedSequence: totalLength must be an integer of 2 or more, got 1',
      );
      // Lengths on the device are not read.
      const unread = nn.packPaddedSequence(x, tensor([2n, 1n], { device }));
      expect(nn.padPackedSequence(unread)[0].shape).toEqual([3, 2]);
      rows.sum().backward();
      expect(x.grad?.toArray()).toEqual([
        [1, 1],
        [1, 1],
        [1, 0],
      ]);
    });
  });
});

describe('sequences', () => {
  it('are refused where they do not fit', () => {
    scope(() => {
      const x = tensor(new Float32Array(6), [3, 2]);
      expect(() => nn.packPaddedSequence(x, [4, 1])).toThrow(
        'packPaddedSequence: a length must be an integer in [1,3], got 4',
      );
      expect(() => nn.packPaddedSequence(x, [3])).toThrow(
        'packPaddedSequence: needs a length per row, got [1] for 2 rows',
      );
      expect(() => nn.packPaddedSequence(x, tensor([1, 2]))).toThrow(
        'packPaddedSequence: lengths must be an array of numbers or an int64 tensor, ' +
          'got a tensor float32[2]',
      );
      expect(() => nn.padPackedSequence(x as never)).toThrow(
        'padPackedSequence: needs a PackedSequence, got a tensor float32[3,2]',
      );
      expect(() => nn.padSequence([])).toThrow('padSequence: needs an array of tensors, got []');
      expect(() => nn.padSequence([x, tensor([1])])).toThrow(
        'padSequence: sequences must be alike but for their first size, ' +
          'got a tensor float32[3,2] and a tensor float32[1]',
      );
    });
  });
});
