import { describe, expect, it } from 'vitest';
import { capture, nn, profile, scope, type Tensor } from '../../lib/index.js';
import { rotary } from '../../lib/ops/rotary.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { uniformOf } from '../support/vectors.js';
import { rotaryRows } from './rows/rotary.js';

testOps(rotaryRows);

describe.each(devices)('rotary on $name', (device) => {
  it.each(['float32', 'bfloat16'] as const)(
    'reads heads of a projection in place in %s',
    (dtype) => {
      scope(() => {
        const rope = new nn.RotaryPositions(9, 16, { device });
        const packed = uniformOf(1, [2, 5, 3, 2, 16], -1, 1).to(dtype, device);
        const heads = packed.select(2, 1).permute([0, 2, 1, 3]);
        const expected = rope.forward(heads.contiguous(), 4).toArray();
        expect(rope.forward(heads, 4).toArray()).toEqual(expected);
        // Rows that begin between the boundaries of vectors.
        const room = uniformOf(2, [2, 5, 19], -1, 1).to(dtype, device);
        const inner = room.slice(2, 1, 17);
        expect(rope.forward(inner).toArray()).toEqual(rope.forward(inner.contiguous()).toArray());
      });
    },
  );

  it('is one kernel each way, eagerly and in a captured step', async () => {
    const rope = new nn.RotaryPositions(6, 8, { device });
    const x = uniformOf(3, [2, 5, 8], -1, 1).to('float32', device).requireGrad();
    const turnBoth = (): void => rope.forward(x, 1).backward(x.detach());
    const run = profile(() => void scope(turnBoth));
    const kernels = run.summary().filter(({ kind }) => kind === 'kernel');
    expect(kernels.find(({ name }) => name === 'rotary')?.calls).toBe(2);
    // The first gradient of a leaf is copied.
    expect(kernels.reduce((n, { calls }) => n + calls, 0)).toBe(3);
    const expected = (x.grad as Tensor).toArray();
    const step = capture(() => {
      x.zeroGrad();
      turnBoth();
      return [x.sum()];
    });
    for (let i = 0; i < 3; ++i) await step();
    expect((x.grad as Tensor).toArray()).toEqual(expected);
    step.dispose();
  });

  it('refuses tables that do not fit', () => {
    scope(() => {
      const [x, table] = [uniformOf(1, [3, 4]).to(device), uniformOf(2, [3, 2]).to(device)];
      expect(() => rotary(x, table, table.slice(0, 0, 2))).toThrow(
        'RotaryPositions: the tables must be [length,width/2], got [3,2] and [2,2]',
      );
      for (const offset of [1, 4, -1]) {
        expect(() => rotary(x, table, table, offset)).toThrow(
          /^RotaryPositions: x must be \[\.\.\.,T,4\] with T up to [02], got \[3,4\]$/,
        );
      }
      expect(() => rotary(x.T, table, table)).toThrow('with T up to 3, got [4,3]');
    });
  });
});
