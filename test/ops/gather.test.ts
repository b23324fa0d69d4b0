/** Elements by index, masks, and where tensors are set. */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectSameBits } from '../support/compare.js';
import { cpu, devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { Random } from '../support/random.js';
import { gatherRows } from './rows/gather.js';

testOps(gatherRows);

describe.each(devices)('indices on $name', (device) => {
  const list = (...values: number[]): ng.Tensor => ng.tensor(values.map(BigInt), { device });

  it('gather gives NaN, or 0, outside the axis; scatter leaves it out', () => {
    ng.scope(() => {
      const x = ng.tensor([1, 2, 3], { device });
      expect(x.gather(0, list(2, 3, -1)).toArray()).toEqual([3, Number.NaN, Number.NaN]);
      expect(
        x
          .cast('int32')
          .gather(0, list(2, 3, -1))
          .toArray(),
      ).toEqual([3, 0, 0]);
      expect(x.scatter(0, list(3, -1, 1), 9).toArray()).toEqual([1, 9, 3]);
      expect(x.scatterAdd(0, list(3, -1, 1), x).toArray()).toEqual([1, 5, 3]);
    });
  });

  it('of two values for one place the later stays', () => {
    ng.scope(() => {
      const x = ng.zeros([3], { device });
      const values = ng.tensor([1, 2, 3, 4], { device });
      expect(x.scatter(0, list(1, 0, 1, 0), values).toArray()).toEqual([4, 3, 0]);
    });
  });

  it('adds long lines in order, to the bit as on the CPU', () => {
    ng.scope(() => {
      const random = new Random('long lines');
      const n = 700;
      const picks = BigInt64Array.from({ length: 2 * n }, () => BigInt(random.integer(0, 20)));
      const values = Float32Array.from({ length: 2 * n }, () => random.between(-1, 1));
      const added = (on: ng.Device): ng.Tensor =>
        ng
          .zeros([2, 20], { device: on })
          .scatterAdd(
            1,
            ng.tensor(picks, [2, n], { device: on }),
            ng.tensor(values, [2, n], { device: on }),
          );
      const written = (on: ng.Device): ng.Tensor =>
        ng
          .zeros([2, 20], { device: on })
          .scatter(
            1,
            ng.tensor(picks, [2, n], { device: on }),
            ng.tensor(values, [2, n], { device: on }),
          );
      expectSameBits(added(device).to(cpu), added(cpu), 'scatterAdd');
      expectSameBits(written(device).to(cpu), written(cpu), 'scatter');
    });
  });

  it('indexSelect and indexAdd go along any axis', () => {
    ng.scope(() => {
      const x = ng.arange(0, 24, 1, { device, dtype: 'float32' }).reshape(2, 3, 4).requireGrad();
      const index = list(2, 0, 2);
      const chosen = x.indexSelect(index, 1);
      expect(chosen.toArray()).toEqual(
        ng.stack([x.at(null, 2), x.at(null, 0), x.at(null, 2)], 1).toArray(),
      );
      chosen
        .mul(ng.arange(0, 3, 1, { device }).reshape(3, 1))
        .sum()
        .backward();
      expect(x.grad?.at(1).toArray()).toEqual([
        [1, 1, 1, 1],
        [0, 0, 0, 0],
        [2, 2, 2, 2],
      ]);
      const back = ng.indexAdd([2, 3, 4], index, chosen.detach(), -2);
      expect(back.at(null, 2).toArray()).toEqual(x.at(null, 2).mul(2).toArray());
      expect(back.at(null, 1).toArray()).toEqual(ng.zeros([2, 4]).toArray());
      expect(x.indexSelect(list(3), 2).at(0).toArray()).toEqual([[3], [7], [11]]);
      expect(x.indexSelect(list(4), -1).at(0, 0, 0).item()).toBeNaN();
      expect(() => x.indexSelect(index, 3)).toThrow(
        'indexSelect: axis must be an integer in [-3,2], got 3',
      );
      expect(() => ng.indexAdd([2, 3], index, x, 1)).toThrow(
        'indexAdd: the source must be [3,2], got [2,3,4]',
      );
    });
  });

  it('maskedFill puts a value where the mask holds', () => {
    ng.scope(() => {
      const x = ng
        .tensor(
          [
            [1, 2, 3],
            [4, 5, 6],
          ],
          { device },
        )
        .requireGrad();
      const mask = ng.tensor([true, false, true], { device });
      const y = x.maskedFill(mask, -1);
      expect(y.toArray()).toEqual([
        [-1, 2, -1],
        [-1, 5, -1],
      ]);
      expect(y.dtype).toBe('float32');
      y.sum().backward();
      expect(x.grad?.toArray()).toEqual([
        [0, 1, 0],
        [0, 1, 0],
      ]);
      const value = ng.tensor(2, { device }).requireGrad();
      x.detach().maskedFill(mask, value).sum().backward();
      expect(value.grad?.item()).toBe(4);
      expect(() => x.maskedFill(x, 0)).toThrow(
        'maskedFill: the mask must be bool, got a tensor float32[2,3]',
      );
      expect(() => x.at(0).maskedFill(x.gt(0), 0)).toThrow(
        'maskedFill: the mask must broadcast to x, got [2,3] and [3]',
      );
    });
  });

  it('maskedSelect gathers what the mask holds', () => {
    ng.scope(() => {
      const x = ng
        .tensor(
          [
            [1, 2, 3],
            [4, 5, 6],
          ],
          { device },
        )
        .requireGrad();
      const odd = ng.tensor(
        [
          [true, false, true],
          [false, true, false],
        ],
        { device },
      );
      const chosen = x.maskedSelect(odd);
      expect(chosen.toArray()).toEqual([1, 3, 5]);
      chosen.mul(chosen).sum().backward();
      expect(x.grad?.toArray()).toEqual([
        [2, 0, 6],
        [0, 10, 0],
      ]);
      const column = ng.tensor([[true], [false]], { device });
      expect(x.at(0).maskedSelect(column).toArray()).toEqual([1, 2, 3]);
      expect(x.maskedSelect(x.detach().gt(9)).shape).toEqual([0]);
    });
  });

  it('nonzero takes scalars and refuses to be captured', async () => {
    ng.scope(() => {
      expect(ng.tensor(2, { device }).nonzero().shape).toEqual([1, 0]);
      expect(ng.zeros([0, 3], { device }).nonzero().shape).toEqual([0, 2]);
    });
    const step = ng.capture((x: ng.Tensor) => x.nonzero().sum());
    const x = ng.ones([3], { device });
    await step(x);
    await expect(step(x)).rejects.toThrow(
      'nonzero: how many there are depends on values, so it cannot be captured',
    );
    step.dispose();
  });

  it('oneHot', () => {
    ng.scope(() => {
      const hot = ng.oneHot(list(2, 0, 3), 3);
      expect(hot.dtype).toBe('int64');
      expect(hot.toArray()).toEqual([
        [0, 0, 1],
        [1, 0, 0],
        [0, 0, 0],
      ]);
      expect(ng.oneHot(list(1).reshape(1, 1), 2, { dtype: 'bfloat16' }).shape).toEqual([1, 1, 2]);
      expect(() => ng.oneHot(list(1), 0)).toThrow(
        'oneHot: classes must be an integer of 1 or more, got 0',
      );
      expect(() => ng.oneHot(ng.zeros([1], { device }), 2)).toThrow(
        'oneHot: the index must be int64, int32 or uint8, got a tensor float32[1]',
      );
    });
  });

  it('take indices and classes of int32 and uint8', () => {
    ng.scope(() => {
      const x = ng.uniform([3, 4], -1, 1, { device }).requireGrad();
      const ops: ((index: ng.Tensor) => ng.Tensor)[] = [
        (index) => ng.embedding(x, index),
        (index) => x.indexSelect(index),
        (index) => x.indexSelect(index, 1),
        (index) => ng.indexAdd([3, 4], index, x),
        (index) => x.gather(1, index.reshape([3, 1])),
        (index) => x.scatter(1, index.reshape([3, 1]), 5),
        (index) => x.scatterAdd(1, index.reshape([3, 1]), x),
        (index) => x.mul(ng.oneHot(index, 4, { dtype: 'float32' })),
        (index) => ng.crossEntropy(x, index),
        (index) => ng.crossEntropy(x, index, { labelSmoothing: 0.1 }),
        (index) => ng.nn.nllLoss(x, index),
        (index) => ng.nn.multiMarginLoss(x, index),
      ];
      const wide = ng.tensor([2n, 0n, 2n], { device });
      ops.forEach((op, i) => {
        const run = (index: ng.Tensor): unknown => {
          x.zeroGrad();
          const out = op(index);
          out.square().sum().backward();
          return [out.toArray(), x.grad?.toArray()];
        };
        const expected = run(wide);
        for (const dtype of ['int32', 'uint8'] as const) {
          expect(run(wide.to(dtype)), `op ${i} in ${dtype}`).toEqual(expected);
        }
      });
    });
  });
});
