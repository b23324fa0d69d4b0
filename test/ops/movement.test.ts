/** Joining, padding, flipping, rolling, repeating; and compositions of views. */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { movementRows } from './rows/movement.js';

testOps(movementRows);

describe.each(devices)('parts on $name', (device) => {
  const counted = (...shape: number[]): ng.Tensor =>
    ng
      .arange(
        0,
        shape.reduce((a, b) => a * b, 1),
        1,
        { device },
      )
      .reshape(shape);

  it('cat promotes dtypes and takes one tensor', () => {
    ng.scope(() => {
      const joined = ng.cat([counted(2), ng.full([1], 0.5, { device })]);
      expect(joined.dtype).toBe('float32');
      expect(joined.toArray()).toEqual([0, 1, 0.5]);
      expect(ng.cat([counted(3)]).toArray()).toEqual([0, 1, 2]);
    });
  });

  it('split, chunk and unbind give views that fit together again', () => {
    ng.scope(() => {
      const x = counted(2, 7);
      const shapes = (parts: ng.Tensor[]): number[][] => parts.map(({ shape }) => [...shape]);
      expect(shapes(x.split(3, 1))).toEqual([
        [2, 3],
        [2, 3],
        [2, 1],
      ]);
      expect(shapes(x.split([0, 5, 2], -1))).toEqual([
        [2, 0],
        [2, 5],
        [2, 2],
      ]);
      expect(shapes(x.chunk(3, 1))).toEqual([
        [2, 3],
        [2, 3],
        [2, 1],
      ]);
      expect(shapes(x.chunk(5, 0))).toEqual([
        [1, 7],
        [1, 7],
      ]);
      expect(shapes(counted(0, 2).split(4))).toEqual([[0, 2]]);
      expect(shapes(counted(0, 2).chunk(3))).toEqual([
        [0, 2],
        [0, 2],
        [0, 2],
      ]);
      expect(ng.cat(x.split([4, 3], 1), 1).toArray()).toEqual(x.toArray());
      expect(ng.stack(x.unbind(1), 1).toArray()).toEqual(x.toArray());
      expect(x.unbind().map((row) => row.toArray())).toEqual(x.toArray());
    });
  });

  it('split refuses what does not fit', () => {
    ng.scope(() => {
      const x = counted(2, 7);
      expect(() => x.split([3, 3], 1)).toThrow('split: sizes must add up to 7, got [3,3]');
      expect(() => x.split(0)).toThrow('split: the size must be an integer of 1 or more, got 0');
      expect(() => x.split(1, 2)).toThrow('split: axis must be an integer in [-2,1], got 2');
      expect(() => x.chunk(0)).toThrow(
        'chunk: the number of chunks must be an integer of 1 or more, got 0',
      );
      expect(() => x.sum().unbind()).toThrow(
        'unbind: needs a tensor of rank 1 or more, got a scalar',
      );
    });
  });

  it('every part takes its gradient to its place', () => {
    ng.scope(() => {
      const x = ng.zeros([3, 5], { device }).requireGrad();
      const [a, b] = x.split([2, 3], 1) as [ng.Tensor, ng.Tensor];
      a.sum().add(b.mul(2).sum()).backward();
      expect(x.grad?.toArray()).toEqual(new Array(3).fill([1, 1, 2, 2, 2]));
    });
  });

  it('movedim, swapaxes, broadcastTo and expandAs', () => {
    ng.scope(() => {
      const x = counted(2, 3, 4);
      expect(x.movedim(0, -1).toArray()).toEqual(x.permute([1, 2, 0]).toArray());
      expect(x.movedim([0, 1], [2, 0]).toArray()).toEqual(x.permute([1, 2, 0]).toArray());
      expect(x.swapaxes(0, -1).toArray()).toEqual(x.permute([2, 1, 0]).toArray());
      expect(counted(3, 1).broadcastTo([2, 3, 2]).shape).toEqual([2, 3, 2]);
      expect(counted(4).expandAs(x).at(1, 2).toArray()).toEqual([0, 1, 2, 3]);
      expect(() => x.movedim([0, 1], 0)).toThrow(
        'movedim: needs as many destinations as sources, got 2 and 1',
      );
      expect(() => x.movedim([0, -3], [0, 1])).toThrow('movedim: axes must differ, got [0,-3]');
    });
  });

  it('diag, eye and meshgrid', () => {
    ng.scope(() => {
      const matrix = [
        [0, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
      ];
      expect(counted(2).diag(-1).toArray()).toEqual(matrix);
      expect(ng.tensor(matrix, { device }).diag(-1).toArray()).toEqual([0, 1]);
      expect(() => ng.diag(counted(1, 1, 1))).toThrow(/^diag: needs a vector or a matrix, got/);
      expect(ng.eye(2, 3, { device, dtype: 'int32' }).toArray()).toEqual([
        [1, 0, 0],
        [0, 1, 0],
      ]);
      expect(ng.eye(0, undefined, { device }).shape).toEqual([0, 0]);
      const [a, b] = ng.meshgrid([counted(2), counted(3)]) as [ng.Tensor, ng.Tensor];
      expect(a.toArray()).toEqual([
        [0, 0, 0],
        [1, 1, 1],
      ]);
      expect(b.toArray()).toEqual([
        [0, 1, 2],
        [0, 1, 2],
      ]);
      const [c] = ng.meshgrid([counted(2), counted(3)], 'xy') as [ng.Tensor];
      expect(c.toArray()).toEqual([
        [0, 1],
        [0, 1],
        [0, 1],
      ]);
      expect(() => ng.meshgrid([counted(1, 1)])).toThrow(/^meshgrid: needs vectors, got/);
    });
  });

  it('repeatInterleave takes a number for each element', () => {
    ng.scope(() => {
      const x = ng.tensor([1, 2, 3], { device }).requireGrad();
      const y = x.repeatInterleave([2, 0, 3], 0);
      expect(y.toArray()).toEqual([1, 1, 3, 3, 3]);
      y.sum().backward();
      expect(x.grad?.toArray()).toEqual([2, 0, 3]);
      expect(x.repeatInterleave(0, 0).shape).toEqual([0]);
    });
  });

  it('takes part in captured steps, with its gradients', async () => {
    const index = ng.tensor([2n, 0n, 2n], { device });
    const x = ng.tensor([1, 2, 3], { device }).requireGrad();
    const step = ng.capture((weights: ng.Tensor) => {
      x.zeroGrad();
      const padded = ng.pad(x, [1, 2], 'reflect').roll(1, 0);
      const chosen = x.gather(0, index).scatterAdd(0, index, x);
      const all = ng.cat([padded, chosen, x.tile([2]).flip(0)]);
      all.mul(weights).sum().backward();
      return (x.grad as ng.Tensor).clone();
    });
    for (let i = 1; i <= 4; ++i) {
      const weights = ng.arange(0, 15, 1, { device, dtype: 'float32' }).mul(i);
      const gradient = await step(weights);
      expect(gradient.toArray()).toEqual([42 * i, 38 * i, 47 * i]);
    }
    step.dispose();
  });

  it('slices backwards by the rules of Python', () => {
    ng.scope(() => {
      const x = counted(6);
      const list = (...args: [number, number?, number?]): unknown => x.slice(0, ...args).toArray();
      expect(list(4, 1, -1)).toEqual([4, 3, 2]);
      expect(list(4, undefined, -2)).toEqual([4, 2, 0]);
      expect(list(-1, -4, -1)).toEqual([5, 4, 3]);
      expect(list(100, 3, -1)).toEqual([5, 4]);
      expect(list(2, 4, -1)).toEqual([]);
      expect(list(-100, undefined, -1)).toEqual([]);
    });
  });
});

it('repeat wants a number for each axis', () => {
  expect(() => ng.ones([2, 3]).repeat([2])).toThrow(
    'repeat: needs a number for each of 2 axes, got [2]',
  );
});
