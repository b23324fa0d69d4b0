/**
 * Cats and dogs: a convolutional network on class folders of pictures, through compile and fit.
 *
 * No photographs ship with the package: without --data the folders are written from MNIST, threes and
 * eights enlarged to pictures of mixed sizes. --data takes a folder with `train` and `test`, each with
 * a folder per class, or a folder of two classes, of which the first 80% by name are trained on. The
 * run of the book (Chollet, "Deep Learning with Python", chapter 5): --data DIR --epochs 20.
 */
import {
  DataLoader,
  LossCurves,
  layers,
  ModelCheckpoint,
  manualSeed,
  sequential,
  TensorBoard,
} from 'nodegrad';
import { count, parseFlags, positive, text } from './support/flags.js';
import { openPictures, pictureFlags } from './support/pictures.js';
import { leaveIfStopped, orLeave, stopSignal } from './support/stop.js';

const flags = parseFlags('cats-dogs', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: count(3, 'times through the training pictures'),
  batch: positive(32, 'pictures per step'),
  ahead: positive(4, 'batches decoded ahead of their step'),
  seed: count(0, 'seed of the initial weights, of shuffling and of changes'),
  ...pictureFlags,
  out: text('runs/cats-dogs', 'folder for the curves of the losses and for TensorBoard'),
  save: text(
    undefined,
    'write a checkpoint after each epoch and on Ctrl-C; where left out, that of --resume',
  ),
  resume: text(undefined, 'go on from a checkpoint'),
});
const { device, size, out, resume, save = resume, batch: batchSize } = flags;
manualSeed(flags.seed);
const stop = stopSignal();

const { train, test } = await openPictures(flags);
leaveIfStopped(stop, resume);
const common = { batchSize, device, prefetch: flags.ahead };
const block = (filters: number) => [
  layers.conv2d(filters, 3, { activation: 'relu' }),
  layers.maxPool2d(2),
];
const model = sequential(
  [
    ...[32, 64, 128].flatMap(block),
    layers.flatten(),
    layers.dense(512, { activation: 'relu' }),
    layers.dense(1, { activation: 'sigmoid' }),
  ],
  { inputShape: [3, size, size], device },
);
model.compile({ optimizer: 'adam', loss: 'binaryCrossentropy', metrics: ['accuracy'] });
console.log(model.summary());

await model.fit(new DataLoader(train, { ...common, shuffle: true }), {
  epochs: flags.epochs,
  signal: stop,
  callbacks: [
    new LossCurves(`${out}/loss.svg`),
    new TensorBoard(`${out}/events`),
    ...(save ? [new ModelCheckpoint({ last: save })] : []),
  ],
  ...(resume && { resume }),
});
leaveIfStopped(stop, save);
console.log('Test:');
const judged = model.evaluate(new DataLoader(test, common), { signal: stop });
const { accuracy = 0 } = await orLeave(stop, save, judged);
console.log(`test accuracy: ${(100 * accuracy).toFixed(2)}%`);
