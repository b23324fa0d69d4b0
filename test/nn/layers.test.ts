/** Layers and functions of several inputs against PyTorch's numbers (test/vectors/layers.json). */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { nn, type Tensor } from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { type Packed, readVectors, uniformOf, unpacked } from '../support/vectors.js';

interface Input {
  seed: number;
  shape: number[];
}

interface Options extends nn.EmbeddingBagOptions {
  axis: number;
  repeats: number[];
  embedDim: number;
  numHeads: number;
}

interface Case {
  kind: string;
  options: Options;
  inputs: Input[];
  extra: Packed[];
  doutSeed: number;
  outputs: Packed[];
  gradients: Packed[];
}

interface Functional {
  inputs: [Input, Input];
  v: Input;
  directions: [Input, Input];
  jacobian: Packed[];
  hessian: Packed[][];
  vjp: Packed[];
  jvp: Packed;
}

const vectors = readVectors<Case>('layers') as unknown as {
  torch: string;
  cases: Case[];
  functional: Functional;
};

/** What the case is about; parameters are replaced by inputs, whose gradients are then compared. */
function run(entry: Case, x: Tensor[], extra: Tensor[]): Tensor[] {
  const { options } = entry;
  const [first, second] = x as [Tensor, Tensor];
  const index = extra[0] as Tensor;
  switch (entry.kind) {
    case 'cummax':
      return ng.cummax(first, options.axis);
    case 'cummin':
      return first.cummin(options.axis);
    case 'takeAlongDim':
      return [first.takeAlongDim(index, options.axis)];
    case 'repeat':
      return [first.repeat(options.repeats)];
    case 'layerNorm':
      return [ng.layerNorm(first, 6, { bias: second })];
    case 'groupNorm':
      return [ng.groupNorm(first, 2, { bias: second })];
    case 'batchNorm':
      return [ng.batchNorm(first, { bias: second, training: true })];
    case 'embeddingBag': {
      const bag = new nn.EmbeddingBag(5, 3, options);
      bag.weight = first;
      return [bag.forward(index, { offsets: extra[1] ?? null, perSampleWeights: second ?? null })];
    }
    case 'attention': {
      const [query, key, keyPaddingMask, attnMask, ...parameters] = x as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        ...Tensor[],
      ];
      const attention = new nn.MultiheadAttention(options.embedDim, options.numHeads, {
        batchFirst: true,
      });
      [attention.in_proj_weight, attention.in_proj_bias] = parameters as [Tensor, Tensor];
      [, , attention.out_proj.weight, attention.out_proj.bias] = parameters as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const masks = { keyPaddingMask, attnMask };
      const [out, weights] = attention.forward(query, key, key, { ...masks, needWeights: true });
      const [alone] = attention.forward(query, key, key, masks);
      expectClose(valuesOf(alone.detach()), valuesOf(out.detach()), 1e-5, 'without weights');
      return [out, weights as Tensor];
    }
    default:
      throw new Error(`no case ${entry.kind}`);
  }
}

const named = vectors.cases.map((entry, i) => [`${entry.kind} (case ${i})`, entry] as const);

