/** Modules in containers, tied tensors, dtypes, and copies of modules. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  layers,
  loadSafetensors,
  nn,
  ones,
  optim,
  saveSafetensors,
  scope,
  sequential,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/index.js';
import { expectSameBits } from '../support/compare.js';
import { devices } from '../support/devices.js';

const line = (bias = false): nn.Linear => new nn.Linear(2, 2, { bias });

class Holder extends nn.Module {
  blocks = [[line(), line()], [line(true)]];
  heads = { left: line(), right: { deep: nn.parameter(ones([1])), rate: 3 } };
  gates = new Map<unknown, unknown>([
    ['in', line()],
    [2, new nn.LayerNorm(2)],
    [{}, line()],
  ]);
  scales = [nn.parameter(ones([1])), nn.buffer(zeros([2]))];
  self: unknown[] = [this];

  constructor() {
    super();
    this.self.push(this.self);
  }

  forward(x: Tensor): Tensor {
    return x;
  }
}

const held = [
  'heads.right.deep',
  'scales.0',
  'blocks.0.0.weight',
  'blocks.0.1.weight',
  'blocks.1.0.weight',
  'blocks.1.0.bias',
  'heads.left.weight',
  'gates.in.weight',
  'gates.2.weight',
  'gates.2.bias',
];

/** A language model's tie: the table of vectors is the head's weight. */
class Tied extends nn.Module {
  wte = new nn.Embedding(5, 3);
  head = new nn.Linear(3, 5, { bias: false });

  constructor() {
    super();
    this.head.weight = this.wte.weight;
  }

  forward(x: Tensor): Tensor {
    return this.head.forward(this.wte.forward(x));
  }
}

