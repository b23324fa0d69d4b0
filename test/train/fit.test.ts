/** `fit` beside loops written by hand, its sources of data, weights, aborts and errors. */
import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import {
  crossEntropy,
  DataLoader,
  type Device,
  Generator,
  layers,
  manualSeed,
  memory,
  nn,
  optim,
  scope,
  sequential,
  type Tensor,
  TensorDataset,
  tensor,
  trainer,
  uniform,
} from '../../lib/index.js';
import { devices } from '../support/devices.js';

/** Text that a run printed. */
class Output extends Writable {
  text = '';
  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** 44 points of three classes. */
function points(device: Device): [Tensor, Tensor] {
  const x = uniform([44, 4], -1, 1, { generator: new Generator(3), device });
  const y = x.slice(1, 0, 3).argmax(1);
  return [x, y];
}

function net(device: Device): nn.Sequential {
  manualSeed(5);
  const place = { device };
  return new nn.Sequential(new nn.Linear(4, 8, place), new nn.ReLU(), new nn.Linear(8, 3, place));
}

const bits = (model: nn.Module): string =>
  [...model.parameters()].map((p) => Buffer.from(p.data().buffer).toString('hex')).join();
const logits = { name: 'sparseCategoricalCrossentropy', fromLogits: true } as const;
const quiet = { verbose: 0 } as const;

describe.each(devices)('fit on %s', (device) => {
  it.each([true, false])(
    'equals a loop written by hand to the bit (captured: %s)',
    async (capture) => {
      const [x, y] = points(device);
      const own = net(device);
      const optimizer = new optim.Adam(own.parameters(), { lr: 0.01 });
      const loader = new DataLoader(new TensorDataset(x, y), {
        batchSize: 8,
        shuffle: true,
        seed: 4,
      });
      const losses: number[] = [];
      for (let epoch = 0; epoch < 3; ++epoch) {
        let total = 0;
        for await (const [bx, by] of loader) {
          optimizer.zeroGrad();
          const loss = crossEntropy(own.forward(bx), by);
          loss.backward();
          optimizer.step();
          total += (loss.item() as number) * (by.shape[0] as number);
        }
        losses.push(total / 44);
      }

      const model = net(device);
      const fitted = trainer(model).compile({
        optimizer: (p) => new optim.Adam(p, { lr: 0.01 }),
        loss: logits,
        metrics: ['accuracy'],
        capture,
      });
      const { history, epoch } = await fitted.fit(x, y, {
        ...quiet,
        batchSize: 8,
        epochs: 3,
        seed: 4,
      });
      expect(bits(model)).toBe(bits(own));
      expect(epoch).toEqual([0, 1, 2]);
      expect(history.loss).toEqual(losses);
      expect(history.accuracy).toHaveLength(3);
    },
  );
});
