import { describe, expect, it } from 'vitest';
import { getNumThreads, recurrent, scope, setNumThreads } from '../../lib/index.js';
import { cpu, devices, hopper } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { uniformOf } from '../support/vectors.js';
import { rnnRows } from './rows/rnn.js';

testOps(rnnRows, [...devices, ...hopper]);

describe('recurrent', () => {
  it('gives the same bits whatever the number of threads', () => {
    const before = getNumThreads();
    const run = (): Float32Array =>
      scope(() => {
        const [w, u] = [uniformOf(1, [160, 24]), uniformOf(2, [160, 40])];
        const weights = [w, u].map((weight) => weight.to('float32', cpu));
        const x = uniformOf(3, [5, 37, 24]).to('float32', cpu);
        const { hN } = recurrent('lstm', x, [weights]);
        return hN.data() as Float32Array;
      });
    try {
      setNumThreads(1);
      const alone = run();
      setNumThreads(3);
      expect(run()).toEqual(alone);
    } finally {
      setNumThreads(before);
    }
  });
});
