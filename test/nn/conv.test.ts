/** Convolution, pooling and resizing layers; ten losses of a small CNN against PyTorch's. */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { models, nn, optim, scope, type Tensor, tensor } from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { nd } from '../support/nd.js';
import { readVectors, uniformOf } from '../support/vectors.js';

const [losses] = readVectors<Record<'float32' | 'float64', number[]>>('cnn').cases;
const fanIns = [27, 27, 36, 36, 24, 24, 10, 10];

function smallCnn(dtype: ng.DType, device: ng.Device): nn.Sequential {
  const model = models.cnn({
    input: [3, 16, 14],
    channels: [4, 6],
    hidden: 10,
    outputs: 3,
    dtype,
    device,
  });
  for (const [i, parameter] of [...model.parameters()].entries()) {
    const bound = 1 / Math.sqrt(fanIns[i] as number);
    parameter.copyFrom(uniformOf(1000 + i, parameter.shape, -bound, bound).to(dtype, device));
  }
  return model;
}

function batchOf(step: number, dtype: ng.DType, device: ng.Device): [Tensor, Tensor] {
  const x = uniformOf(2000 + step, [5, 3, 16, 14], 0, 1).to(dtype, device);
  const labels = [step % 3, 1, 2, 0, (step + 1) % 3];
  return [x, tensor(labels.map(BigInt), { device })];
}

describe.each(devices)('a CNN on $name', (device) => {
  it.each(['float32', 'float64'] as const)('loses as PyTorch does in %s', (dtype) => {
    const within = dtype === 'float32' ? 1e-5 : 1e-10;
    scope(() => {
      const model = smallCnn(dtype, device);
      const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
      losses?.[dtype].forEach((expected, step) => {
        const [x, y] = batchOf(step, dtype, device);
        optimizer.zeroGrad();
        const loss = ng.crossEntropy(model.forward(x), y);
        loss.backward();
        optimizer.step();
        expect(Math.abs(Number(loss.item()) / expected - 1), `loss ${step}`).toBeLessThan(within);
      });
    });
  });

  it('trains in a captured step as in an eager one', async () => {
    const run = async (captured: boolean): Promise<number[]> => {
      const model = smallCnn('float32', device);
      const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
      const eager = (x: Tensor, y: Tensor): Tensor => {
        optimizer.zeroGrad();
        const loss = ng.crossEntropy(model.forward(x), y);
        loss.backward();
        optimizer.step();
        return loss;
      };
      const step = captured ? ng.capture(eager) : null;
      const found: number[] = [];
      for (const i of ng.steps(4)) {
        const [x, y] = batchOf(i, 'float32', device);
        found.push(Number((step ? await step(x, y) : eager(x, y)).item()));
      }
      step?.dispose();
      return found;
    };
    expect(await run(true)).toEqual(await run(false));
  });

  it('gives the same with ReLU after pooling as before it', () => {
    scope(() => {
      const conv = new nn.Conv2d(2, 3, 3, { device, padding: 1 });
      const model = new nn.Sequential(conv, new nn.ReLU(), new nn.MaxPool2d(2));
      const run = (forward: (x: Tensor) => Tensor): Tensor[] => {
        conv.zeroGrad();
        const x = uniformOf(1, [2, 2, 7, 6]).to('float32', device).detach().requireGrad();
        const y = forward(x);
        y.square().sum().backward();
        return [y.detach(), x.grad as Tensor, (conv.weight.grad as Tensor).clone()];
      };
      const apart = run((x) => ng.maxPool2d(conv.forward(x).relu(), 2));
      run((x) => model.forward(x)).forEach((found, i) => {
        expectClose(valuesOf(found), valuesOf(apart[i] as Tensor), 1e-6, `result ${i}`);
      });
    });
  });
});

