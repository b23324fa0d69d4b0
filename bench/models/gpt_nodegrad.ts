/** The step of the small transformer by nodegrad: `gpt_nodegrad.ts eager|captured THREADS`. */
import { readFileSync } from 'node:fs';
import {
  capture,
  crossEntropy,
  indexSelect,
  nn,
  optim,
  setNumThreads,
  steps,
  type Tensor,
  tensor,
  zeros,
} from 'nodegrad';
import {
  batch,
  characters,
  heads,
  layers,
  learningRate,
  length,
  values,
  vocabulary,
  weightDecay,
  width,
} from './gpt.js';
import { serve } from './rival.js';

const [mode, threads] = process.argv.slice(2);
setNumThreads(Number(threads));

class Gpt extends nn.Module {
  characters = nn.parameter(zeros([vocabulary, width]));
  positions = new nn.LearnedPositions(length, width);
  layers = Array.from(
    { length: layers },
    () =>
      new nn.TransformerEncoderLayer(width, heads, {
        dimFeedforward: 4 * width,
        dropout: 0,
        activation: 'gelu',
        batchFirst: true,
        normFirst: true,
      }),
  );
  norm = new nn.LayerNorm(width);
  head = new nn.Linear(width, vocabulary, { bias: false });

  forward(tokens: Tensor): Tensor {
    const embedded = indexSelect(this.characters, tokens).reshape(batch, length, width);
    let x = this.positions.forward(embedded);
    for (const layer of this.layers) x = layer.forward(x, { isCausal: true });
    return this.head.forward(this.norm.forward(x)).reshape(batch * length, vocabulary);
  }
}

const model = new Gpt();
const named = [...model.namedParameters()].sort(([a], [b]) => (a < b ? -1 : 1));
for (const [place, [name, parameter]] of named.entries()) {
  parameter.copyFrom(tensor(values(name, place, parameter.size), parameter.shape));
}
const optimizer = new optim.AdamW(model.parameters(), { lr: learningRate, weightDecay });
const { inputs, targets } = characters();
const x = tensor(inputs, { dtype: 'int64' }).keep();
const y = tensor(targets, { dtype: 'int64' }).keep();

const eager = (tokens: Tensor, following: Tensor): Tensor => {
  optimizer.zeroGrad();
  const loss = crossEntropy(model.forward(tokens), following);
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
