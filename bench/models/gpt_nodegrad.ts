/** The transformer's step by nodegrad: `gpt_nodegrad.ts SIZES… eager|captured THREADS`; gpt.ts. */
import { crossEntropy, nn, optim, type Tensor, tensor } from 'nodegrad';
import { characters, learningRate, sizesOf, weightDecay } from './gpt.js';
import { serveSteps, stepOf } from './nodegrad.js';
import { namedWeights } from './values.js';

const sizes = sizesOf(process.argv.slice(2));
const { batch, heads, layers, length, vocabulary, width } = sizes;

class Gpt extends nn.Module {
  characters = new nn.Embedding(vocabulary, width);
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
    let x = this.positions.forward(this.characters.forward(tokens));
    for (const layer of this.layers) x = layer.forward(x, { isCausal: true });
    return this.head.forward(this.norm.forward(x));
  }
}

const model = new Gpt();
const named = [...model.namedParameters()].sort(([a], [b]) => (a < b ? -1 : 1));
for (const [place, [name, parameter]] of named.entries()) {
  const values = namedWeights(name, place, parameter.size, 0.05);
  parameter.copyFrom(tensor(values, parameter.shape));
}
const optimizer = new optim.AdamW(model.parameters(), { lr: learningRate, weightDecay });
const step = stepOf(optimizer, (x, y) =>
  crossEntropy(model.forward(x).reshape(batch * length, vocabulary), y),
);
const { inputs, targets } = characters(sizes);
const x = tensor(inputs, [batch, length], { dtype: 'int64' });
const y = tensor(targets, { dtype: 'int64' });
await serveSteps(model, step, [x, y]);
