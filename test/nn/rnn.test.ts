/** Recurrent layers and cells against PyTorch's, with lengths and states, and what padding must not do. */
import { describe, expect, it } from 'vitest';
import { capture, type Device, nn, optim, scope, type Tensor, tensor } from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import type { Nd } from '../support/nd.js';
import { mixed, type Packed, readVectors, uniformOf, unpacked } from '../support/vectors.js';

const [input, hidden, batch, steps] = [3, 4, 3, 4];
type Kind = 'LSTM' | 'GRU' | 'RNN tanh' | 'RNN relu';

interface LayerCase {
  kind: Kind;
  options: { numLayers: number; bidirectional: boolean; bias: boolean; batchFirst: boolean };
  lengths: number[] | null;
  withState: boolean;
  results: Packed[];
  gradients: Record<string, Packed>;
}
interface Vectors {
  layers: LayerCase[];
  runs: { kind: Kind; float32: number[]; float64: number[] }[];
  cells: { kind: Kind; results: Packed[] }[];
}
const [vectors] = readVectors<Vectors>('rnn').cases as [Vectors];

interface Place {
  dtype: 'float32' | 'float64';
  device: Device;
}

interface AnyLayer extends nn.Module {
  forward(x: Tensor | nn.PackedSequence, state?: unknown): [Tensor | nn.PackedSequence, unknown];
}

function make(kind: Kind, options: nn.RNNOptions): AnyLayer {
  if (kind === 'LSTM') return new nn.LSTM(input, hidden, options) as unknown as AnyLayer;
  if (kind === 'GRU') return new nn.GRU(input, hidden, options) as unknown as AnyLayer;
  const nonlinearity = kind === 'RNN relu' ? 'relu' : 'tanh';
  return new nn.RNN(input, hidden, { ...options, nonlinearity }) as unknown as AnyLayer;
}

/** The parameters of rnn.py's fill(). */
function fill(module: nn.Module, seed: number, bound = 0.6): void {
  let i = 0;
  for (const p of module.parameters()) {
    p.copyFrom(uniformOf(seed + i++, p.shape, -bound, bound).to(p.dtype, p.device));
  }
}

function leafOf(seed: number, shape: readonly number[], { dtype, device }: Place): Tensor {
  return uniformOf(seed, shape).to(dtype, device).requireGrad();
}

function flatStates(state: unknown): Tensor[] {
  return (Array.isArray(state) ? state : [state]) as Tensor[];
}

function runCase({ kind, options, lengths, withState }: LayerCase, place: Place) {
  const layer = make(kind, { ...options, ...place });
  fill(layer, 100);
  const { batchFirst } = options;
  const x = leafOf(1, batchFirst ? [batch, steps, input] : [steps, batch, input], place);
  const count = options.numLayers * (options.bidirectional ? 2 : 1);
  const states = [2, 3].map((seed) => leafOf(seed, [count, batch, hidden], place));
  const given = kind === 'LSTM' ? states : states.slice(0, 1);
  const state = withState ? (kind === 'LSTM' ? given : given[0]) : null;
  const source = lengths ? nn.packPaddedSequence(x, lengths, { batchFirst }) : x;
  const [out, last] = layer.forward(source, state);
  const output =
    out instanceof nn.PackedSequence ? nn.padPackedSequence(out, { batchFirst })[0] : out;
  const results = [output, ...flatStates(last)];
  results
    .map((r, i) => r.mul(uniformOf(10 + i, r.shape).to(r.dtype, r.device)).sum())
    .reduce((a, b) => a.add(b))
    .backward();
  const leaves: [string, Tensor][] = [['x', x], ...layer.namedParameters()];
  if (withState) given.forEach((leaf, i) => void leaves.push([i === 0 ? 'h0' : 'c0', leaf]));
  const gradients = leaves.map(([name, leaf]): [string, Nd] => [
    name,
    valuesOf(leaf.grad as Tensor),
  ]);
  return { results: results.map((r) => valuesOf(r.detach())), gradients };
}

