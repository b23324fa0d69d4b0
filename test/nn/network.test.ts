/** Ten losses of small networks against PyTorch's, from the same weights and data. */
import { describe, expect, it } from 'vitest';
import { nn, optim, scope, type Tensor, tensor } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { mixed, readVectors, uniformOf } from '../support/vectors.js';

interface Run {
  losses: number[];
  /** How far each parameter is from where it began. */
  moved: number[];
}
interface Case {
  sizes: number[];
  batch: number;
  float32: Run;
  float64: Run;
}

const { cases } = readVectors<Case>('networks');

function relative(actual: number, expected: number): number {
  return Math.abs(actual - expected) / Math.abs(expected);
}

describe.each(devices)('networks on $name', (device) => {
  // The whole network of 784 inputs is more than an emulated device can do in a test's time.
  const feasible = cases.filter(({ sizes }) => device.type !== 'emulated' || sizes[0] !== 784);

  for (const { sizes, batch, ...runs } of feasible) {
    it.each(['float32', 'float64'] as const)(`${sizes.join('-')} in %s`, (dtype) => {
      const { losses, moved } = runs[dtype];
      const within = dtype === 'float32' ? 1e-5 : 1e-10;
      scope(() => {
        const layers: nn.Layer[] = [];
        for (let i = 0; i + 1 < sizes.length; ++i) {
          const [inputs, outputs] = [sizes[i] as number, sizes[i + 1] as number];
          const layer = new nn.Linear(inputs, outputs, { dtype, device });
          const bound = 1 / Math.sqrt(inputs);
          layer.loadStateDict(
            new Map([
              ['weight', uniformOf(1000 + 2 * i, [outputs, inputs], -bound, bound)],
              ['bias', uniformOf(1001 + 2 * i, [outputs], -bound, bound)],
            ]),
          );
          layers.push(layer, new nn.ReLU());
        }
        const model = new nn.Sequential(...layers.slice(0, -1));
        const initial = [...model.parameters()].map((p) => p.detach().clone());
        const optimizer = new optim.SGD(model.parameters(), { lr: 0.001, momentum: 0.9 });
        const criterion = new nn.CrossEntropyLoss();
        losses.forEach((expected, step) => {
          const x = uniformOf(2000 + step, [batch, sizes[0] as number], 0, 1).to(dtype, device);
          const labels = Array.from(mixed(3000 + step, batch), (u) =>
            BigInt(Math.floor(u ** 3 * (sizes.at(-1) as number))),
          );
          optimizer.zeroGrad();
          const loss = criterion.forward(model.forward(x), tensor(labels, { device }));
          loss.backward();
          optimizer.step();
          expect(relative(Number(loss.item()), expected), `loss ${step}`).toBeLessThan(within);
        });
        [...model.parameters()].forEach((p, i) => {
          const distance = p
            .detach()
            .sub(initial[i] as Tensor)
            .to('float64')
            .square()
            .sum()
            .sqrt();
          // A difference of nearly equal weights keeps fewer digits.
          const bound = dtype === 'float32' ? 1e-4 : 1e-9;
          expect(
            relative(Number(distance.item()), moved[i] as number),
            `parameter ${i}`,
          ).toBeLessThan(bound);
        });
      });
    });
  }
});
