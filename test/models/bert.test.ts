/** The small BERT of test/vectors/bert.py, and what the model refuses. */
import { describe, expect, it } from 'vitest';
import { crossEntropy, models, optim, scope, type Tensor, tensor } from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { type Packed, readVectors, uniformOf, unpacked } from '../support/vectors.js';

interface Case {
  names: string[];
  hidden: Packed;
  pooled: Packed;
  losses: number[];
}

const [found] = readVectors<Case>('bert').cases as [Case];
const small = {
  vocabSize: 11,
  hiddenSize: 8,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
  intermediateSize: 12,
  maxPositionEmbeddings: 6,
} as const;
const [batch, length] = [3, 5];
const grid = <T>(f: (i: number, j: number) => T): T[][] =>
  Array.from({ length: batch }, (_, i) => Array.from({ length }, (__, j) => f(i, j)));

describe.each(devices)('BERT on $name', (device) => {
  const place = { dtype: 'float64', device } as const;
  const tokens = () =>
    tensor(
      grid((i, j) => BigInt((7 * (i * length + j)) % 11)),
      { device },
    );
  const tokenTypes = () =>
    tensor(
      grid((_, j) => (j >= 2 ? 1n : 0n)),
      { device },
    );
  const padding = () =>
    tensor(
      grid((i, j) => j >= length - i),
      { device },
    );

  function filled(): models.BertClassifier {
    const model = new models.BertClassifier({ ...small, dropout: 0, numLabels: 3, ...place });
    const own = model.stateDict();
    expect([...own.keys()].sort()).toEqual(found.names);
    const state = found.names.map((name, i): [string, Tensor] => {
      const values = uniformOf(40000 + i, (own.get(name) as Tensor).shape, -0.3, 0.3);
      return [name, name.includes('norm') && name.includes('weight') ? values.add(1) : values];
    });
    model.loadStateDict(new Map(state));
    return model;
  }

  it('computes and trains as PyTorch does', () => {
    scope(() => {
      const model = filled();
      const inputs = { tokenTypes: tokenTypes(), keyPaddingMask: padding() };
      const [hidden, pooled] = model.bert.forward(tokens(), inputs);
      const seen = padding().logicalNot().to('float64').reshape([batch, length, 1]);
      expectClose(valuesOf(hidden.mul(seen).detach()), unpacked(found.hidden), 1e-10, 'hidden');
      expectClose(valuesOf(pooled.detach()), unpacked(found.pooled), 1e-10, 'pooled');
      const optimizer = new optim.Adam(model.parameters(), { lr: 0.01 });
      const target = tensor([0n, 1n, 2n], { device });
      for (const [step, expected] of found.losses.entries()) {
        optimizer.zeroGrad();
        const loss = crossEntropy(model.forward(tokens(), inputs), target);
        loss.backward();
        optimizer.step();
        const error = Math.abs(Number(loss.item()) - expected);
        expect(error, `loss ${step}`).toBeLessThan(1e-8 * expected);
      }
    });
  });

  it('takes segment 0 where no segments are given', () => {
    scope(() => {
      const model = filled();
      const zeros = tensor(
        grid(() => 0n),
        { device },
      );
      const [, plain] = model.bert.forward(tokens());
      const [, given] = model.bert.forward(tokens(), { tokenTypes: zeros });
      expectClose(valuesOf(plain.detach()), valuesOf(given.detach()), 1e-12, 'pooled');
    });
  });

  it('starts with normal weights, and zeros for biases and the padding token', () => {
    scope(() => {
      const model = new models.Bert({ ...small, hiddenSize: 64, device });
      const { words } = model.embeddings;
      const deviation = Math.sqrt(Number(model.pooler.weight.square().mean().item()));
      expect(deviation).toBeGreaterThan(0.018);
      expect(deviation).toBeLessThan(0.022);
      expect(Number(words.weight.at(0).abs().sum().item())).toBe(0);
      expect(Number(words.weight.at(1).abs().sum().item())).toBeGreaterThan(0);
      expect(Number(model.pooler.bias?.abs().sum().item())).toBe(0);
      const [layer] = model.encoder.layers;
      expect(Number(layer?.norm1.weight?.mean().item())).toBe(1);
    });
  });

  it('refuses sequences that are too long', () => {
    const model = new models.Bert({ ...small, device });
    const long = tensor([[1n, 1n, 1n, 1n, 1n, 1n, 1n]], { device });
    expect(() => model.forward(long)).toThrow(/Bert: tokens must be \[B,T\] with T from 1 to 6/);
    expect(() => new models.Bert({ ...small, numHiddenLayers: 0 })).toThrow(/numLayers/);
  });
});
