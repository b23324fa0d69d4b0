/** The step of BERT base by nodegrad: `bert_nodegrad.ts BATCH eager|captured THREADS`. */
import { models, nn, optim, tensor } from 'nodegrad';
import { learningRate, length, sentences } from './bert.js';
import { serveSteps, stepOf } from './nodegrad.js';
import { classes, namedWeights } from './values.js';

const batch = Number(process.argv[2]);
const model = new models.BertClassifier();
const named = [...model.namedParameters()].sort(([a], [b]) => (a < b ? -1 : 1));
for (const [place, [name, parameter]] of named.entries()) {
  const values = namedWeights(name, place, parameter.size, 0.035);
  parameter.copyFrom(tensor(values, parameter.shape));
}
const criterion = new nn.CrossEntropyLoss();
const optimizer = new optim.Adam(model.parameters(), { lr: learningRate });
const step = stepOf(optimizer, (x, y) => criterion.forward(model.forward(x), y));
const x = tensor(sentences(batch), [batch, length], { dtype: 'int64' });
const y = tensor(classes(batch, 2), { dtype: 'int64' });
// A step takes seconds.
await serveSteps(model, step, [x, y], { checked: 3, warmUp: 1 });
