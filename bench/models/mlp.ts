/**
 * The step that is timed: a training step of the MLP 784-256-128-10 on one batch of 100, with
 * cross-entropy and SGD (learning rate .001, momentum .9). Weights and data follow formulas, so
 * that every rival starts from the same numbers; mlp_torch.py has the same ones.
 */
import { file, node, oursAndPyTorch } from './rivals.js';
import type { Workload } from './runner.js';

export const sizes = [784, 256, 128, 10] as const;
export const batch = 100;
export const learningRate = 0.001;
export const momentum = 0.9;

/** Pixels, [batch, 784], in [-1, 1). */
export function pixels(): Float32Array {
  return Float32Array.from({ length: batch * sizes[0] }, (_, i) => ((i * 7919) % 256) / 128 - 1);
}

/** Multiplications and additions of the products: forward, dW, and dx of all but the first layer. */
function operations(): number {
  let count = 0;
  for (let layer = 0; layer + 1 < sizes.length; ++layer) {
    const product = 2 * batch * (sizes[layer] as number) * (sizes[layer + 1] as number);
    count += product * (layer === 0 ? 2 : 3);
  }
  return count;
}

export const mlp: Workload = {
  name: 'mlp',
  title: `training step of the MLP ${sizes.join('-')}, batch ${batch}, SGD with momentum`,
  operations: operations(),
  rivals: (setting) => [
    ...oursAndPyTorch('mlp', setting),
    // In Node.js the wasm backend has one thread (tfjs issue 3830).
    ...(setting.device === 'cpu' && setting.threads === 1
      ? [{ name: 'TensorFlow.js wasm', threads: 1, command: [...node, file('mlp_tfjs.ts')] }]
      : []),
  ],
};