describe.each(devices)(`PyTorch ${vectors.torch} and layers on $name`, (device) => {
  describe.each(['float32', 'float64'] as const)('in %s', (dtype) => {
    const within = dtype === 'float32' ? 1e-5 : 1e-10;
    const draw = ({ seed, shape }: Input): Tensor => uniformOf(seed, shape).to(dtype, device);

    it.each(named)('%s', (_, entry) => {
      ng.scope(() => {
        const leaves = entry.inputs.map((input) => draw(input).detach().requireGrad());
        const extra = entry.extra.map(({ shape, values }) =>
          ng.tensor(values.map(BigInt), shape, { device }),
        );
        const outputs = run(entry, leaves, extra);
        outputs.forEach((output, i) => {
          const expected = unpacked(entry.outputs[i] as Packed);
          expectClose(valuesOf(output.detach()), expected, within, `output ${i}`);
        });
        const [output] = outputs as [Tensor];
        output.backward(draw({ seed: entry.doutSeed, shape: [...output.shape] }));
        leaves.forEach((leaf, i) => {
          const expected = unpacked(entry.gradients[i] as Packed);
          expectClose(valuesOf(leaf.grad as Tensor), expected, within, `gradient ${i}`);
        });
      });
    });

    it('jacobian, hessian, vjp and jvp', () => {
      ng.scope(() => {
        const wanted = vectors.functional;
        const inputs = wanted.inputs.map(draw);
        const f: ng.TensorFunction = (...[a, b]) =>
          ng.stack([
            (a as Tensor).mul(b as Tensor).sum(),
            (a as Tensor)
              .exp()
              .mul(b as Tensor)
              .sum(),
          ]);
        const g: ng.TensorFunction = (...[a, b]) =>
          (a as Tensor)
            .square()
            .mul((b as Tensor).pow(3))
            .sum();
        const check = (found: Tensor, expected: Packed, what: string): void =>
          expectClose(valuesOf(found.detach()), unpacked(expected), within, what);
        ng.jacobian(f, inputs).forEach((m, i) => {
          check(m, wanted.jacobian[i] as Packed, `jacobian ${i}`);
        });
        ng.hessian(g, inputs).forEach((row, i) => {
          row.forEach((m, j) => {
            check(m, wanted.hessian[i]?.[j] as Packed, `hessian ${i} ${j}`);
          });
        });
        const [value, products] = ng.vjp(f, inputs, draw(wanted.v));
        expectClose(valuesOf(value), valuesOf(f(...inputs)), 0, 'value');
        products.forEach((m, i) => {
          check(m, wanted.vjp[i] as Packed, `vjp ${i}`);
        });
        check(ng.jvp(f, inputs, wanted.directions.map(draw))[1], wanted.jvp, 'jvp');
      });
    });
  });
});

describe('functions of functions', () => {
  it('can be differentiated in their turn where asked', () => {
    ng.scope(() => {
      const x = ng.tensor([1, 2, 3], { requiresGrad: true });
      const cube: ng.TensorFunction = (...[a]) => (a as Tensor).pow(3).sum();
      const [gradient] = ng.jacobian(cube, [x], { createGraph: true }) as [Tensor];
      expect(gradient.toArray()).toEqual([3, 12, 27]);
      gradient.sum().backward();
      expect(x.grad?.toArray()).toEqual([6, 12, 18]);
      expect(ng.jacobian(cube, [x])[0]?.requiresGrad).toBe(false);
    });
  });

  it('give zeros for what does not count, and take empty results', () => {
    ng.scope(() => {
      const [x, y] = [ng.tensor([1, 2]), ng.tensor([3])];
      const alone: ng.TensorFunction = (...[a]) => (a as Tensor).sum();
      expect(ng.jacobian(alone, [x, y])[1]?.toArray()).toEqual([0]);
      expect(ng.hessian(alone, [x])[0]?.[0]?.toArray()).toEqual([
        [0, 0],
        [0, 0],
      ]);
      expect(ng.jacobian(() => ng.ones([2]), [y])[0]?.toArray()).toEqual([[0], [0]]);
      expect(ng.jacobian((...[a]) => (a as Tensor).slice(0, 0, 0), [x])[0]?.shape).toEqual([0, 2]);
      expect(ng.jvp(() => ng.ones([2]), [y], [y])[1].toArray()).toEqual([0, 0]);
    });
  });

  it('refuse what does not fit', () => {
    ng.scope(() => {
      const x = ng.tensor([1, 2]);
      const id: ng.TensorFunction = (...[a]) => a as Tensor;
      expect(() => ng.hessian(id, new Array(1))).toThrow('hessian: each input must be a tensor');
      expect(() => ng.hessian(id, [x])).toThrow('hessian: fn must return one element, got [2]');
      expect(() => ng.vjp(id, [x], ng.ones([3]))).toThrow(
        'vjp: v must have the shape [2], got [3]',
      );
      expect(() => ng.jvp(id, [x], [])).toThrow('jvp: v must be an array of a tensor per input');
      expect(() => ng.jacobian(id, [])).toThrow(
        'jacobian: inputs must be an array of at least one tensor, got []',
      );
      expect(() => ng.jacobian(3 as never, [x])).toThrow('jacobian: fn must be a function, got 3');
    });
  });
});
