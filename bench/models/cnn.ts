/**
 * The step that is timed: a training step of the cats and dogs network (three blocks of a 3 x 3
 * convolution, ReLU and 2 x 2 maximum; 512 hidden features; one logit) on one batch of 32 images of
 * 150 x 150, with binary cross-entropy and Adam. Weights and data follow formulas, so that every
 * rival starts from the same numbers; cnn_torch.py has the same ones.
 */
import { oursAndPyTorch } from './rivals.js';
import type { Workload } from './runner.js';

export const batch = 32;
export const channels = [3, 32, 64, 128] as const;
export const side = 150;
export const hidden = 512;
export const learningRate = 1e-5;

/** Pixels, [batch, 3, 150, 150], in [0, 1). */
export function pixels(): Float32Array {
  const count = batch * channels[0] * side * side;
  return Float32Array.from({ length: count }, (_, i) => ((i * 7919) % 2039) / 2039);
}

/** Multiplications and additions: forward, dW, and dx of all but the first layer. */
function operations(): number {
  let count = 0;
  let size: number = side;
  for (let block = 0; block + 1 < channels.length; ++block) {
    const positions = batch * (size - 2) ** 2;
    const taps = 9 * (channels[block] as number) * (channels[block + 1] as number);
    count += 2 * positions * taps * (block === 0 ? 2 : 3);
    size = Math.floor((size - 2) / 2);
  }
  const features = size * size * (channels.at(-1) as number);
  return count + 3 * 2 * batch * (features * hidden + hidden);
}

export const cnn: Workload = {
  name: 'cnn',
  title: `training step of the cats and dogs CNN, ${side} x ${side}, batch ${batch}, Adam`,
  operations: operations(),
  rivals: (setting) => oursAndPyTorch('cnn', setting),
};
