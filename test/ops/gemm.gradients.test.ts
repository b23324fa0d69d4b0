/** Gradients of `linear` with a bias, which one product makes, at sizes beside and beyond its tiles. */
import { afterEach, describe, it } from 'vitest';
import {
  capture,
  type Device,
  type DType,
  linear,
  type MatmulPrecision,
  scope,
  setMatmulPrecision,
  type Tensor,
} from '../../lib/index.js';
import { expectClose, expectSameBits, valuesOf } from '../support/compare.js';
import { cpu, devices, hopper } from '../support/devices.js';
import { floatingDTypes, toleranceOf } from '../support/tolerance.js';
import { uniformOf } from '../support/vectors.js';

/** Rows, inputs and outputs. */
type Sizes = readonly [number, number, number];

class Layer {
  readonly weight: Tensor;
  readonly bias: Tensor;
  private readonly x: Tensor;
  private readonly dy: Tensor;

  constructor([rows, inputs, outputs]: Sizes, dtype: DType, rounded: DType, device: Device) {
    const place = (seed: number, shape: number[]): Tensor =>
      uniformOf(seed, shape).to(rounded).to(dtype).to(device).detach();
    this.weight = place(1, [outputs, inputs]).requireGrad();
    this.bias = place(2, [outputs]).requireGrad();
    this.x = place(3, [rows, inputs]);
    this.dy = place(4, [rows, outputs]);
  }

  get gradients(): [Tensor, Tensor] {
    return [this.weight.grad as Tensor, this.bias.grad as Tensor];
  }
  get operands(): [Tensor, Tensor] {
    return [this.x, this.dy];
  }
  clear(): void {
    this.weight.zeroGrad();
    this.bias.zeroGrad();
  }
  backward(x = this.x, dy = this.dy): void {
    linear(x, this.weight, this.bias).backward(dy);
  }
}

const cases: readonly Sizes[] = [
  [70, 72, 136],
  [300, 16, 40], // few tiles and a long sum
  [33, 7, 9],
  [1, 8, 8],
  [5, 1, 1],
  [0, 8, 8],
  [9, 0, 8],
];

describe.each([...devices, ...hopper])('the gradients of linear on $name', (device) => {
  afterEach(() => setMatmulPrecision('highest'));

  const check = (sizes: Sizes, dtype: DType, tolerance: number): void => {
    scope(() => {
      const exact = new Layer(sizes, 'float64', dtype, cpu);
      exact.backward();
      const layer = new Layer(sizes, dtype, dtype, device);
      const agrees = (times: number, what: string): void => {
        exact.gradients.forEach((expected, i) => {
          const found = layer.gradients[i] as Tensor;
          const name = `${what} ${i === 0 ? 'weight' : 'bias'}`;
          expectClose(valuesOf(found), valuesOf(expected.mul(times)), tolerance, name);
        });
      };
      layer.backward();
      agrees(1, 'a first gradient of the');
      layer.backward();
      agrees(2, 'a sum of gradients of the');
      layer.clear();
      layer.backward();
      agrees(1, 'a gradient written over that of the');
      layer.bias.zeroGrad();
      layer.backward();
      expectClose(
        valuesOf(layer.bias.grad as Tensor),
        valuesOf(exact.bias.grad as Tensor),
        tolerance,
        'a bias whose gradient alone was cleared',
      );
    });
  };

  // Both emulated devices have the same kernels of float64 and of whole float32.
  const again = hopper.includes(device);
  const dtypes = again ? (['bfloat16', 'float16'] as const) : floatingDTypes;
  const levels: readonly MatmulPrecision[] = device === cpu ? [] : ['high', 'medium'];
  for (const sizes of cases) {
    it.each(dtypes)(`agree at ${sizes} in %s`, (dtype) => {
      check(sizes, dtype, toleranceOf(dtype, sizes[0]));
    });
    it.each(levels)(`agree at ${sizes} in float32 of %s precision`, (level) => {
      setMatmulPrecision(level);
      const as = level === 'high' ? 'float16' : 'bfloat16';
      check(sizes, 'float32', 2 * toleranceOf(as, sizes[0]));
    });
  }

  it('are the same bits in a captured step', async () => {
    await scope(async () => {
      const eager = new Layer([70, 72, 136], 'float16', 'float16', device);
      for (let i = 0; i < 2; ++i) eager.backward();
      const layer = new Layer([70, 72, 136], 'float16', 'float16', device);
      const step = capture((x: Tensor, dy: Tensor) => {
        layer.clear();
        layer.backward(x, dy);
        layer.backward(x, dy);
      });
      for (let i = 0; i < 3; ++i) await step(...layer.operands);
      eager.gradients.forEach((expected, i) => {
        expectSameBits(layer.gradients[i] as Tensor, expected, i === 0 ? 'weight' : 'bias');
      });
      step.dispose();
    });
  });

  it.each(['weight', 'bias'] as const)('pass through a hook on the %s', (hooked) => {
    scope(() => {
      const layer = new Layer([9, 8, 16], 'float32', 'float32', device);
      layer.backward();
      const before = layer.gradients.map((x) => x.clone());
      layer.clear();
      layer[hooked].registerHook((gradient) => gradient.mul(2));
      layer.backward();
      (['weight', 'bias'] as const).forEach((name, i) => {
        const expected = (before[i] as Tensor).mul(name === hooked ? 2 : 1);
        const found = valuesOf(layer.gradients[i] as Tensor);
        expectClose(found, valuesOf(expected), toleranceOf('float32', 9), name);
      });
    });
  });
});
