/**
 * The step that is timed: a training step of a language model, with cross-entropy and AdamW: a pre-norm
 * transformer with GELU and no dropout. `gpt-char`: 4 layers, 4 heads, 128 wide, 64 positions, batches
 * of 12, 65 characters. `gpt2-124m`, for GPUs: 12 layers, 12 heads, 768 wide, 1024 positions, batches
 * of 8, 50304 tokens (GPT-2's rounded up). Weights and data follow formulas, so that both rivals start
 * from the same numbers; gpt_torch.py has the same ones.
 */
import { oursAndPyTorch } from './rivals.js';
import type { Workload } from './runner.js';

/** The sizes, which both programs take as their first arguments in this order. */
export interface GptSizes {
  layers: number;
  heads: number;
  width: number;
  length: number;
  batch: number;
  vocabulary: number;
}

const variants: Record<'gpt-char' | 'gpt2-124m', GptSizes> = {
  'gpt-char': { layers: 4, heads: 4, width: 128, length: 64, batch: 12, vocabulary: 65 },
  'gpt2-124m': { layers: 12, heads: 12, width: 768, length: 1024, batch: 8, vocabulary: 50304 },
};

export function sizesOf(args: readonly string[]): GptSizes {
  const [layers = 0, heads = 0, width = 0, length = 0, batch = 0, vocabulary = 0] =
    args.map(Number);
  return { layers, heads, width, length, batch, vocabulary };
}

export const learningRate = 1e-3;
export const weightDecay = 0.1;

/** Characters of batch and position, and those that follow, [batch · length] each. */
export function characters({ batch, length, vocabulary }: GptSizes): {
  inputs: number[];
  targets: number[];
} {
  const at = (b: number, t: number): number => (b * 31 + t * t * 7 + t) % vocabulary;
  const all = (shift: number): number[] =>
    Array.from({ length: batch * length }, (_, i) =>
      at(Math.floor(i / length), (i % length) + shift),
    );
  return { inputs: all(0), targets: all(1) };
}

/** Products of the linear layers, forward and twice backward, and attention's six. */
function operations({ layers, width, length, batch, vocabulary }: GptSizes): number {
  const weights = layers * 12 * width * width + vocabulary * width;
  return 6 * batch * length * weights + layers * 12 * batch * length * length * width;
}

export function gptWorkload(name: keyof typeof variants): Workload {
  const sizes = variants[name];
  const { layers, heads, width, batch, length } = sizes;
  return {
    name,
    title: `training step of a transformer, ${layers} layers, ${heads} heads, ${width} wide, ${batch} x ${length} tokens, AdamW`,
    operations: operations(sizes),
    rivals: (setting) => oursAndPyTorch('gpt', setting, Object.values(sizes).map(String)),
  };
}
