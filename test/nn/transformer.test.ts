/** Attention and transformer layers against PyTorch's, from the same weights and inputs. */
import { describe, expect, it } from 'vitest';
import { crossEntropy, nn, optim, scope, type Tensor, tensor } from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { type Packed, readVectors, uniformOf, unpacked } from '../support/vectors.js';

interface Case {
  kind: 'multihead' | 'encoder' | 'decoder' | 'training';
  options: Record<string, unknown>;
  shapes: number[][];
  masked: string;
  seed: number;
  outputs: Packed[];
  inputGradients: Packed[];
  gradients: Record<string, Packed>;
  losses: number[];
}

const { cases } = readVectors<Case>('transformers');
const of = (...kinds: string[]): [string, Case][] =>
  cases
    .filter(({ kind }) => kinds.includes(kind))
    .map((found) => [`${found.kind} ${JSON.stringify(found.options ?? {})}`, found]);

/** fill() of attention.py: PyTorch's order of names, seed by seed. */
function fill(module: nn.Module, names: readonly string[], seed: number, scale: number): void {
  const own = module.stateDict();
  expect([...own.keys()].sort()).toEqual([...names].sort());
  const state = names.map((name, i): [string, Tensor] => {
    const values = uniformOf(seed + i, (own.get(name) as Tensor).shape, -scale, scale);
    return [name, name.includes('norm') && name.endsWith('weight') ? values.add(1) : values];
  });
  module.loadStateDict(new Map(state));
}

function bools(rows: number, columns: number, f: (i: number, j: number) => boolean): boolean[][] {
  return Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (_, j) => f(i, j)));
}

function check(module: nn.Module, inputs: Tensor[], outputs: Tensor[], found: Case): void {
  outputs.forEach((output, i) => {
    const expected = unpacked(found.outputs[i] as Packed);
    expectClose(valuesOf(output.detach()), expected, 1e-10, `output ${i}`);
  });
  const [first] = outputs as [Tensor];
  first.backward(uniformOf(found.seed + 300, first.shape).to(first.device));
  inputs.forEach((input, i) => {
    const expected = unpacked(found.inputGradients[i] as Packed);
    expectClose(valuesOf(input.grad as Tensor), expected, 1e-9, `gradient of input ${i}`);
  });
  for (const [name, parameter] of module.namedParameters()) {
    const expected = unpacked(found.gradients[name] as Packed);
    const actual = valuesOf(parameter.grad as Tensor);
    // Keys' biases have no effect: theirs is the noise of a sum that is 0.
    const noise = Math.max(...actual.data.map(Math.abs), ...expected.data.map(Math.abs)) < 1e-12;
    if (!noise) expectClose(actual, expected, 1e-9, `gradient of ${name}`);
  }
}

describe.each(devices)('transformers on $name', (device) => {
  const place = { dtype: 'float64', device } as const;
  const inputsOf = (found: Case): Tensor[] =>
    found.shapes.map((shape, i) =>
      uniformOf(found.seed + 100 + i, shape)
        .to(device)
        .detach()
        .requireGrad(),
    );
  const padding = (keys: number, left: number): Tensor =>
    tensor(
      bools(2, keys, (i, j) => i === 1 && j >= keys - left),
      { device },
    );

  it.each(of('multihead'))('%s', (_, found) => {
    scope(() => {
      const module = new nn.MultiheadAttention(8, 2, { ...found.options, ...place });
      fill(module, Object.keys(found.gradients), found.seed, 0.5);
      const inputs = inputsOf(found);
      const [query, key = query, value = query] = inputs as [Tensor, Tensor?, Tensor?];
      const masks: nn.AttentionMasks = {};
      if (found.masked === 'causal') {
        masks.attnMask = tensor(
          bools(4, 4, (i, j) => j > i),
          { device },
        );
      } else if (found.masked === 'both') {
        masks.attnMask = uniformOf(found.seed + 200, [4, 4, 5]).to(device);
        masks.keyPaddingMask = padding(5, 2);
      }
      const [output, weights] = module.forward(query, key, value, { ...masks, needWeights: true });
      check(module, inputs, [output, weights as Tensor], found);
      // The same without weights, which is another way through the kernels.
      module.zeroGrad();
      for (const input of inputs) input.zeroGrad();
      const [alone, none] = module.forward(query, key, value, masks);
      expect(none).toBeNull();
      check(module, inputs, [alone], found);
    });
  });

  it.each(of('encoder', 'decoder'))('%s', (_, found) => {
    scope(() => {
      const options = { dimFeedforward: 12, dropout: 0, batchFirst: true, ...found.options };
      const norm = new nn.LayerNorm(8, place);
      const inputs = inputsOf(found);
      const [x, memory] = inputs as [Tensor, Tensor];
      if (found.kind === 'encoder') {
        const layer = new nn.TransformerEncoderLayer(8, 2, { ...options, ...place });
        const encoder = new nn.TransformerEncoder(layer, 1, { norm });
        fill(encoder, Object.keys(found.gradients), found.seed, 0.5);
        check(encoder, inputs, [encoder.forward(x, { keyPaddingMask: padding(4, 1) })], found);
      } else {
        const layer = new nn.TransformerDecoderLayer(8, 2, { ...options, ...place });
        const decoder = new nn.TransformerDecoder(layer, 1, { norm });
        fill(decoder, Object.keys(found.gradients), found.seed, 0.5);
        const masks = { isCausal: true, memoryKeyPaddingMask: padding(3, 1) };
        check(decoder, inputs, [decoder.forward(x, memory, masks)], found);
      }
    });
  });

  it('trains a small encoder as PyTorch does', () => {
    class Model extends nn.Module {
      encoder = new nn.TransformerEncoder(
        () =>
          new nn.TransformerEncoderLayer(16, 4, {
            dimFeedforward: 32,
            dropout: 0,
            activation: 'gelu',
            batchFirst: true,
            normFirst: true,
            ...place,
          }),
        2,
      );
      head = new nn.Linear(16, 5, place);
      forward(x: Tensor): Tensor {
        return this.head.forward(this.encoder.forward(x, { isCausal: true }).mean(1));
      }
    }
    const layerNames = [
      'self_attn.in_proj_weight',
      'self_attn.in_proj_bias',
      'self_attn.out_proj.weight',
      'self_attn.out_proj.bias',
      ...['linear1', 'linear2', 'norm1', 'norm2'].flatMap((n) => [`${n}.weight`, `${n}.bias`]),
    ];
    scope(() => {
      const model = new Model();
      const names = [0, 1].flatMap((i) => layerNames.map((n) => `encoder.layers.${i}.${n}`));
      fill(model, [...names, 'head.weight', 'head.bias'], 20000, 0.25);
      const optimizer = new optim.AdamW(model.parameters(), { lr: 0.01 });
      const target = tensor([0n, 1n, 2n, 3n], { device });
      const [{ losses }] = cases.filter(({ kind }) => kind === 'training') as [Case];
      losses.forEach((expected, step) => {
        const x = uniformOf(30000 + (step % 3), [4, 6, 16]).to(device);
        optimizer.zeroGrad();
        const loss = crossEntropy(model.forward(x), target);
        loss.backward();
        optimizer.step();
        expect(Math.abs(Number(loss.item()) - expected), `loss ${step}`).toBeLessThan(
          1e-8 * expected,
        );
      });
    });
  });
});