describe.each(devices)('recurrent layers on $name', (device) => {
  const within = { float64: 1e-10, float32: 1e-5 };
  for (const found of vectors.layers) {
    const { kind, options, lengths, withState } = found;
    const name = [
      kind,
      ...Object.entries(options).flatMap(([key, value]) => (value ? [`${key} ${value}`] : [])),
      lengths ? 'lengths' : '',
      withState ? 'states' : '',
    ];
    it.each(['float64', 'float32'] as const)(`${name.join(' ').trim()} in %s`, (dtype) => {
      scope(() => {
        const { results, gradients } = runCase(found, { dtype, device });
        results.forEach((r, i) => {
          expectClose(r, unpacked(found.results[i] as Packed), within[dtype], `result ${i}`);
        });
        expect(gradients.map(([key]) => key).sort()).toEqual(Object.keys(found.gradients).sort());
        for (const [key, gradient] of gradients) {
          const expected = unpacked(found.gradients[key] as Packed);
          expectClose(gradient, expected, within[dtype], `gradient of ${key}`);
        }
      });
    });
  }

  for (const { kind, ...losses } of vectors.runs) {
    it.each(['float64', 'float32'] as const)(`ten losses of a ${kind} in %s`, (dtype) => {
      scope(() => {
        const layer = make(kind, { numLayers: 2, batchFirst: true, dtype, device });
        const head = new nn.Linear(hidden, 2, { dtype, device });
        fill(layer, 200);
        fill(head, 300);
        const parameters = [...layer.parameters(), ...head.parameters()];
        const optimizer = new optim.SGD(parameters, { lr: 0.5 });
        const criterion = new nn.CrossEntropyLoss();
        losses[dtype].forEach((expected, step) => {
          const x = uniformOf(400 + step, [batch, steps, input]).to(dtype, device);
          const labels = Array.from(mixed(500 + step, batch), (u) => BigInt(Math.floor(u * 2)));
          optimizer.zeroGrad();
          const [, last] = layer.forward(x);
          const h = flatStates(last)[0] as Tensor;
          const loss = criterion.forward(head.forward(h.select(0, 1)), tensor(labels, { device }));
          loss.backward();
          optimizer.step();
          const error = Math.abs(Number(loss.item()) - expected) / expected;
          expect(error, `loss ${step}`).toBeLessThan(dtype === 'float32' ? 1e-5 : 1e-10);
        });
      });
    });
  }

  it.each(vectors.cells)('$kind cell', ({ kind, results }) => {
    scope(() => {
      const place: Place = { dtype: 'float64', device };
      const [x, h, c] = [701, 702, 703].map((seed, i) =>
        uniformOf(seed, [batch, i === 0 ? input : hidden]).to('float64', device),
      ) as [Tensor, Tensor, Tensor];
      const nonlinearity = kind === 'RNN relu' ? 'relu' : 'tanh';
      const cell =
        kind === 'LSTM'
          ? new nn.LSTMCell(input, hidden, place)
          : kind === 'GRU'
            ? new nn.GRUCell(input, hidden, place)
            : new nn.RNNCell(input, hidden, { ...place, nonlinearity });
      fill(cell, 600);
      expect([...cell.stateDict().keys()]).toEqual([
        'weight_ih',
        'weight_hh',
        'bias_ih',
        'bias_hh',
      ]);
      const states = flatStates(
        cell instanceof nn.LSTMCell ? cell.forward(x, [h, c]) : cell.forward(x, h),
      );
      states.forEach((r, i) => {
        expectClose(valuesOf(r), unpacked(results[i] as Packed), 1e-11, `state ${i}`);
      });
      // One row alone is the batch's first.
      const [one] = flatStates(
        cell instanceof nn.LSTMCell
          ? cell.forward(x.select(0, 0), [h.select(0, 0), c.select(0, 0)])
          : cell.forward(x.select(0, 0), h.select(0, 0)),
      ) as [Tensor];
      expectClose(valuesOf(one), valuesOf((states[0] as Tensor).select(0, 0)), 1e-12, 'one row');
    });
  });

  it.each(['LSTM', 'GRU', 'RNN tanh'] as const)('padding changes nothing of a %s', (kind) => {
    scope(() => {
      const run = (steps: number, filler: number) => {
        const layer = make(kind, { numLayers: 2, bidirectional: true, batchFirst: true, device });
        fill(layer, 800);
        const rows = uniformOf(801, [2, 3, input]).to('float32', device);
        const x = tensor(new Float32Array(2 * steps * input).fill(filler), [2, steps, input], {
          device,
        });
        x.slice(1, 0, 3).copyFrom(rows);
        x.select(0, 1).slice(0, 2).copyFrom(tensor(filler, { device }));
        x.requireGrad();
        const lengths = tensor([3n, 2n], { device });
        const sequence = nn.packPaddedSequence(x, lengths, { batchFirst: true });
        const [out, last] = layer.forward(sequence);
        const [padded] = nn.padPackedSequence(out as nn.PackedSequence, { batchFirst: true });
        const sums = [padded, ...flatStates(last)].map((r) => r.mul(r).sum());
        sums.reduce((a, b) => a.add(b)).backward();
        const dx = x.grad as Tensor;
        return {
          same: [
            padded.slice(1, 0, 3),
            ...flatStates(last),
            dx.slice(1, 0, 3),
            ...[...layer.parameters()].map((p) => p.grad as Tensor),
          ].map((r) => Array.from(r.detach().contiguous().data() as Float32Array)),
          zero: [padded.slice(1, 3), dx.slice(1, 3)].map((r) => r.abs().sum().item()),
        };
      };
      const short = run(3, 0);
      for (const filler of [7, Number.NaN]) {
        const long = run(6, filler);
        expect(long.zero).toEqual([0, 0]);
        long.same.forEach((values, i) => {
          const expected = short.same[i] as number[];
          values.forEach((v, j) => {
            expect(v).toBeCloseTo(expected[j] as number, 6);
          });
        });
      }
    });
  });

  it('takes rows of no steps: the initial state stays, and takes the gradient', () => {
    scope(() => {
      const layer = new nn.GRU(input, hidden, { batchFirst: true, device });
      const x = leafOf(1, [2, 3, input], { dtype: 'float32', device });
      const h0 = leafOf(2, [1, 2, hidden], { dtype: 'float32', device });
      const sequence = nn.packPaddedSequence(x, tensor([0n, 3n], { device }), {
        batchFirst: true,
      });
      const [, h] = layer.forward(sequence, h0);
      expect(valuesOf(h.select(1, 0).detach())).toEqual(valuesOf(h0.select(1, 0).detach()));
      h.sum().backward();
      expect((h0.grad as Tensor).select(1, 0).toArray()).toEqual([[1, 1, 1, 1]]);
      expect((x.grad as Tensor).select(0, 0).abs().sum().item()).toBe(0);
    });
  });

  it('runs one sequence without a batch axis', () => {
    scope(() => {
      const layer = new nn.LSTM(input, hidden, { numLayers: 2, bidirectional: true, device });
      const x = uniformOf(1, [steps, input]).to('float32', device);
      const state = [2, 3].map((seed) =>
        uniformOf(seed, [4, hidden]).to('float32', device),
      ) as unknown as nn.LSTMState;
      const [output, [h, c]] = layer.forward(x, state);
      const [all, [hAll, cAll]] = layer.forward(x.unsqueeze(1), [
        state[0].unsqueeze(1),
        state[1].unsqueeze(1),
      ]);
      expect([output.shape, h.shape, c.shape]).toEqual([
        [steps, 2 * hidden],
        [4, hidden],
        [4, hidden],
      ]);
      expect(output.toArray()).toEqual(all.squeeze(1).toArray());
      expect(h.toArray()).toEqual(hAll.squeeze(1).toArray());
      expect(c.toArray()).toEqual(cAll.squeeze(1).toArray());
    });
  });

  it('drops out between layers, in training alone', () => {
    scope(() => {
      const x = uniformOf(1, [steps, batch, input]).to('float32', device);
      const layer = new nn.GRU(input, hidden, { numLayers: 2, dropout: 0.5, device });
      const plain = new nn.GRU(input, hidden, { numLayers: 2, device });
      plain.loadStateDict(layer.stateDict());
      const expected = plain.forward(x)[0].toArray();
      expect(layer.forward(x)[0].toArray()).not.toEqual(expected);
      expect(layer.eval().forward(x)[0].toArray()).toEqual(expected);
    });
  });

  it('trains in a captured step as it does eagerly, with lengths that change', async () => {
    const run = async (captured: boolean): Promise<number[]> => {
      const layer = new nn.LSTM(input, hidden, { batchFirst: true, bidirectional: true, device });
      fill(layer, 900);
      const optimizer = new optim.Adam(layer.parameters(), { lr: 0.05 });
      const eager = (x: Tensor, lengths: Tensor): Tensor => {
        optimizer.zeroGrad();
        const [out] = layer.forward(nn.packPaddedSequence(x, lengths, { batchFirst: true }));
        const loss = nn.padPackedSequence(out)[0].square().sum();
        loss.backward();
        optimizer.step();
        return loss;
      };
      const step = captured ? capture(eager) : eager;
      const losses: number[] = [];
      for (let i = 0; i < 5; ++i) {
        const x = uniformOf(910 + i, [batch, steps, input]).to('float32', device);
        const lengths = tensor([1n + BigInt(i % 4), 4n, 2n], { device });
        losses.push(Number((await step(x, lengths)).item()));
      }
      return losses;
    };
    expect(await run(true)).toEqual(await run(false));
  });
});

