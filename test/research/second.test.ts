import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { grad, scope, type Tensor, tensor } from '../../lib/index.js';
import { packedAttention } from '../../lib/ops/attention.js';
import { conv2dMaxPool } from '../../lib/ops/conv.js';
import { devices } from '../support/devices.js';

const values = [0.31, 0.72, 1.13, 1.54, 0.95, 0.26];

/**
 * d/dx of Σ (df/dx + w)², by createGraph and by central differences of it; w shows what slopes of 0
 * would hide.
 */
function check(fn: (x: Tensor) => Tensor): void {
  const slope = (x: Tensor, createGraph: boolean): Tensor =>
    (grad(fn(x).sum(), [x], undefined, { createGraph }) as [Tensor])[0]
      .add(w([2, 3]))
      .square()
      .sum();
  scope(() => {
    const at = (list: number[]): Tensor =>
      tensor(Float64Array.from(list), [2, 3], { requiresGrad: true });
    const x = at(values);
    slope(x, true).backward();
    const h = 1e-5;
    values.forEach((_, i) => {
      const moved = (d: number): number =>
        Number(slope(at(values.map((v, j) => v + (i === j ? d : 0))), false).item());
      const expected = (moved(h) - moved(-h)) / (2 * h);
      const actual = Number((x.grad as Tensor).data()[i]);
      expect(Math.abs(actual - expected)).toBeLessThan(1e-5 * (1 + Math.abs(expected)));
    });
  });
}

const w = (shape: number[]): Tensor =>
  tensor(
    Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i + 1)),
    shape,
  );
