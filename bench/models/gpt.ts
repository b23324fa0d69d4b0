/**
 * The step that is timed: a training step of a small language model over characters, with
 * cross-entropy and AdamW. A pre-norm transformer with GELU: 4 layers, 4 heads, 128 wide, 64
 * positions, batches of 12, 65 characters, no dropout. Weights and data follow formulas, so that
 * both rivals start from the same numbers; gpt_torch.py has the same ones.
 */
import { oursAndPyTorch } from './rivals.js';
import type { Workload } from './runner.js';

export const layers = 4;
export const heads = 4;
export const width = 128;
export const length = 64;
export const batch = 12;
export const vocabulary = 65;
export const learningRate = 1e-3;
export const weightDecay = 0.1;

/** Characters of batch and position, and those that follow, [batch · length] each. */
export function characters(): { inputs: number[]; targets: number[] } {
  const at = (b: number, t: number): number => (b * 31 + t * t * 7 + t) % vocabulary;
  const all = (shift: number): number[] =>
    Array.from({ length: batch * length }, (_, i) =>
      at(Math.floor(i / length), (i % length) + shift),
    );
  return { inputs: all(0), targets: all(1) };
}

/** Products of the linear layers, forward and twice backward, and attention's six. */
function operations(): number {
  const weights = layers * 12 * width * width + vocabulary * width;
  return 6 * batch * length * weights + layers * 12 * batch * length * length * width;
}

export const gpt: Workload = {
  name: 'gpt-char',
  title: `training step of a transformer, ${layers} layers, ${heads} heads, ${width} wide, ${batch} x ${length} characters, AdamW`,
  operations: operations(),
  rivals: (setting) => oursAndPyTorch('gpt', setting),
};
