/**
 * The step that is timed: a training step of a classifier of token sequences, batch 32 of length
 * 200, with Adam (learning rate .001). `lstm`: embedding 25002x100, two LSTM layers of 256 with
 * dropout .5 between them, the last h, linear to 2, cross-entropy. `keras-lstm`: embedding
 * 10000x32, LSTM 128, the last h, linear to 1, binary cross-entropy. Weights and data follow
 * formulas, which lstm_torch.py has too. The ten steps whose losses are compared run without
 * dropout.
 */
import { oursAndPyTorch } from './rivals.js';
import type { Workload } from './runner.js';

export const batch = 32;
export const steps = 200;
export const learningRate = 0.001;

export interface Classifier {
  tokens: number;
  embedding: number;
  hidden: number;
  layers: number;
  dropout: number;
  outputs: number;
}

export const classifiers = {
  lstm: { tokens: 25002, embedding: 100, hidden: 256, layers: 2, dropout: 0.5, outputs: 2 },
  'keras-lstm': { tokens: 10000, embedding: 32, hidden: 128, layers: 1, dropout: 0, outputs: 1 },
} as const satisfies Record<string, Classifier>;
export type ClassifierName = keyof typeof classifiers;

/** Token numbers, [batch, steps]. */
export function sequences(tokens: number): number[] {
  return Array.from({ length: batch * steps }, (_, i) => (i * 7919) % tokens);
}

/** Multiplications and additions of the LSTM's products, of which the rest is next to nothing. */
function operations({ embedding, hidden, layers }: Classifier): number {
  let count = 0;
  for (let layer = 0; layer < layers; ++layer) {
    const inputs = layer === 0 ? embedding : hidden;
    count += 3 * 2 * batch * steps * 4 * hidden * (inputs + hidden);
  }
  return count;
}

/** One of the two workloads. */
export function lstmWorkload(name: ClassifierName): Workload {
  const { tokens, embedding, hidden, layers } = classifiers[name];
  return {
    name,
    title:
      `training step of a classifier of sequences, embedding ${tokens}x${embedding}, ` +
      `LSTM ${layers}x${hidden}, batch ${batch}, length ${steps}, Adam`,
    operations: operations(classifiers[name]),
    rivals: (setting) => oursAndPyTorch('lstm', setting, [name]),
  };
}