/** Two zeros in the first row of what it is taken from, one in the second. */
const gone = tensor(Float64Array.of(0.31, 0, 1.13, 0, 0.95, 0), [2, 3]);
const target = (): Tensor => tensor([2n, 0n]);
const functions: Record<string, (x: Tensor) => Tensor> = {
  mul: (x) => x.mul(x).mul(x),
  div: (x) => ng.div(1, x).div(x.add(2)),
  pow: (x) => x.pow(3).add(ng.pow(2, x)).add(x.pow(x)),
  maximum: (x) => x.maximum(0.8).mul(x).mul(x),
  where: (x) => ng.where(x.gt(0.8), x.square(), x.exp()),
  mean: (x) => x.square().mean(0).square(),
  max: (x) => x.max(1).pow(3),
  prod: (x) => x.prod(1),
  prodOfZeros: (x) =>
    x
      .sub(gone)
      .prod(1)
      .mul(w([2])),
  prodAcross: (x) =>
    x
      .sub(gone)
      .prod(0)
      .mul(w([3])),
  views: (x) =>
    x.T.reshape([6])
      .slice(0, 1, 6, 2)
      .pow(3)
      .add(x.select(0, 1).mul(x.at(0))),
  expand: (x) => x.reshape([1, 6]).expand([4, 6]).pow(3),
  indexSelect: (x) => x.indexSelect(tensor([1n, 0n, 1n])).pow(3),
  matmul: (x) => x.matmul(x.T.tanh()).square(),
  vectors: (x) => x.select(0, 0).matmul(x.select(0, 1)).square(),
  linear: (x) => ng.linear(x, x.matmul(x.T).matmul(w([2, 3])), w([2])).square(),
  linearRelu: (x) =>
    ng
      .linear(x, w([4, 3]), null, { activation: 'relu' })
      .square()
      .mul(x.sum()),
  linearGelu: (x) =>
    ng.linear(x, x.square(), x.select(1, 0), { activation: 'gelu', residual: x.matmul(x.T) }),
  linearFrozen: (x) =>
    ng.linear(w([2, 3]), w([4, 3]), null, {
      activation: 'geluTanh',
      residual: w([2, 4]).mul(x.square().sum()),
    }),
  addmm: (x) => ng.addmm(x, x.square().matmul(x.T), x, { alpha: 0.5 }).square(),
  softmax: (x) => x.softmax().mul(w([2, 3])),
  logSoftmax: (x) => x.logSoftmax().mul(w([2, 3])),
  crossEntropy: (x) => ng.crossEntropy(x.mul(x), target()),
  crossEntropyImages: (x) =>
    ng.crossEntropy(x.square().reshape([1, 3, 2]), tensor([[2n, 0n]]), { ignoreIndex: 1 }),
  nll: (x) => ng.nn.nllLoss(x.square().logSoftmax().square(), target(), { weight: w([3]).abs() }),
  nllImages: (x) =>
    ng.nn
      .nllLoss(x.pow(3).reshape([1, 3, 2]), tensor([[2n, 0n]]), {
        ignoreIndex: 0,
        reduction: 'none',
      })
      .square(),
  soft: (x) => ng.crossEntropy(x.mul(x), target(), { labelSmoothing: 0.2, weight: w([3]).abs() }),
  shares: (x) => ng.crossEntropy(x.square(), x.mul(w([2, 3])).softmax(), { labelSmoothing: 0.1 }),
  mse: (x) => ng.nn.mseLoss(x.square(), x.mul(w([2, 3]))),
  l1: (x) => ng.nn.l1Loss(x.square(), x.mul(w([2, 3]))),
  smoothL1: (x) => ng.nn.smoothL1Loss(x.pow(3), x.mul(w([2, 3])), { beta: 0.7 }),
  huber: (x) => ng.nn.huberLoss(x.pow(3), x.mul(w([2, 3])), { delta: 0.7 }),
  bce: (x) => ng.nn.binaryCrossEntropy(x.mul(0.5), x.square().mul(0.3)),
  bceLogits: (x) =>
    ng.nn.binaryCrossEntropyWithLogits(x.square(), x.mul(0.5), { posWeight: w([3]).abs() }),
  cumsum: (x) => x.cumsum(1).pow(3),
  cumprod: (x) => x.cumprod(1).mul(x.sub(1.13).cumprod(1)),
  cumprodOfZeros: (x) =>
    x
      .mul(x.sub(gone))
      .cumprod(1)
      .mul(w([2, 3])),
  cumprodAcross: (x) => x.sub(gone).cumprod(0).mul(x),
  cummax: (x) => x.cummax(1)[0].pow(3),
  pad: (x) => ng.pad(x, [1, -1, 2, 0]).pow(3),
  circular: (x) => ng.pad(ng.pad(x, [2, 1], 'circular'), [1, 1], 'reflect').pow(3),
  flips: (x) => x.flip(1).roll(1, 0).pow(3).mul(x),
  tile: (x) => x.tile([2, 2]).repeatInterleave(2, 0).pow(3),
  diagonal: (x) => x.pow(2).diag().pow(3).diag(),
  variance: (x) => x.square().var(1).square(),
  std: (x) => x.square().std(0, { correction: 0 }).mul(x.square().std()),
  sort: (x) => x.sort(1)[0].pow(3).cumsum(1).add(x.topk(2, 0)[0].pow(3)),
  median: (x) => x.median(1).pow(3),
  scatter: (x) =>
    x
      .pow(3)
      .scatter(1, tensor([[0n], [2n]]), x.square())
      .add(
        x.square().scatterAdd(
          1,
          tensor([
            [1n, 1n],
            [0n, 1n],
          ]),
          x.pow(3),
        ),
      ),
  dropout: (x) => ng.dropout(x.square(), 0.4, true, new ng.Generator(3)).square(),
  embedding: (x) => ng.embedding(x.square(), tensor([1n, 0n, 1n]), { paddingIdx: 0 }).pow(3),
  maxPool: (x) => ng.maxPool2d(x.square().reshape([1, 2, 3]), [1, 2], { stride: 1 }).pow(2),
  avgPool: (x) =>
    ng.avgPool2d(x.square().reshape([1, 2, 3]), 2, { padding: 1, countIncludePad: false }).pow(2),
  layerNorm: (x) =>
    ng.layerNorm(x.square(), 3, { weight: x.select(0, 0), bias: x.select(0, 1) }).pow(3),
  rmsNorm: (x) => ng.rmsNorm(x, 3, { weight: x.select(0, 0), eps: 0.1 }).pow(2),
  groupNorm: (x) =>
    ng
      .groupNorm(x.square().reshape([1, 2, 3]), 1, { weight: x.select(1, 0), bias: x.select(1, 1) })
      .pow(3),
  batchNorm: (x) =>
    ng.batchNorm(x.exp().reshape([2, 3, 1]), { training: true, weight: x.select(0, 0) }).pow(3),
  batchNormGiven: (x) =>
    ng
      .batchNorm(x, { runningMean: w([3]), runningVar: w([3]).abs(), weight: x.select(0, 0) })
      .pow(3),
  conv2d: (x) =>
    ng
      .conv2d(
        x.reshape([1, 2, 3]),
        x.mul(w([2, 3])).reshape([2, 1, 1, 3]),
        x.select(0, 0).slice(0, 0, 2),
        {
          padding: [1, 2],
          stride: [1, 2],
        },
      )
      .pow(2),
  convRelu: (x) =>
    ng.conv2d(x.square().reshape([1, 2, 3]), w([2, 1, 1, 2]), null, { relu: true }).pow(3),
  convMaxPool: (x) =>
    conv2dMaxPool(
      x.square().reshape([1, 2, 3]),
      x.mul(w([2, 3])).reshape([2, 1, 1, 3]),
      x.select(1, 0).square().add(1),
      { padding: [1, 1] },
    ).pow(2),
  convTranspose: (x) =>
    ng
      .convTranspose2d(x.reshape([1, 2, 3]), x.mul(w([2, 3])).reshape([1, 1, 2, 3]), null, {
        stride: 2,
        outputPadding: 1,
        padding: 1,
      })
      .pow(2),
  rotary: (x) =>
    new ng.nn.RotaryPositions(4, 2, { dtype: 'float64', base: 3 })
      .forward(x.square().reshape([3, 2]), 1)
      .pow(3),
  attention: (x) => {
    const q = x.reshape([1, 2, 3, 1]);
    const k = x
      .mul(w([2, 3]))
      .select(0, 0)
      .reshape([1, 1, 3, 1]);
    const lengths = ng.tensor([2], { dtype: 'int32', device: x.device });
    const options = { isCausal: true, dropout: 0.2, generator: new ng.Generator(5), lengths };
    return ng.scaledDotProductAttention(q, k, k.square(), options).square();
  },
  selfAttention: (x) =>
    packedAttention(
      x
        .mul(w([2, 3]))
        .reshape([1, 2, 3])
        .tile([1, 1, 2]),
      2,
      {},
    ).square(),
  cast: (x) =>
    x
      .mul(x)
      .to('float32')
      .to('float64')
      .mul(w([2, 3]))
      .mul(x.detach()),
};
/** Into where the function is defined, for those that are not everywhere above 0. */
const half = (x: Tensor): Tensor => x.mul(0.5);
const domains: Record<string, (x: Tensor) => Tensor> = {
  asin: half,
  acos: half,
  atanh: half,
  logit: half,
  acosh: (x) => x.add(1.5),
};
for (const name of Object.keys(ng.opTable)) {
  if (ng.opTable[name as 'relu'].family === 'unary' && name in ng) {
    const row = ng.opTable[name as 'relu'];
    if (typeof row.gradient === 'function') {
      const fn = (ng as unknown as Record<string, (t: Tensor) => Tensor>)[name] as typeof half;
      functions[name] = (x) => fn(domains[name]?.(x) ?? x).mul(x);
    }
  }
}

