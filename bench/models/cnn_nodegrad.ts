/** The CNN step by nodegrad: `cnn_nodegrad.ts eager|captured THREADS`. */
import { readFileSync } from 'node:fs';
import {
  capture,
  mean,
  models,
  optim,
  setNumThreads,
  softplus,
  steps,
  type Tensor,
  tensor,
} from 'nodegrad';
import {
  batch,
  channels,
  classes,
  hidden,
  learningRate,
  pixels,
  side,
  warmUp,
  weights,
} from './cnn.js';
import { serve } from './rival.js';

const [mode, threads] = process.argv.slice(2);
setNumThreads(Number(threads));

const [depth, ...blocks] = channels;
const model = models.cnn({ input: [depth, side, side], channels: blocks, hidden });
for (const [at, parameter] of [...model.parameters()].entries()) {
  const { shape, size } = parameter;
  if (shape.length === 1) parameter.copyFrom(tensor(0));
  else parameter.copyFrom(tensor(weights(at, size, size / (shape[0] as number)), shape));
}
const optimizer = new optim.Adam(model.parameters(), { lr: learningRate });
const x = tensor(pixels(), [batch, depth, side, side]).keep();
const y = tensor(classes(), [batch, 1]).keep();

const eager = (images: Tensor, labels: Tensor): Tensor => {
  optimizer.zeroGrad();
  const logits = model.forward(images);
  const loss = mean(softplus(logits).sub(logits.mul(labels))); // binary cross-entropy of logits
  loss.backward();
  optimizer.step();
  return loss;
};
const captured = capture(eager);

async function runCaptured(count: number): Promise<number> {
  for (const i of steps(count)) {
    const loss = await captured(x, y);
    if (i === count - 1) return (await loss.read())[0] as number;
  }
  return Number.NaN;
}

async function runEager(count: number): Promise<number> {
  for (const i of steps(count)) {
    const loss = eager(x, y);
    if (i === count - 1) return Number(loss.item());
  }
  return Number.NaN;
}

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };
await serve(
  { version: `nodegrad ${version}`, details: `own kernels, Node.js ${process.version}` },
  mode === 'captured' ? runCaptured : runEager,
  warmUp,
);
