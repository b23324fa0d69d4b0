/** The same seed gives the same bits, run to run and for any number of threads. */
import { createHash } from 'node:crypto';
import { afterAll, describe, expect, it } from 'vitest';
import {
  crossEntropy,
  type Device,
  Generator,
  getNumThreads,
  indexAdd,
  manualSeed,
  matmul,
  nn,
  optim,
  randn,
  type Shape,
  scope,
  setNumThreads,
  softmax,
  type Tensor,
  tensor,
  uniform,
} from '../../lib/index.js';
import { bytesOf } from '../support/compare.js';
import { cpu, devices } from '../support/devices.js';

const threads = getNumThreads();
afterAll(() => setNumThreads(threads));

type Values = (shape: Shape, seed: number) => Tensor;

// Sizes that are cut into several chunks on the CPU; a tenth of that where it is emulated.
const kernels: [string, (make: Values, n: number) => Tensor[]][] = [
  [
    'elementwise',
    (make, n) => [
      make([n], 1).tanh(),
      make([n], 2)
        .exp()
        .add(make([n], 3)),
    ],
  ],
  [
    'reductions',
    (make, n) => {
      const x = make([n], 1);
      const rows = make([Math.ceil(n / 64), 64], 2);
      return [x.sum(), x.mean(), x.max(), rows.sum(0), rows.sum(1), rows.prod(1), rows.argmax(0)];
    },
  ],
  [
    'softmax',
    (make, n) => {
      const x = make([Math.ceil(n / 100), 100], 1).requireGrad();
      const y = softmax(x);
      y.backward(make(x.shape, 2));
      return [y, x.grad as Tensor];
    },
  ],
  [
    'products',
    (make, n) => {
      const side = Math.ceil(Math.sqrt(n));
      const a = make([side, side + 3], 1).requireGrad();
      const b = make([side + 3, side - 1], 2).requireGrad();
      const c = matmul(a, b);
      c.backward(make(c.shape, 3));
      return [c, a.grad as Tensor, b.grad as Tensor];
    },
  ],
  [
    'rows by index',
    (make, n) => {
      const src = make([Math.ceil(n / 8), 8], 1);
      const values = Array.from({ length: src.shape[0] as number }, (_, i) => BigInt((i * 7) % 13));
      const index = tensor(values, { device: src.device });
      return [indexAdd([13, 8], index, src), src.indexSelect(index)];
    },
  ],
  ['random', (make, n) => [make([n], 5)]],
];

/** Stands for the values' bits. */
function digest(x: Tensor): string {
  return createHash('sha256').update(bytesOf(x.detach())).digest('hex');
}

function run(device: Device, body: (make: Values, n: number) => Tensor[]): string[] {
  return scope(() => {
    const make: Values = (shape, seed) =>
      uniform(shape, -1, 1, { device, generator: new Generator(seed) });
    return body(make, device === cpu ? 100_000 : 6000).map(digest);
  });
}

/** A few training steps of a small network; digests of the losses and of every parameter. */
function train(device: Device): string[] {
  return scope(() => {
    manualSeed(11);
    const model = new nn.Sequential(new nn.Linear(50, 40), new nn.ReLU(), new nn.Linear(40, 10)).to(
      device,
    );
    const optimizer = new optim.Adam(model.parameters(), { lr: 0.01 });
    const results: string[] = [];
    for (let step = 0; step < 5; ++step) {
      const x = randn([64, 50], { device });
      const target = tensor(
        Array.from({ length: 64 }, (_, i) => BigInt((i + step) % 10)),
        {
          device,
        },
      );
      optimizer.zeroGrad();
      const loss = crossEntropy(model.forward(x), target);
      loss.backward();
      optimizer.step();
      results.push(digest(loss));
    }
    for (const parameter of model.parameters()) results.push(digest(parameter));
    return results;
  });
}

describe.each(devices)('bits on $name', (device) => {
  it.each(kernels)('of %s repeat, whatever the number of threads', (_, body) => {
    setNumThreads(1);
    const first = run(device, body);
    expect(run(device, body)).toEqual(first);
    for (const count of [2, 3]) {
      setNumThreads(count);
      expect(run(device, body)).toEqual(first);
      expect(run(device, body)).toEqual(first);
    }
  });

  it('of training repeat, whatever the number of threads', () => {
    setNumThreads(1);
    const first = train(device);
    setNumThreads(2);
    expect(train(device)).toEqual(first);
    expect(train(device)).toEqual(first);
  });
});
