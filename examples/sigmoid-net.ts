/**
 * Sigmoid layers: a truth table that no straight line cuts, and a net whose loss falls at every step.
 *
 * 1. Exclusive or, four rows: 2-4-1 with sigmoids, binary cross-entropy, through compile and fit.
 * 2. 3-10-3 from [.1 .2 .3] to [.4 .5 .6] by plain gradient descent at .01 on the mean squared
 *    error, by hand.
 */
import { layers, manualSeed, nn, noGrad, optim, sequential, sigmoid, tensor } from 'nodegrad';
import { count, parseFlags, positive, text } from './support/flags.js';

const flags = parseFlags('sigmoid-net', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: positive(400, 'times through the four rows'),
  steps: count(10, 'steps of the second net'),
  seed: count(0, 'seed of the initial weights'),
});
const { device, epochs, seed, steps } = flags;
manualSeed(seed);

console.log('Exclusive or:');
const rows = [
  [0, 0],
  [0, 1],
  [1, 0],
  [1, 1],
];
const truth = [0, 1, 1, 0];
const table = sequential(
  [layers.dense(4, { activation: 'sigmoid' }), layers.dense(1, { activation: 'sigmoid' })],
  { inputShape: [2], device },
);
table.compile({
  optimizer: 'adam',
  learningRate: 0.1,
  loss: 'binaryCrossentropy',
  metrics: ['accuracy'],
});
const { history } = await table.fit(rows, truth, { epochs, batchSize: 4, verbose: 0 });
const { loss: losses = [] } = history;
console.log(`  loss ${losses.at(0)?.toFixed(4)} at first, ${losses.at(-1)?.toFixed(4)} at the end`);
const probabilities = (await table.predict(rows)).data() as Float32Array;
for (const [i, row] of rows.entries()) {
  console.log(`  ${row.join(' xor ')}: ${probabilities[i]?.toFixed(3)}`);
}

console.log('From [.1 .2 .3] to [.4 .5 .6]:');
class TenNeurons extends nn.Module {
  hidden = new nn.Linear(3, 10, { device });
  output = new nn.Linear(10, 3, { device });

  forward(x: ReturnType<typeof tensor>) {
    return sigmoid(this.output.forward(sigmoid(this.hidden.forward(x))));
  }
}
const model = new TenNeurons();
const optimizer = new optim.SGD(model.parameters(), { lr: 0.01 });
const criterion = new nn.MSELoss();
const x = tensor([0.1, 0.2, 0.3], { device });
const y = tensor([0.4, 0.5, 0.6], { device });
for (let i = 0; i < steps; ++i) {
  optimizer.zeroGrad();
  const loss = criterion.forward(model.forward(x), y);
  loss.backward();
  optimizer.step();
  console.log(`  step ${i + 1}: loss ${Number(loss.item()).toFixed(9)}`);
}
const found = noGrad(() => model.forward(x)).data() as Float32Array;
console.log(`  output ${Array.from(found, (value) => value.toFixed(3)).join(' ')}`);
