/** Normalisation, dropout and embedding layers against PyTorch's, and what they keep. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { mixed, type Packed, uniformOf, unpacked } from '../support/vectors.js';

const { nn, scope, tensor } = ng;

interface Run {
  losses: number[];
  evaluated: number;
  buffers: Record<string, number[]>;
}
interface Network {
  layer: string;
  shape: number[];
  float32: Run;
  float64: Run;
}
interface Case {
  op: string;
  arguments: unknown[];
  inputs: { seed: number; shape: number[]; low: number; high: number }[];
  extra: Packed[];
  doutSeed: number;
  output: Packed;
  gradients: Packed[];
}
const { cases, networks } = JSON.parse(
  readFileSync(new URL('../vectors/norm.json', import.meta.url), 'utf8'),
) as { cases: Case[]; networks: Network[] };

type Place = { dtype: 'float32' | 'float64'; device: ng.Device };
const classes = 3;
const words = 12;

/** How a case of one op calls it: leaves are x, weight and bias. */
function call(entry: Case, [x, weight, bias]: ng.Tensor[], index?: ng.Tensor): ng.Tensor {
  const [argument] = entry.arguments;
  const options = { ...(weight && { weight }), ...(bias && { bias }) };
  const input = x as ng.Tensor;
  switch (entry.op) {
    case 'layerNorm':
      return ng.layerNorm(input, argument as number[], options);
    case 'rmsNorm':
      return ng.rmsNorm(input, argument as number[], { ...options, eps: 1e-5 });
    case 'groupNorm':
      return ng.groupNorm(input, argument as number, options);
    case 'instanceNorm':
      return ng.instanceNorm(input, options);
    case 'batchNorm':
      return ng.batchNorm(input, { ...options, training: true });
    case 'EmbeddingBag': {
      const layer = new nn.EmbeddingBag(4, 3, argument as object);
      layer.weight = input;
      return layer.forward(index as ng.Tensor);
    }
    default:
      return ng.embedding(input, index as ng.Tensor, argument as object);
  }
}

function modelOf(name: string, place: Place): ng.nn.Sequential {
  const flat = (size: number) => [new nn.Flatten(), new nn.Linear(size, classes, place)];
  const between = (layer: ng.nn.Layer) =>
    new nn.Sequential(new nn.Linear(6, 8, place), layer, new nn.Linear(8, classes, place));
  switch (name) {
    case 'LayerNorm':
      return between(new nn.LayerNorm(8, place));
    case 'RMSNorm':
      return between(new nn.RMSNorm(8, { ...place, eps: 1e-5 }));
    case 'BatchNorm1d':
      return between(new nn.BatchNorm1d(8, place));
    case 'BatchNorm1d, mean of all':
      return between(new nn.BatchNorm1d(8, { ...place, momentum: null }));
    case 'BatchNorm2d':
      return new nn.Sequential(new nn.BatchNorm2d(2, { ...place, momentum: 0.3 }), ...flat(18));
    case 'GroupNorm':
      return new nn.Sequential(new nn.GroupNorm(2, 4, place), ...flat(12));
    case 'InstanceNorm2d':
      return new nn.Sequential(new nn.InstanceNorm2d(2, { ...place, affine: true }), ...flat(18));
    default:
      return new nn.Sequential(
        new nn.Embedding(words, 5, { ...place, paddingIdx: 0 }),
        ...flat(20),
      );
  }
}

const batch = 8;
function inputOf(name: string, shape: number[], step: number, { dtype, device }: Place): ng.Tensor {
  if (name !== 'Embedding') return uniformOf(2000 + step, [batch, ...shape]).to(dtype, device);
  const values = Array.from(mixed(2000 + step, batch * 4), (u) => BigInt(Math.floor(u * words)));
  return tensor(values, [batch, 4], { dtype: 'int64', device });
}

function labelsOf(step: number, device: ng.Device): ng.Tensor {
  return tensor(
    Array.from(mixed(3000 + step, batch), (u) => BigInt(Math.floor(u ** 2 * classes))),
    { device },
  );
}

function expectNear(actual: number | bigint, expected: number, within: number, what: string): void {
  expect(Math.abs(Number(actual) - expected) / Math.abs(expected), what).toBeLessThan(within);
}

