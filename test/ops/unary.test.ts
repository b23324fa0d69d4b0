import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { unaryRows } from './rows/unary.js';

testOps(unaryRows);

describe.each(devices)('relu on $name', (device) => {
  it('passes the gradient on where its input is NaN', () => {
    ng.scope(() => {
      const x = ng.tensor([Number.NaN, 1, 0, -1], { device }).requireGrad();
      ng.relu(x).sum().backward();
      expect([...(x.grad as ng.Tensor).data()]).toEqual([1, 1, 0, 0]);
    });
  });
});
