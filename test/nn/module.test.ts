import { describe, expect, it } from 'vitest';
import {
  autocast,
  linear,
  nn,
  ones,
  relu,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/index.js';
import { expectSameBits } from '../support/compare.js';
import { devices } from '../support/devices.js';

class Block extends nn.Module {
  first = new nn.Linear(4, 3);
  scale = nn.parameter(ones([3]));
  seen = nn.buffer(zeros([1]));
  others = [new nn.Linear(3, 3, { bias: false }), new nn.Linear(3, 2)];
  note = 'no tensor';
  scratch = tensor([1]);

  forward(x: Tensor): Tensor {
    let y = this.first.forward(x).mul(this.scale);
    for (const layer of this.others) y = layer.forward(y);
    return y;
  }
}

const names = [
  'scale',
  'first.weight',
  'first.bias',
  'others.0.weight',
  'others.1.weight',
  'others.1.bias',
];

describe('Module', () => {
  it('finds parameters and buffers by dotted name, in order', () => {
    const block = new Block();
    expect([...block.namedParameters()].map(([name]) => name)).toEqual(names);
    expect([...block.parameters()].length).toBe(names.length);
    expect([...block.namedBuffers()].map(([name]) => name)).toEqual(['seen']);
    expect([...block.namedModules()].map(([name]) => name)).toEqual([
      '',
      'first',
      'others.0',
      'others.1',
    ]);
    expect([...block.namedChildren()].map(([name]) => name)).toEqual([
      'first',
      'others.0',
      'others.1',
    ]);
  });

  it('counts a shared tensor or module once', () => {
    const shared = new nn.Linear(2, 2);
    const model = new nn.Sequential(shared, new nn.ReLU(), shared);
    expect([...model.namedParameters()].map(([name]) => name)).toEqual(['0.weight', '0.bias']);
  });

  it('lets parameters live beyond scopes', () => {
    const block = scope(() => new Block());
    scope(() => expect(block.forward(ones([2, 4])).shape).toEqual([2, 2]));
    expect(block.scale.released).toBe(false);
    expect(block.seen.released).toBe(false);
  });

  it('switches training mode in every sub-module', () => {
    const block = new Block();
    expect(block.training).toBe(true);
    expect(block.eval()).toBe(block);
    expect([...block.namedModules()].map(([, m]) => m.training)).toEqual([
      false,
      false,
      false,
      false,
    ]);
    block.train();
    expect(block.others[1]?.training).toBe(true);
  });

  it('freezes, and forgets gradients', () => {
    scope(() => {
      const block = new Block();
      block
        .forward(ones([1, 4]))
        .sum()
        .backward();
      expect([...block.parameters()].every((p) => p.grad !== null)).toBe(true);
      block.zeroGrad();
      expect([...block.parameters()].every((p) => p.grad === null)).toBe(true);
      block.first.requireGrad(false);
      block
        .forward(ones([1, 4]))
        .sum()
        .backward();
      expect(block.first.weight.grad).toBeNull();
      expect(block.scale.grad).not.toBeNull();
      expect([...block.namedParameters()].length).toBe(names.length);
    });
  });

  it('copies a state in place', () => {
    const [a, b] = [new Block(), new Block()];
    const weight = b.first.weight;
    b.loadStateDict(a.stateDict());
    expect(b.first.weight).toBe(weight);
    const expected = a.stateDict();
    for (const [name, t] of b.stateDict()) {
      expectSameBits(t.detach(), (expected.get(name) as Tensor).detach(), name);
    }
  });

  it('casts a state to the dtype of its tensors', () => {
    const layer = new nn.Linear(2, 2, { bias: false });
    layer.loadStateDict(
      new Map([
        [
          'weight',
          tensor(
            [
              [1, 2],
              [3, 4],
            ],
            { dtype: 'float16' },
          ),
        ],
      ]),
    );
    expect(layer.weight.dtype).toBe('float32');
    expect(layer.weight.toArray()).toEqual([
      [1, 2],
      [3, 4],
    ]);
  });

  it('is strict about names unless told otherwise, and always about shapes', () => {
    const layer = new nn.Linear(2, 2);
    const state = new Map([
      ['weight', ones([2, 2])],
      ['other', ones([1])],
    ]);
    expect(() => layer.loadStateDict(state)).toThrow(
      'loadStateDict: names must match, missing ["bias"], unknown ["other"]',
    );
    layer.loadStateDict(state, { strict: false });
    expect(layer.weight.toArray()).toEqual([
      [1, 1],
      [1, 1],
    ]);
    const bias = layer.bias?.toArray();
    const wrong = new Map([
      ['weight', zeros([2, 2])],
      ['bias', ones([3])],
    ]);
    expect(() => layer.loadStateDict(wrong)).toThrow(
      'loadStateDict: bias must have the shape [2], got [3]',
    );
    expect(layer.weight.toArray()).toEqual([
      [1, 1],
      [1, 1],
    ]);
    expect(layer.bias?.toArray()).toEqual(bias);
    expect(() => layer.loadStateDict([] as never)).toThrow(/^loadStateDict: /);
  });

  it('prints its parts', () => {
    expect(String(new nn.Sequential(new nn.Linear(2, 3), new nn.ReLU()))).toBe(
      'Sequential(\n  (0): Linear(2 → 3)\n  (1): ReLU()\n)',
    );
    expect(String(new nn.Linear(2, 3, { bias: false }))).toBe('Linear(2 → 3, no bias)');
  });

  it('takes only leaves as parameters', () => {
    const x = ones([2], { requiresGrad: true });
    expect(() => nn.parameter(x.mul(2))).toThrow(/^parameter: must be a leaf tensor/);
    expect(() => nn.parameter(3 as never)).toThrow('parameter: must be a leaf tensor, got 3');
    expect(() => nn.buffer(3 as never)).toThrow(/^buffer: /);
    expect(() => nn.parameter(tensor([1n]))).toThrow(
      'requireGrad: needs a floating dtype, got int64',
    );
  });
});

describe.each(devices)('layers on $name', (device) => {
  it('move with all their tensors', () => {
    const block = new Block();
    const before = new Map([...block.stateDict()].map(([name, t]) => [name, t.toArray()]));
    block.first.weight.requireGrad(false);
    expect(block.to(device)).toBe(block);
    for (const [name, t] of block.stateDict()) {
      expect(t.device, name).toBe(device);
      expect(t.toArray(), name).toEqual(before.get(name));
    }
    expect([...block.namedParameters()].map(([name]) => name)).toEqual(names);
    expect(block.first.weight.requiresGrad).toBe(false);
    expect(block.scale.requiresGrad).toBe(true);
    scope(() => expect(block.forward(ones([2, 4], { device })).device).toBe(device));
  });

  it('Linear is x·Wᵀ + b', () => {
    scope(() => {
      const layer = new nn.Linear(3, 2, { device });
      expect([layer.weight.shape, layer.bias?.shape]).toEqual([[2, 3], [2]]);
      const x = ones([4, 3], { device });
      const expected = x.matmul(layer.weight.T).add(layer.bias as Tensor);
      const difference = layer.forward(x).sub(expected).abs().max().item();
      expect(difference).toBeLessThan(1e-6);
      expect(layer.forwardWith('relu', x).toArray()).toEqual(relu(layer.forward(x)).toArray());
      expect(new nn.Linear(3, 2, { device, bias: false }).bias).toBeNull();
      expect(new nn.Linear(3, 2, { device, dtype: 'float64' }).weight.dtype).toBe('float64');
    });
  });

  it('Sequential joins a GELU to the layer before, unless that has another forward', () => {
    scope(() => {
      const layer = new nn.Linear(3, 4, { device });
      const x = ones([5, 3], { device });
      for (const approximate of ['none', 'tanh'] as const) {
        const model = new nn.Sequential(layer, new nn.GELU({ approximate }));
        const apart = new nn.GELU({ approximate }).forward(layer.forward(x));
        expect(model.forward(x).sub(apart).abs().max().item()).toBeLessThan(1e-6);
        let calls = 0;
        const hook = layer.registerForwardHook(() => {
          ++calls;
        });
        model.forward(x);
        expect(calls).toBe(1);
        hook.remove();
      }
      const encoder = new nn.TransformerEncoderLayer(4, 2, { activation: 'gelu', device });
      const adapter = new nn.Sequential(encoder.linear1, new nn.Dropout(0.1));
      encoder.linear1 = adapter as never;
      expect(encoder.forward(ones([2, 3, 4], { device })).shape).toEqual([2, 3, 4]);
    });
  });

  it('Sequential calls every forward that is not the class its own', () => {
    class TwiceLinear extends nn.Linear {
      override forward(x: Tensor): Tensor {
        return super.forward(x).mul(2);
      }
    }
    class TwiceConv extends nn.Conv2d {
      override forward(x: Tensor): Tensor {
        return super.forward(x).mul(2);
      }
    }
    class Shifted extends nn.ReLU {
      override forward(x: Tensor): Tensor {
        return super.forward(x).add(1);
      }
    }
    class Least extends nn.MaxPool2d {
      override forward(x: Tensor): Tensor {
        return super.forward(x.neg()).neg();
      }
    }
    const replaced = <L extends nn.Layer>(layer: L, forward: (x: Tensor) => Tensor): L =>
      Object.assign(layer, { forward });
    scope(() => {
      const x = ones([2, 1, 4, 4], { device });
      const rows = ones([2, 3], { device });
      const conv = new nn.Conv2d(1, 2, 3, { device });
      const line = new nn.Linear(3, 4, { device });
      const stacks: [Tensor, ...nn.Layer[]][] = [
        [rows, new TwiceLinear(3, 4, { device }), new nn.GELU()],
        [rows, line, new Shifted()],
        [rows, line, replaced(new nn.GELU(), (y) => y.neg())],
        [rows, replaced(new nn.Linear(3, 4, { device }), (y) => y.neg()), new nn.ReLU()],
        [x, new TwiceConv(1, 2, 3, { device }), new nn.ReLU(), new nn.MaxPool2d(2)],
        [x, conv, new Shifted(), new nn.MaxPool2d(2)],
        [x, conv, new nn.ReLU(), new Least(2)],
      ];
      for (const [input, ...layers] of stacks) {
        const apart = layers.reduce((y, layer) => layer.forward(y), input);
        const together = new nn.Sequential(...layers).forward(input);
        const far = together.sub(apart).abs().max().item();
        expect(far, String(layers)).toBeLessThan(1e-6);
      }
    });
  });

  it('linear gives gradients to a residual alone, and takes part in autocast', () => {
    scope(() => {
      const [x, w] = [ones([2, 3], { device }), ones([4, 3], { device })];
      const residual = ones([2, 4], { device }).detach().requireGrad();
      const call = { activation: 'gelu', residual } as const;
      linear(x, w, null, call).sum().backward();
      expect(residual.grad?.toArray()).toEqual([
        [1, 1, 1, 1],
        [1, 1, 1, 1],
      ]);
      const weight = w.detach().requireGrad();
      const y = autocast({ dtype: 'bfloat16' }, () => linear(x, weight, null, call));
      expect(y.dtype).toBe('bfloat16');
      y.sum().backward();
      // x is 1 everywhere: gelu'(3), times two rows, by columns of ones
      const slope = 0.5 * (1 + 0.9973002) + 3 * 0.004431848;
      for (const value of (weight.grad as Tensor).data()) {
        expect(Number(value)).toBeCloseTo(2 * slope, 1);
      }
      expect((residual.grad as Tensor).toArray()).toEqual([
        [2, 2, 2, 2],
        [2, 2, 2, 2],
      ]);
    });
  });

  it('Sequential applies its layers in order, a ReLU fused or not', () => {
    scope(() => {
      const [a, b] = [new nn.Linear(3, 4, { device }), new nn.Linear(4, 2, { device })];
      const model = new nn.Sequential(a, new nn.ReLU(), b, new nn.LogSoftmax(), new nn.Flatten());
      const x = ones([5, 3], { device });
      const hidden = linear(x, a.weight, a.bias).relu();
      const expected = linear(hidden, b.weight, b.bias).logSoftmax();
      expect(model.forward(x).toArray()).toEqual(expected.toArray());
    });
  });

  it('activations are their functions', () => {
    scope(() => {
      const x = tensor(
        [
          [-2, -0.5, 0],
          [0.5, 1, 3],
        ],
        { device },
      );
      const pairs: [nn.Layer, Tensor][] = [
        [new nn.ReLU(), x.relu()],
        [new nn.Sigmoid(), x.sigmoid()],
        [new nn.Tanh(), x.tanh()],
        [new nn.GELU(), x.gelu()],
        [new nn.SiLU(), x.silu()],
        [new nn.Softplus(), x.softplus()],
        [new nn.Softmax(), x.softmax()],
        [new nn.Softmax(0), x.softmax(0)],
        [new nn.LogSoftmax(0), x.logSoftmax(0)],
        [new nn.Flatten(0), x.flatten()],
        [new nn.Identity(), x],
      ];
      for (const [layer, expected] of pairs) {
        expect(layer.forward(x).toArray(), String(layer)).toEqual(expected.toArray());
      }
    });
  });
});

describe('layers', () => {
  it('refuse what makes no layer', () => {
    expect(() => new nn.Linear(0, 2)).toThrow(
      'Linear: inFeatures must be an integer of 1 or more, got 0',
    );
    expect(() => new nn.Linear(2, 1.5)).toThrow(
      'Linear: outFeatures must be an integer of 1 or more, got 1.5',
    );
    expect(() => new nn.Sequential(relu as never)).toThrow(
      'Sequential: layers must be modules, got a function',
    );
    expect(() => new nn.Softmax(0.5)).toThrow('Softmax: axis must be an integer, got 0.5');
    expect(() => new nn.Linear(2, 2).forward(ones([2, 3]))).toThrow(
      "linear: the last size must match the weight's, got [2,3] and [2,2]",
    );
  });
});