describe.each(devices)('against PyTorch on $name', (device) => {
  describe.each(['float32', 'float64'] as const)('in %s', (dtype) => {
    const within = dtype === 'float32' ? 1e-5 : 1e-10;

    it.each(cases.map((entry, i) => [`${entry.op} (case ${i})`, entry] as const))(
      '%s',
      (_, entry) => {
        scope(() => {
          const leaves = entry.inputs.map(({ seed, shape, low, high }) =>
            uniformOf(seed, shape, low, high).to(dtype, device).detach().requireGrad(),
          );
          const [extra] = entry.extra.map(({ shape, values }) =>
            tensor(values.map(BigInt), shape, { device }),
          );
          const output = call(entry, leaves, extra);
          expectClose(valuesOf(output.detach()), unpacked(entry.output), within, 'output');
          output.backward(uniformOf(entry.doutSeed, output.shape).to(dtype, device));
          leaves.forEach((leaf, i) => {
            const expected = unpacked(entry.gradients[i] as Packed);
            expectClose(valuesOf(leaf.grad as ng.Tensor), expected, within, `gradient ${i}`);
          });
        });
      },
    );

    it.each(networks)('trains with $layer', ({ layer, shape, ...runs }) => {
      const run = runs[dtype];
      // Ten steps with a high rate spread roundings.
      const far = dtype === 'float32' ? 2e-5 : 1e-9;
      scope(() => {
        const place = { dtype, device };
        const model = modelOf(layer, place);
        [...model.parameters()].forEach((parameter, i) => {
          ng.noGrad(() =>
            ng.copyInto(parameter, uniformOf(1000 + i, parameter.shape).to(dtype, device)),
          );
        });
        const optimizer = new ng.optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
        const lossOf = (step: number): ng.Tensor =>
          ng.crossEntropy(
            model.forward(inputOf(layer, shape, step, place)),
            labelsOf(step, device),
          );
        run.losses.forEach((expected, step) => {
          optimizer.zeroGrad();
          const loss = lossOf(step);
          loss.backward();
          optimizer.step();
          expectNear(loss.item(), expected, far, `loss ${step}`);
        });
        model.eval();
        expectNear(lossOf(10).item(), run.evaluated, far, 'loss in evaluation');
        const own = new Map(model.namedBuffers());
        expect([...own.keys()].map((name) => name.split('.')[1])).toEqual(Object.keys(run.buffers));
        for (const [i, values] of Object.values(run.buffers).entries()) {
          const [name, kept] = [...own][i] as [string, ng.Tensor];
          Array.from(kept.data(), Number).forEach((value, j) => {
            expect(Math.abs(value - (values[j] as number)), name).toBeLessThan(far);
          });
        }
      });
    });
  });
});

describe.each(devices)('batch norm on $name', (device) => {
  it('keeps its statistics in the state, and takes them back', () => {
    scope(() => {
      const layer = new nn.BatchNorm2d(3, { device });
      layer.forward(uniformOf(1, [2, 3, 4, 4]).to('float32', device));
      const state = layer.stateDict();
      expect([...state.keys()]).toEqual([
        'weight',
        'bias',
        'running_mean',
        'running_var',
        'num_batches_tracked',
      ]);
      expect(layer.num_batches_tracked?.item()).toBe(1);
      const other = new nn.BatchNorm2d(3, { device });
      other.loadStateDict(state);
      expect(other.running_mean?.toArray()).toEqual(layer.running_mean?.toArray());
      expect(other.num_batches_tracked?.item()).toBe(1);
      const moved = other.to('cpu');
      expect(moved.running_var?.device.name).toBe('cpu');
      expect(moved.running_var?.toArray()).toEqual(layer.running_var?.toArray());
    });
  });

  it('leaves statistics alone in evaluation, and has none where told', () => {
    scope(() => {
      const x = uniformOf(1, [4, 3]).to('float32', device);
      const layer = new nn.BatchNorm1d(3, { device }).eval();
      layer.forward(x);
      expect(layer.running_mean?.toArray()).toEqual([0, 0, 0]);
      expect(layer.num_batches_tracked?.item()).toBe(0);
      const without = new nn.BatchNorm1d(3, { device, trackRunningStats: false, affine: false });
      expect(without.stateDict().size).toBe(0);
      const trained = without.forward(x).toArray();
      expect(without.eval().forward(x).toArray()).toEqual(trained);
    });
  });

  it('is not fooled by a mean far from zero', () => {
    scope(() => {
      const x = uniformOf(5, [64, 2]).mul(1e-2).add(1000).to('float32', device);
      const y = ng.batchNorm(x, { training: true, eps: 0 }).to('float64');
      for (const value of y.mul(y).mean(0).data()) expect(Number(value)).toBeCloseTo(1, 3);
    });
  });

  it('updates its statistics at each replay of a captured step', async () => {
    const run = async (captured: boolean): Promise<unknown[]> => {
      const layer = new nn.BatchNorm1d(3, { device, momentum: null });
      const plain = (x: ng.Tensor): ng.Tensor => layer.forward(x);
      const step = captured ? ng.capture(plain) : plain;
      for (let i = 0; i < 5; ++i) await step(uniformOf(i, [6, 3]).to('float32', device));
      const kept = [layer.running_mean, layer.running_var, layer.num_batches_tracked];
      return kept.map((t) => t?.toArray());
    };
    const plain = await run(false);
    expect(plain[2]).toBe(5);
    expect(await run(true)).toEqual(plain);
  });
});

