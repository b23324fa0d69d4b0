/**
 * Cats and dogs by hand: gradients of a function, given to an optimizer, then precision and recall.
 *
 * The network of cats-dogs on the same folders of pictures, and what `fit` does there step by step:
 * forward pass, loss, gradients for the model's parameters, update. Gradients come by `valueAndGrad`
 * and go to `optimizer.apply`, or, with --by backward, gather in the parameters, where
 * `optimizer.step` finds them. Both come to the same numbers.
 */
import {
  capture,
  DataLoader,
  loadCheckpoint,
  manualSeed,
  metrics,
  models,
  nn,
  noGrad,
  optim,
  ProgressBar,
  saveCheckpoint,
  type Tensor,
  valueAndGrad,
} from 'nodegrad';
import { amount, choice, count, parseFlags, positive, text } from './support/flags.js';
import { openPictures, pictureFlags } from './support/pictures.js';
import { leaveIfStopped, stopSignal } from './support/stop.js';

const flags = parseFlags('custom-loop', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  by: choice('apply', ['apply', 'backward'], 'how gradients reach the optimizer'),
  epochs: count(3, 'times through the training pictures'),
  batch: positive(32, 'pictures per step'),
  lr: amount(0.001, 'learning rate of Adam'),
  seed: count(0, 'seed of the initial weights, of shuffling and of changes'),
  ...pictureFlags,
  save: text(undefined, 'write a checkpoint at the end and on Ctrl-C'),
  resume: text(undefined, 'go on from a checkpoint'),
});
const { device, save: file, batch: batchSize } = flags;
manualSeed(flags.seed);
const stop = stopSignal();

const { train, test, classes } = await openPictures(flags);
leaveIfStopped(stop, flags.resume);
const transform = (x: Tensor, y: Tensor) => [x, y.to('float32').unsqueeze(1)] as const;
const common = { batchSize, device, transform, prefetch: 4 };
const loader = new DataLoader(train, { ...common, shuffle: true });

const { size } = flags;
const input = [3, size, size] as const;
const model = models.cnn({ input, channels: [32, 64, 128], hidden: 512, device });
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
while (loader.epoch < flags.epochs && !stop.aborted) {
  const label = `epoch ${loader.epoch + 1}/${flags.epochs}`;
  const progress = new ProgressBar(label, loader, { every: 10 });
  for await (const [x, y] of loader) {
    progress.step(y.size, await step(x, y));
    if (stop.aborted) break;
  }
  progress.finish();
}
if (file) await saveCheckpoint(file, run);
leaveIfStopped(stop, file);

model.eval();
const { Accuracy, Precision, Recall, F1 } = metrics;
const judges = [new Accuracy(), new Precision(), new Recall(), new F1()];
const confusion = new metrics.ConfusionMatrix();
for await (const [x, y] of new DataLoader(test, common)) {
  const probability = noGrad(() => model.forward(x).sigmoid());
  for (const judge of [...judges, confusion]) judge.update(probability, y);
  leaveIfStopped(stop, file);
}
for (const judge of judges) console.log(`${judge.name.padEnd(10)}${judge.compute().toFixed(4)}`);
const counts = confusion.compute();
for (const [i, name] of classes.entries()) {
  const [right, wrong] = [counts[i]?.[i], counts[i]?.[1 - i]];
  console.log(`${name}: ${right} right, ${wrong} taken for ${classes[1 - i]}`);
}
