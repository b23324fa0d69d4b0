/** The LSTM steps by nodegrad: `lstm_nodegrad.ts lstm|keras-lstm eager|captured THREADS`. */
import { nn, optim, type Tensor, tensor } from 'nodegrad';
import {
  batch,
  type Classifier,
  type ClassifierName,
  classifiers,
  learningRate,
  sequences,
  steps,
} from './lstm.js';
import { serveSteps, stepOf } from './nodegrad.js';
import { classes, weights } from './values.js';

const sizes: Classifier = classifiers[process.argv[2] as ClassifierName];

class Model extends nn.Module {
  embedding = new nn.Embedding(sizes.tokens, sizes.embedding);
  lstm = new nn.LSTM(sizes.embedding, sizes.hidden, {
    numLayers: sizes.layers,
    batchFirst: true,
    dropout: sizes.dropout,
  });
  head = new nn.Linear(sizes.hidden, sizes.outputs);

  forward(tokens: Tensor): Tensor {
    const [, [h]] = this.lstm.forward(this.embedding.forward(tokens));
    return this.head.forward(h.select(0, -1));
  }
}

const model = new Model();
for (const [at, parameter] of [...model.parameters()].entries()) {
  const bound = at === 0 ? 1 : 1 / Math.sqrt(sizes.hidden);
  parameter.copyFrom(tensor(weights(at, parameter.size, bound), parameter.shape));
}
const optimizer = new optim.Adam(model.parameters(), { lr: learningRate });
const kinds = sizes.outputs > 1;
const criterion = kinds ? new nn.CrossEntropyLoss() : new nn.BCEWithLogitsLoss();
const step = stepOf(optimizer, (x, y) => criterion.forward(model.forward(x), y));
const x = tensor(sequences(sizes.tokens), [batch, steps], { dtype: 'int64' });
const y = kinds
  ? tensor(classes(batch, 2), { dtype: 'int64' })
  : tensor(classes(batch, 2), [batch, 1]);
await serveSteps(model, step, [x, y], { warmUp: 10 });