describe.each(devices)('the layers together on $name', (device) => {
  it('train in captured steps as they do without', async () => {
    const run = async (captured: boolean): Promise<unknown[]> => {
      ng.manualSeed(7);
      const model = new nn.Sequential(
        new nn.Embedding(words, 6, { device, paddingIdx: 0 }),
        new nn.LayerNorm(6, { device }),
        new nn.Flatten(),
        new nn.Dropout(0.25),
        new nn.Linear(24, 8, { device }),
        new nn.BatchNorm1d(8, { device }),
        new nn.RMSNorm(8, { device }),
        new nn.Linear(8, classes, { device }),
      );
      const optimizer = new ng.optim.SGD(model.parameters(), { lr: 0.1 });
      const plain = (x: ng.Tensor, y: ng.Tensor): ng.Tensor => {
        optimizer.zeroGrad();
        const loss = ng.crossEntropy(model.forward(x), y);
        loss.backward();
        optimizer.step();
        return loss;
      };
      const step = captured ? ng.capture(plain) : plain;
      const losses: unknown[] = [];
      for (let i = 0; i < 6; ++i) {
        const x = inputOf('Embedding', [], i, { dtype: 'float32', device });
        losses.push((await step(x, labelsOf(i, device))).item());
      }
      return losses;
    };
    const plain = await run(false);
    expect(new Set(plain).size).toBe(6);
    expect(await run(true)).toEqual(plain);
  });

  it('take float32 weights beside 16-bit inputs', () => {
    scope(() => {
      const x = uniformOf(4, [5, 8]).to('bfloat16', device).detach().requireGrad();
      const layer = new nn.LayerNorm(8, { device });
      const y = layer.forward(x);
      expect(y.dtype).toBe('bfloat16');
      y.backward(ng.ones([5, 8], { device, dtype: 'bfloat16' }));
      expect(x.grad?.dtype).toBe('bfloat16');
      expect(layer.bias?.grad?.toArray()).toEqual(Array(8).fill(5));
    });
  });
});

it('has the same bits whatever the number of threads', () => {
  const before = ng.getNumThreads();
  const run = (threads: number): unknown[] =>
    scope(() => {
      ng.setNumThreads(threads);
      const x = uniformOf(6, [500, 160]).to('float32').detach().requireGrad();
      const w = uniformOf(7, [160]).to('float32').detach().requireGrad();
      const options = { weight: w };
      const table = uniformOf(8, [300, 160]).to('float32').detach().requireGrad();
      const index = Array.from(mixed(9, 500), (u) => BigInt(Math.floor(u * u * 300)));
      const y = ng
        .layerNorm(x, 160, options)
        .add(ng.batchNorm(x, { ...options, training: true }))
        .add(ng.groupNorm(x, 4, options))
        .add(ng.embedding(table, tensor(index)));
      y.backward(uniformOf(10, [500, 160]).to('float32'));
      return [y.detach(), x.grad, w.grad, table.grad].map((t) => (t as ng.Tensor).data());
    });
  try {
    expect(run(3)).toEqual(run(1));
  } finally {
    ng.setNumThreads(before);
  }
});

