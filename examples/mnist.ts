/**
 * Handwritten digits: a multi-layer perceptron on MNIST.
 *
 * 784-256-128-10 with ReLU, pixels scaled to [-1, 1], cross-entropy, SGD with momentum. Two epochs
 * bring it to about 89.5% of the 10,000 test images, as in PyTorch.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import {
  capture,
  DataLoader,
  loadCheckpoint,
  manualSeed,
  matrixPlot,
  metrics,
  models,
  nn,
  noGrad,
  normalize,
  optim,
  ProgressBar,
  saveCheckpoint,
  type Tensor,
  TensorDataset,
} from 'nodegrad';
import { digitsFlag, openDigits } from './support/digits.js';
import { amount, count, parseFlags, positive, text } from './support/flags.js';
import { leaveIfStopped, stopSignal } from './support/stop.js';

const flags = parseFlags('mnist', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: count(2, 'times through the training images'),
  batch: positive(100, 'images per step'),
  lr: amount(0.001, 'learning rate'),
  momentum: amount(0.9, 'momentum of SGD'),
  seed: count(0, 'seed of the initial weights and of shuffling'),
  data: digitsFlag,
  out: text('runs/mnist', 'folder for the picture of the confusion matrix'),
  steps: count(Number.POSITIVE_INFINITY, 'stop after so many steps'),
  test: positive(10_000, 'test images to evaluate on'),
  save: text(undefined, 'write a checkpoint at the end and on Ctrl-C'),
  saveEvery: count(0, 'also write it every so many steps'),
  resume: text(undefined, 'go on from a checkpoint'),
});
const { device, save: file } = flags;
manualSeed(flags.seed);

const { train, test } = await openDigits(flags.data);
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

const extra = { total: 0 }; // the losses of the epoch so far, added up
const run = { model, optimizer, loader };
if (flags.resume) Object.assign(extra, await loadCheckpoint(flags.resume, run));
const save = () => file && saveCheckpoint(file, { ...run, extra });

const stop = stopSignal();
let steps = 0;
const stopping = () => stop.aborted || steps >= flags.steps;

while (loader.epoch < flags.epochs && !stopping()) {
  const label = `epoch ${loader.epoch + 1}/${flags.epochs}`;
  const progress = new ProgressBar(label, loader, { every: 100, total: extra.total });
  for await (const [x, y] of loader) {
    progress.step(y.size, await step(x, y));
    ++steps;
    if (flags.saveEvery && steps % flags.saveEvery === 0) {
      extra.total = progress.total;
      await save();
    }
    if (stopping()) break;
  }
  progress.finish();
  extra.total = loader.position === 0 ? 0 : progress.total;
}
await save();

leaveIfStopped(stop, file);

const [images, labels] = [test.images, test.labels].map((all) => all.slice(0, 0, flags.test));
const unseen = new TensorDataset(images as Tensor, labels as Tensor);
const confusion = new metrics.ConfusionMatrix({ classes: 10 });
for await (const [x, y] of new DataLoader(unseen, { batchSize: 1000, device, transform })) {
  confusion.update(
    noGrad(() => model.forward(x)),
    y,
  );
  leaveIfStopped(stop, file);
}
const counts = confusion.compute(); // [true digit][digit it is taken for]
const title = 'Digits (rows), and what they are taken for';
await mkdir(flags.out, { recursive: true });
await writeFile(`${flags.out}/confusion.svg`, matrixPlot(counts, { title }));
const correct = counts.reduce((sum, row, digit) => sum + (row[digit] as number), 0);
console.log(`test accuracy: ${((100 * correct) / unseen.length).toFixed(2)}%`);