describe('second derivatives', () => {
  it.each(Object.keys(functions).filter((name) => name !== 'cast'))('of %s', (name) => {
    check(functions[name] as (x: Tensor) => Tensor);
  });

  it('are refused by ops that have none', () => {
    scope(() => {
      const x = tensor([1, 2], { requiresGrad: true });
      const y = ng.checkpoint((h: Tensor) => h.square(), x);
      expect(() => grad(y.sum(), [x], undefined, { createGraph: true })).toThrow(
        'grad: createGraph is not supported by checkpoint',
      );
      expect(() => y.sum().backward(undefined, { createGraph: true } as never)).toThrow(
        /^backward: unknown option createGraph; known: retainGraph/,
      );
    });
  });
});

describe.each(devices)('grad on $name', (device) => {
  it('trains on the norm of a gradient', () => {
    scope(() => {
      const weight = tensor([[2, -1]], { device, requiresGrad: true });
      const x = tensor([[1, 3]], { device, requiresGrad: true });
      const [dx] = grad(ng.linear(x, weight).square().sum(), [x], undefined, {
        createGraph: true,
      }) as [Tensor];
      // y = w·x; dx = 2y·w; |dx|² = 4y²|w|²
      dx.square().sum().backward();
      const y = -1;
      expect(weight.grad?.toArray()).toEqual([
        [8 * y * 5 * 1 + 8 * y * y * 2, 8 * y * 5 * 3 + 8 * y * y * -1],
      ]);
    });
  });

  it('penalizes the gradient of a convolutional critic', () => {
    scope(() => {
      const critic = new ng.nn.Sequential(
        new ng.nn.Conv2d(1, 2, 3, { padding: 1, device }),
        new ng.nn.BatchNorm2d(2, { device }),
        new ng.nn.ReLU(),
        new ng.nn.AvgPool2d(2),
        new ng.nn.Flatten(),
        new ng.nn.Linear(8, 1, { device }),
      );
      const x = ng.ones([2, 1, 4, 4], { device }).cumsum(3).requireGrad();
      const [dx] = grad(critic.forward(x).sum(), [x], undefined, { createGraph: true }) as [Tensor];
      dx.square().sum([1, 2, 3]).sqrt().sub(1).square().mean().backward();
      for (const [name, parameter] of critic.namedParameters()) {
        if (name.startsWith('0.weight')) {
          expect(Number((parameter.grad as Tensor).abs().max().item())).toBeGreaterThan(0);
        }
      }
    });
  });

  it('gives the gradients of computed tensors', () => {
    scope(() => {
      const x = tensor([1, 2], { device, requiresGrad: true });
      const h = x.mul(3);
      const [dh, dx] = grad(h.square().add(h).sum(), [h, x]) as [Tensor, Tensor];
      expect(dh.toArray()).toEqual([7, 13]);
      expect(dx.toArray()).toEqual([21, 39]);
      expect(x.grad).toBeNull();
    });
  });
});
