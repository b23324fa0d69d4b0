/** The MLP step by nodegrad: `mlp_nodegrad.ts eager|captured THREADS`. */
import { models, nn, optim, tensor } from 'nodegrad';
import { batch, learningRate, momentum, pixels, sizes } from './mlp.js';
import { serveSteps, stepOf } from './nodegrad.js';
import { classes, weights } from './values.js';

const model = models.mlp(sizes);
for (const [at, layer] of model.layers.filter((found) => found instanceof nn.Linear).entries()) {
  const { weight, inFeatures } = layer;
  weight.copyFrom(tensor(weights(at, weight.size, 1 / Math.sqrt(inFeatures)), weight.shape));
  layer.bias?.copyFrom(tensor(0));
}
const criterion = new nn.CrossEntropyLoss();
const optimizer = new optim.SGD(model.parameters(), { lr: learningRate, momentum });
const step = stepOf(optimizer, (x, y) => criterion.forward(model.forward(x), y));
const x = tensor(pixels(), [batch, sizes[0]]);
const y = tensor(classes(batch, 10), { dtype: 'int64' });
await serveSteps(model, step, [x, y]);