describe('convolution layers', () => {
  it('start within the bounds of PyTorch', () => {
    for (const [layer, fan] of [
      [new nn.Conv2d(6, 8, [3, 2], { groups: 2 }), 18],
      [new nn.Conv1d(6, 8, 5), 30],
      [new nn.ConvTranspose2d(6, 8, 3, { groups: 2 }), 36],
      [new nn.ConvTranspose1d(6, 8, 4), 32],
    ] as const) {
      const bound = 1 / Math.sqrt(fan);
      for (const parameter of layer.parameters()) {
        const values = [...parameter.detach().abs().data()] as number[];
        const largest = Math.max(...values);
        expect(largest).toBeLessThanOrEqual(bound * (1 + 1e-6));
        expect(largest).toBeGreaterThan(bound * 0.5);
      }
    }
  });

  it('have shapes, names and text', () => {
    const layer = new nn.Conv2d(6, 8, [3, 2], { groups: 2, bias: false });
    expect(layer.weight.shape).toEqual([8, 3, 3, 2]);
    expect(layer.bias).toBeNull();
    expect(String(layer)).toBe('Conv2d(6 → 8, 3×2, no bias)');
    expect(new nn.ConvTranspose2d(6, 8, 3).weight.shape).toEqual([6, 8, 3, 3]);
    expect([...new nn.Conv1d(2, 3, 4).stateDict().keys()]).toEqual(['weight', 'bias']);
  });

  it('run with their options', () => {
    scope(() => {
      const x = ng.zeros([2, 4, 9, 8]);
      const options = { stride: 2, padding: 1, dilation: 2, groups: 2 };
      expect(new nn.Conv2d(4, 6, 3, options).forward(x).shape).toEqual([2, 6, 4, 3]);
      expect(new nn.Conv2d(4, 6, 3, { padding: 'same' }).forwardRelu(x).shape).toEqual([
        2, 6, 9, 8,
      ]);
      const wide = { stride: 2, padding: 1, outputPadding: 1 };
      expect(new nn.ConvTranspose2d(4, 6, 3, wide).forward(x).shape).toEqual([2, 6, 18, 16]);
      const row = ng.zeros([2, 4, 9]);
      expect(new nn.Conv1d(4, 6, 3, { stride: 2 }).forward(row).shape).toEqual([2, 6, 4]);
      expect(new nn.Conv1d(4, 6, 3).forwardRelu(row).shape).toEqual([2, 6, 7]);
      expect(new nn.ConvTranspose1d(4, 6, 3, wide).forward(row).shape).toEqual([2, 6, 18]);
      expect(new nn.MaxPool2d([3, 2], { padding: 1 }).forward(x).shape).toEqual([2, 4, 3, 5]);
      expect(new nn.MaxPool1d(2, { ceilMode: true }).forward(row).shape).toEqual([2, 4, 5]);
      expect(new nn.AvgPool2d(2, { stride: 3 }).forward(x).shape).toEqual([2, 4, 3, 3]);
      expect(new nn.AvgPool1d(3).forward(row).shape).toEqual([2, 4, 3]);
      expect(new nn.AdaptiveAvgPool2d([1, null]).forward(x).shape).toEqual([2, 4, 1, 8]);
      expect(new nn.AdaptiveMaxPool2d(3).forward(x).shape).toEqual([2, 4, 3, 3]);
      expect(new nn.Unflatten(1, [2, -1]).forward(row).shape).toEqual([2, 2, 2, 9]);
      expect(new nn.Unflatten(-1, [3, 3]).forward(row).shape).toEqual([2, 4, 3, 3]);
      expect(new nn.Upsample({ scaleFactor: 2 }).forward(x).shape).toEqual([2, 4, 18, 16]);
    });
  });

  it('refuse what they cannot be', () => {
    expect(() => new nn.Conv2d(4, 6, 3, { groups: 3 })).toThrow(
      'Conv2d: groups must divide both channels, got 4, 6 and 3',
    );
    expect(() => new nn.Conv2d(4, 6, 0)).toThrow(/^Conv2d: kernelSize must be an integer/);
    expect(() => new nn.Conv2d(4, 6, 3, { padding: 'some' as never })).toThrow(
      'Conv2d: padding must be one of same, sameUpper, valid, got "some"',
    );
    expect(() => new nn.MaxPool2d([2] as never)).toThrow(
      'MaxPool2d: kernelSize must be a number or two, got [2]',
    );
    const pooled = new nn.Sequential(new nn.Conv2d(4, 6, 3), new nn.ReLU(), new nn.MaxPool2d(2));
    expect(() => scope(() => pooled.forward(ng.zeros([4, 3, 5])))).toThrow(
      'conv2d: maxima of 2 by 2 need as large a result, got [1,3]',
    );
    expect(scope(() => pooled.forward(ng.zeros([0, 4, 4, 5])).shape)).toEqual([0, 6, 1, 1]);
    const uneven = new nn.MaxPool2d(2, { stride: [2] as never });
    const before = [new nn.Conv2d(4, 6, 3), new nn.ReLU()];
    expect(() =>
      scope(() => new nn.Sequential(...before, uneven).forward(ng.zeros([4, 6, 6]))),
    ).toThrow('maxPool2d: stride must be a number or two, got [2]');
    expect(() => new nn.Upsample({})).toThrow(
      'Upsample: needs size or scaleFactor, got undefined and undefined',
    );
    expect(() => new nn.Unflatten(3, [1]).forward(ng.zeros([2, 2]))).toThrow(
      'Unflatten: axis must be an integer in [-2,1], got 3',
    );
    expect(() => models.cnn({ input: [3, 16, 16] })).toThrow(
      'cnn: the input must be large enough for 3 blocks, got [3,16,16]',
    );
  });

  it('make the network of the cats and dogs exercise', () => {
    const shapes = [...models.cnn().parameters()].map(({ shape }) => shape);
    expect(shapes).toEqual([
      ...[[32, 3, 3, 3], [32], [64, 32, 3, 3], [64], [128, 64, 3, 3], [128]],
      ...[[512, 36992], [512], [1, 512], [1]],
    ]);
  });
});

interface Resized {
  options: Record<string, unknown>;
  shape: number[];
  output: { shape: number[]; values: number[] };
  gradient: { shape: number[]; values: number[] };
}
const resized = readVectors<Resized>('upsample').cases;

describe.each(devices)('upsample on $name', (device) => {
  it.each(resized.map((entry) => [JSON.stringify(entry.options), entry] as const))(
    'is what PyTorch interpolates: %s',
    (_, { options, shape, output, gradient }) => {
      scope(() => {
        const x = uniformOf(1, shape).to('float32', device).detach().requireGrad();
        const y = ng.upsample(x, options);
        expectClose(valuesOf(y.detach()), nd(output.shape, output.values), 1e-5, 'output');
        y.backward(uniformOf(2, y.shape).to('float32', device));
        const dx = valuesOf(x.grad as Tensor);
        expectClose(dx, nd(gradient.shape, gradient.values), 1e-5, 'gradient');
      });
    },
  );

  it('refuses what gives no pixels', () => {
    scope(() => {
      const x = ng.zeros([1, 1, 2, 2], { device });
      expect(() => ng.upsample(x, { scaleFactor: 0.1 })).toThrow(
        'upsample: scaleFactor must leave a pixel or more, got 0.1',
      );
      expect(() => ng.upsample(x, { size: 2, scaleFactor: 2 })).toThrow(
        'upsample: needs size or scaleFactor, got 2 and 2',
      );
    });
  });
});
