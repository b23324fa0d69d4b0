/**
 * The step that is timed: a training step of BERT base as a classifier of sentences, with
 * cross-entropy and Adam. 12 layers, 12 heads, 768 wide, 3072 between with GELU, 30522 tokens,
 * batches of 8 sequences of 128 (32 in `bert-base-32`, for GPUs), dropout .1 everywhere (as in PyTorch's encoder layer, so also
 * after GELU). Weights and data follow formulas, which bert_torch.py has too. The three steps whose
 * losses are compared run without dropout.
 */
import { oursAndPyTorch } from './rivals.js';
import type { Workload } from './runner.js';

export const length = 128;
export const layers = 12;
export const width = 768;
export const between = 3072;
export const vocabulary = 30522;
export const learningRate = 2e-5;

/** Token numbers, [batch, length]. */
export function sentences(batch: number): number[] {
  return Array.from({ length: batch * length }, (_, i) => (i * 7919) % vocabulary);
}

/** Products of the linear layers, forward and twice backward, and attention's six. */
function operations(batch: number): number {
  const weights = layers * (4 * width * width + 2 * width * between);
  return 6 * batch * length * weights + layers * 12 * batch * length * length * width;
}

export function bertWorkload(name: 'bert-base' | 'bert-base-32'): Workload {
  const batch = name === 'bert-base' ? 8 : 32;
  return {
    name,
    title: `training step of BERT base, batch ${batch}, length ${length}, dropout .1, Adam`,
    operations: operations(batch),
    probe: 1,
    // On the CPU a process takes some 3 GiB, so ours runs in one mode; kernels of so many
    // milliseconds hide the host's work in both.
    rivals: (setting) =>
      oursAndPyTorch(
        ...(['bert', setting, [String(batch)]] as const),
        setting.device === 'cpu' ? ['eager'] : undefined,
      ),
  };
}
