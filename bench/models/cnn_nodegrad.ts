/** The CNN step by nodegrad: `cnn_nodegrad.ts eager|captured THREADS`. */
import { models, nn, optim, tensor } from 'nodegrad';
import { batch, channels, hidden, learningRate, pixels, side } from './cnn.js';
import { serveSteps, stepOf } from './nodegrad.js';
import { classes, weights } from './values.js';

const [depth, ...blocks] = channels;
const model = models.cnn({ input: [depth, side, side], channels: blocks, hidden });
for (const [at, parameter] of [...model.parameters()].entries()) {
  const { shape, size } = parameter;
  const bound = Math.sqrt((shape[0] as number) / size);
  parameter.copyFrom(shape.length === 1 ? tensor(0) : tensor(weights(at, size, bound), shape));
}
const criterion = new nn.BCEWithLogitsLoss();
const optimizer = new optim.Adam(model.parameters(), { lr: learningRate });
const step = stepOf(optimizer, (x, y) => criterion.forward(model.forward(x), y));
const x = tensor(pixels(), [batch, depth, side, side]);
const y = tensor(classes(batch, 2), [batch, 1]);
// Each step takes a good part of a second.
await serveSteps(model, step, [x, y], { warmUp: 3 });
