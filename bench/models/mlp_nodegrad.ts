/** The MLP step by nodegrad: `mlp_nodegrad.ts eager|captured THREADS`. */
import { readFileSync } from 'node:fs';
import { capture, models, nn, optim, setNumThreads, steps, type Tensor, tensor } from 'nodegrad';
import { batch, classes, learningRate, momentum, pixels, sizes, weights } from './mlp.js';
import { serve } from './rival.js';

const [mode, threads] = process.argv.slice(2);
setNumThreads(Number(threads));

const model = models.mlp(sizes);
for (const [at, layer] of model.layers.filter((found) => found instanceof nn.Linear).entries()) {
  layer.weight.copyFrom(tensor(weights(at), { dtype: 'float32' }).reshape(layer.weight.shape));
  layer.bias?.copyFrom(tensor(0));
}
const criterion = new nn.CrossEntropyLoss();
const optimizer = new optim.SGD(model.parameters(), { lr: learningRate, momentum });
const x = tensor(pixels()).reshape([batch, sizes[0]]).keep();
const y = tensor(classes(), { dtype: 'int64' }).keep();

const eager = (images: Tensor, labels: Tensor): Tensor => {
  optimizer.zeroGrad();
  const loss = criterion.forward(model.forward(images), labels);
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
);