describe('recurrent modules', () => {
  it("name their parameters as PyTorch's do", () => {
    const names = [...new nn.LSTM(2, 3, { numLayers: 2, bidirectional: true }).stateDict()].map(
      ([name, { shape }]) => `${name} ${shape}`,
    );
    expect(names).toEqual([
      'weight_ih_l0 12,2',
      'weight_hh_l0 12,3',
      'bias_ih_l0 12',
      'bias_hh_l0 12',
      'weight_ih_l0_reverse 12,2',
      'weight_hh_l0_reverse 12,3',
      'bias_ih_l0_reverse 12',
      'bias_hh_l0_reverse 12',
      'weight_ih_l1 12,6',
      'weight_hh_l1 12,3',
      'bias_ih_l1 12',
      'bias_hh_l1 12',
      'weight_ih_l1_reverse 12,6',
      'weight_hh_l1_reverse 12,3',
      'bias_ih_l1_reverse 12',
      'bias_hh_l1_reverse 12',
    ]);
    expect([...new nn.RNN(2, 3, { bias: false }).stateDict().keys()]).toEqual([
      'weight_ih_l0',
      'weight_hh_l0',
    ]);
    expect(String(new nn.GRU(2, 3, { numLayers: 2, dropout: 0.5 }))).toBe(
      'GRU(2 → 3, 2 layers, dropout 0.5)',
    );
  });

  it('start uniform in ±1/√hiddenSize', () => {
    scope(() => {
      const layer = new nn.GRU(50, 25);
      for (const p of layer.parameters()) {
        expect(Number(p.detach().abs().max().item())).toBeLessThanOrEqual(0.2);
        expect(Number(p.detach().abs().max().item())).toBeGreaterThan(0.18);
      }
    });
  });

  it('refuse what does not fit', () => {
    scope(() => {
      const x = tensor(new Float32Array(24), [2, 4, 3]);
      const h = tensor(new Float32Array(8), [1, 2, 4]);
      const lstm = new nn.LSTM(3, 4);
      expect(() => lstm.forward(x.transpose())).toThrow(
        'LSTM: the input must be [T,B,3] or [T,3], got [2,3,4]',
      );
      expect(() => lstm.forward(x, h as never)).toThrow(
        'LSTM: the state must be [h, c], got a tensor float32[1,2,4]',
      );
      expect(() => new nn.GRU(3, 4).forward(x, h)).toThrow(
        'recurrent: the initial h must be float32[1,4,4], got float32[1,2,4]',
      );
      expect(() => new nn.GRU(3, 4).forward(x, h.select(0, 0))).toThrow(
        'GRU: the initial h must be [1,B,4], got [2,4]',
      );
      expect(() => new nn.LSTM(3, 0)).toThrow(
        'LSTM: hiddenSize must be an integer of 1 or more, got 0',
      );
      expect(() => new nn.RNN(3, 4, { nonlinearity: 'sin' as never })).toThrow(
        'RNN: nonlinearity must be one of tanh, relu, got "sin"',
      );
      expect(() => new nn.LSTMCell(3, 4).forward(x)).toThrow(
        'LSTMCell: the input must be [B,3] or [3], got [2,4,3]',
      );
    });
  });
});
