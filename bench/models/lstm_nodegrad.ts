/** The LSTM steps by nodegrad: `lstm_nodegrad.ts lstm|keras-lstm eager|captured THREADS`. */
import { readFileSync } from 'node:fs';
import {
  capture,
  indexSelect,
  nn,
  optim,
  setNumThreads,
  softplus,
  steps as stepsOf,
  type Tensor,
  tensor,
  zeros,
} from 'nodegrad';
import {
  batch,
  type Classifier,
  type ClassifierName,
  classes,
  classifiers,
  learningRate,
  sequences,
  steps,
  weights,
} from './lstm.js';
import { serve } from './rival.js';

const [name, mode, threads] = process.argv.slice(2) as [ClassifierName, string, string];
setNumThreads(Number(threads));
const sizes: Classifier = classifiers[name];

class Model extends nn.Module {
  embedding = nn.parameter(zeros([sizes.tokens, sizes.embedding]));
  head = new nn.Linear(sizes.hidden, sizes.outputs);
  lstm: nn.LSTM;

  constructor(dropout: number) {
    super();
    const { embedding, hidden, layers: numLayers } = sizes;
    this.lstm = new nn.LSTM(embedding, hidden, { numLayers, batchFirst: true, dropout });
    const all = [this.embedding, ...this.lstm.parameters(), ...this.head.parameters()];
    for (const [at, p] of all.entries()) {
      const bound = at === 0 ? 1 : 1 / Math.sqrt(hidden);
      p.copyFrom(tensor(weights(at, p.size, bound)).reshape(p.shape));
    }
  }

  forward(tokens: Tensor): Tensor {
    const x = indexSelect(this.embedding, tokens).reshape([batch, steps, sizes.embedding]);
    const [, [h]] = this.lstm.forward(x);
    return this.head.forward(h.select(0, -1));
  }
}

const criterion = new nn.CrossEntropyLoss();
function lossOf(logits: Tensor, labels: Tensor): Tensor {
  if (sizes.outputs > 1) return criterion.forward(logits, labels);
  const z = logits.reshape([batch]);
  return softplus(z).sub(z.mul(labels)).mean();
}

function stepOf(dropout: number): (x: Tensor, y: Tensor) => Tensor {
  const model = new Model(dropout);
  const optimizer = new optim.Adam(model.parameters(), { lr: learningRate });
  return (tokens, labels) => {
    optimizer.zeroGrad();
    const loss = lossOf(model.forward(tokens), labels);
    loss.backward();
    optimizer.step();
    return loss;
  };
}

const x = tensor(sequences(sizes.tokens), [batch * steps], { dtype: 'int64' }).keep();
const y = tensor(classes(), { dtype: sizes.outputs > 1 ? 'int64' : 'float32' }).keep();

function runner(dropout: number): (count: number) => Promise<number> {
  const eager = stepOf(dropout);
  const step = mode === 'captured' ? capture(eager) : eager;
  return async (count) => {
    for (const i of stepsOf(count)) {
      const loss = await step(x, y);
      if (i === count - 1) return (await loss.read())[0] as number;
    }
    return Number.NaN;
  };
}

// The first call is the one whose loss is compared.
let run = runner(0);
let checked = false;
const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };
await serve(
  { version: `nodegrad ${version}`, details: `own kernels, Node.js ${process.version}` },
  async (count) => {
    const loss = await run(count);
    if (!checked && sizes.dropout > 0) run = runner(sizes.dropout);
    checked = true;
    return loss;
  },
);