describe.each(devices)('dropout layers on $name', (device) => {
  it('drop in training alone', () => {
    scope(() => {
      const layer = new nn.Dropout(0.5);
      const x = ng.ones([1000], { device });
      const dropped = Array.from(layer.forward(x).data(), Number);
      expect(new Set(dropped)).toEqual(new Set([0, 2]));
      expect(layer.eval().forward(x)).toBe(x);
    });
  });

  it('keep mean 0 and variance 1, as selu needs it', () => {
    scope(() => {
      const layer = new nn.AlphaDropout(0.3);
      const x = ng.randn([20_000], { device });
      const y = layer.forward(x);
      const [mean, std] = [y.mean(), y.std()].map((t) => Number(t.item())) as [number, number];
      expect(Math.abs(mean)).toBeLessThan(0.05);
      expect(Math.abs(std - 1)).toBeLessThan(0.05);
      // The dropped ones are a·α' + b, the others a·x + b.
      const low = -1.7580993408473766;
      const scale = 1 / Math.sqrt(0.7 * (1 + 0.3 * low * low));
      const dropped = scale * low * 0.7;
      const [before, after] = [x.data(), y.data()] as [Float32Array, Float32Array];
      const kept = [...after].filter((value, i) => {
        if (Math.abs(value - dropped) < 1e-5) return false;
        const expected = scale * ((before[i] as number) - 0.3 * low);
        expect(Math.abs(value - expected)).toBeLessThan(1e-4);
        return true;
      }).length;
      expect(Math.abs(kept / after.length - 0.7)).toBeLessThan(0.02);
      expect(new nn.AlphaDropout(1).forward(x).abs().sum().item()).toBe(0);
      expect(layer.eval().forward(x)).toBe(x);
    });
  });

  it('drop whole channels', () => {
    scope(() => {
      const shapes: [ng.nn.Dropout, number[]][] = [
        [new nn.Dropout1d(0.5), [8, 6, 5]],
        [new nn.Dropout2d(0.5), [8, 6, 2, 3]],
        [new nn.Dropout2d(0.5), [40, 2, 3]],
      ];
      for (const [layer, shape] of shapes) {
        const x = ng.ones(shape, { device }).requireGrad();
        const y = layer.forward(x);
        const inner = shape.slice(shape.length - (layer instanceof nn.Dropout2d ? 2 : 1));
        const each = inner.reduce((a, b) => a * b, 1);
        const values = Array.from(y.detach().data(), Number);
        for (let i = 0; i < values.length; ++i) {
          expect(values[i]).toBe(values[i - (i % each)]);
        }
        expect(new Set(values)).toEqual(new Set([0, 2]));
        y.backward(ng.ones(shape, { device }));
        expect(Array.from(x.grad?.data() ?? [], Number)).toEqual(values);
        expect(layer.eval().forward(x)).toBe(x);
      }
      expect(() => new nn.Dropout1d(0.5).forward(ng.ones([3], { device }))).toThrow(
        'Dropout1d: needs a tensor of rank 2 or 3, got [3]',
      );
    });
  });
});

describe.each(devices)('nn.Embedding on $name', (device) => {
  it('starts with zeros in its padding row and freezes where asked', () => {
    scope(() => {
      const layer = new nn.Embedding(4, 3, { device, paddingIdx: -1 });
      expect(layer.paddingIdx).toBe(3);
      expect(layer.weight.detach().select(0, 3).toArray()).toEqual([0, 0, 0]);
      expect(layer.weight.requiresGrad).toBe(true);
      const table = uniformOf(3, [5, 2]).to('float32', device);
      const frozen = nn.Embedding.fromPretrained(table);
      expect(frozen.weight.toArray()).toEqual(table.toArray());
      expect(frozen.weight.requiresGrad).toBe(false);
      expect([...frozen.namedParameters()].map(([name]) => name)).toEqual(['weight']);
      const index = tensor([[1n], [4n]], { device });
      expect(frozen.forward(index).shape).toEqual([2, 1, 2]);
      const trained = nn.Embedding.fromPretrained(table, { freeze: false });
      expect(trained.weight.requiresGrad).toBe(true);
      expect(() => nn.Embedding.fromPretrained(ng.zeros([3], { device }))).toThrow(
        'Embedding: the table must be [V,D], got [3]',
      );
    });
  });
});