describe('what modules hold', () => {
  it('is found in arrays, maps and plain objects', () => {
    const holder = new Holder();
    expect([...holder.namedParameters()].map(([name]) => name)).toEqual(held);
    expect([...holder.namedBuffers()].map(([name]) => name)).toEqual(['scales.1']);
    expect([...holder.namedChildren()].map(([name]) => name)).toEqual([
      ...['blocks.0.0', 'blocks.0.1', 'blocks.1.0', 'heads.left', 'gates.in', 'gates.2'],
    ]);
    expect(holder.eval().blocks[1]?.[0]?.training).toBe(false);
    const { left } = holder.heads;
    const deep = holder.heads.right.deep;
    holder.to('float64');
    expect([...holder.stateDict().values()].every(({ dtype }) => dtype === 'float64')).toBe(true);
    expect(deep.released).toBe(true);
    expect(holder.heads.left).toBe(left);
    expect(holder.scales[1]?.gradient).toBeNull();
  });

  it('counts what a Sequential holds beside its layers', () => {
    class Scaled extends nn.Sequential {
      extra = line();
    }
    const names = [...new Scaled(line(), new nn.ReLU()).stateDict().keys()];
    expect(names).toEqual(['0.weight', 'extra.weight']);
  });

  it('loads a tied tensor by either name or both, and refuses another shape', () => {
    const model = new Tied();
    const [a, b] = [ones([5, 3]), zeros([5, 3])];
    expect([...model.stateDict().keys()]).toEqual(['wte.weight', 'head.weight']);
    model.loadStateDict(new Map([['head.weight', a]]));
    expect(model.wte.weight.sum().item()).toBe(15);
    model.loadStateDict(
      new Map([
        ['wte.weight', b],
        ['head.weight', b],
      ]),
    );
    expect(model.wte.weight.sum().item()).toBe(0);
    const wrong = new Map([
      ['wte.weight', a],
      ['head.weight', ones([3, 5])],
    ]);
    expect(() => model.loadStateDict(wrong)).toThrow(
      'loadStateDict: head.weight must have the shape [5,3], got [3,5]',
    );
    expect(model.wte.weight.sum().item()).toBe(0);
    expect(() => model.loadStateDict(new Map())).toThrow(
      'loadStateDict: names must match, missing ["wte.weight","head.weight"], unknown []',
    );
  });

  it('saves a tied tensor by both names', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nodegrad-'));
    try {
      const file = join(folder, 'tied.safetensors');
      const [model, other] = [new Tied(), new Tied()];
      await saveSafetensors(file, model.stateDict());
      const { tensors } = await loadSafetensors(file);
      expect([...tensors.keys()].sort()).toEqual(['head.weight', 'wte.weight']);
      other.loadStateDict(tensors);
      expectSameBits(other.head.weight.detach(), model.wte.weight.detach(), 'weight');
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('is copied into the layers of a stack: frozen, buffers, tied, in containers', () => {
    class Layer extends nn.TransformerEncoderLayer {
      seen = nn.buffer(tensor([1n]));
      parts = [line(), { gate: line() }] as const;
      tied = this.parts[0].weight;
    }
    const first = new Layer(4, 2, { dimFeedforward: 3 });
    first.linear1.requireGrad(false);
    const [one, two] = new nn.TransformerEncoder(first, 2).layers as [Layer, Layer];
    expect(one).toBe(first);
    expect([...two.namedParameters()].map(([name]) => name)).toEqual(
      [...one.namedParameters()].map(([name]) => name),
    );
    expect([...two.namedBuffers()].map(([name]) => name)).toEqual(['seen']);
    for (const [name, t] of two.stateDict()) {
      const source = one.stateDict().get(name) as Tensor;
      expect(t, name).not.toBe(source);
      expect(t.requiresGrad, name).toBe(source.requiresGrad);
      expectSameBits(t.detach(), source.detach(), name);
    }
    expect(two.tied).toBe(two.parts[0].weight);
    expect(two.linear1.weight.requiresGrad).toBe(false);
  });
});

describe.each(devices)('modules on $name', (device) => {
  it('keep tied tensors tied when they move, again and again', () => {
    scope(() => {
      const model = new Tied();
      const before = model.wte.weight.toArray();
      for (const target of [device, 'cpu', device] as const) {
        model.to(target);
        expect(model.head.weight).toBe(model.wte.weight);
        expect(model.wte.weight.toArray()).toEqual(before);
        expect([...model.parameters()].length).toBe(1);
      }
      model
        .forward(tensor([1n, 4n], { device }))
        .sum()
        .backward();
      new optim.SGD(model.parameters(), { lr: 1 }).step();
      expect(model.wte.weight.toArray()).not.toEqual(before);
    });
  });

  it('take a dtype: floating tensors alone, statistics of batch norm at least float32', () => {
    scope(() => {
      const model = new nn.Sequential(new nn.Conv2d(1, 2, 3), new nn.BatchNorm2d(2), new nn.ReLU());
      const weight = [...model.parameters()][0] as Tensor;
      const values = weight.toArray();
      weight.requireGrad(false);
      const dtypes = (): string[] => [...model.stateDict().values()].map(({ dtype }) => dtype);
      const wide = ['float32', 'float32', 'int64'];
      expect(model.to(device, 'bfloat16')).toBe(model);
      expect(dtypes()).toEqual([...Array(4).fill('bfloat16'), ...wide]);
      expect(weight.released).toBe(true);
      const x = ones([2, 1, 4, 4], { device, dtype: 'bfloat16' });
      expect(model.forward(x).dtype).toBe('bfloat16');
      expect(model.eval().forward(x).dtype).toBe('bfloat16');
      model.half();
      expect(dtypes()).toEqual([...Array(4).fill('float16'), ...wide]);
      model.float().bfloat16().to('cpu').double();
      expect(dtypes()).toEqual([...Array(6).fill('float64'), 'int64']);
      const [first] = [...model.parameters()] as [Tensor];
      expect(first.requiresGrad).toBe(false);
      const rounded = tensor(values, { dtype: 'bfloat16' }).to('float16', 'float32');
      expect(first.to('float32').toArray()).toEqual(rounded.to('bfloat16', 'float32').toArray());
    });
    expect(() => line().to('int64')).toThrow("to: a module's dtype must be floating, got int64");
    expect(() => line().to('gpu')).toThrow(/^device: must be/);
  });

  it('that are built later take the dtype they were told', () => {
    scope(() => {
      const model = sequential([layers.dense(3), layers.dense(2)], { device }).to('bfloat16');
      expect(model.forward(ones([1, 4], { device, dtype: 'bfloat16' })).dtype).toBe('bfloat16');
      expect([...model.parameters()].every(({ dtype }) => dtype === 'bfloat16')).toBe(true);
    });
  });
});
