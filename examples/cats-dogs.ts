/**
 * Cats and dogs: a convolutional network on class folders of pictures, through compile and fit.
 *
 * No photographs ship with the package: without --data the folders are written from MNIST, threes and
 * eights enlarged to pictures of mixed sizes. --data takes a folder with `train` and `test`, each with
 * a folder per class, or a folder of two classes, of which the first 80% by name are trained on. The
 * run of the book (Chollet, "Deep Learning with Python", chapter 5): --data DIR --epochs 20.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  DataLoader,
  type Dataset,
  ImageFolder,
  layers,
  manualSeed,
  Subset,
  sequential,
  type Tensor,
} from 'nodegrad';
import { writeDigits } from './support/digits.js';
import { count, parseFlags, text } from './support/flags.js';

const flags = parseFlags('cats-dogs', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: count(3, 'times through the training pictures'),
  batch: count(32, 'pictures per step'),
  size: count(150, 'height and width that pictures are resized to'),
  crop: count(0, 'augment: mirror at random, and cut out of pictures so many pixels larger'),
  ahead: count(4, 'batches decoded ahead of their step'),
  keep: count(1, 'keep decoded pictures in memory; 0 decodes them anew in each epoch'),
  seed: count(0, 'seed of the initial weights, of shuffling and of changes'),
  data: text(undefined, 'folder of pictures, in folders by class'),
  digits: count(200, 'pictures per class that are written without --data; half as many to test'),
  save: text(undefined, 'write a checkpoint at the end and on Ctrl-C'),
  resume: text(undefined, 'go on from a checkpoint'),
});
const { device, size, save, batch: batchSize } = flags;
manualSeed(flags.seed);
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());

let { data } = flags;
if (data === undefined) {
  const folder = mkdtempSync(path.join(tmpdir(), 'nodegrad-digits-'));
  process.on('exit', () => rmSync(folder, { recursive: true }));
  await writeDigits(folder, flags.digits);
  console.log(`no --data: threes and eights of MNIST, written as pictures to ${folder}`);
  data = folder;
}

const open = (dir: string, crop = 0) =>
  new ImageFolder(dir, {
    ...{ size, interpolation: 'nearest', cache: flags.keep > 0 },
    ...(crop > 0 && { augment: { flip: true, crop } }),
  });

/** What to train on and what to test on. */
function parts(dir: string): [Dataset<[Tensor, Tensor]>, Dataset<[Tensor, Tensor]>, ImageFolder] {
  if (existsSync(path.join(dir, 'train'))) {
    const train = open(path.join(dir, 'train'), flags.crop);
    return [train, open(path.join(dir, 'test')), train];
  }
  const [changed, plain] = [open(dir, flags.crop), open(dir)];
  const { labels, classes } = plain;
  const ends = classes.map((_, c) => {
    const first = labels.indexOf(c);
    return first + Math.floor(0.8 * (labels.lastIndexOf(c) + 1 - first));
  });
  const numbers = labels.map((_, i) => i);
  const isFirst = (i: number) => i < (ends[labels[i] as number] as number);
  const rest = numbers.filter((i) => !isFirst(i));
  return [new Subset(changed, numbers.filter(isFirst)), new Subset(plain, rest), plain];
}
const [train, test, { classes }] = parts(data);
if (classes.length !== 2) throw new Error(`${data} must have two classes, got ${classes}`);
console.log(`${train.length} pictures of ${classes.join(' and ')}, ${test.length} to test on`);

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

const { stopped } = await model.fit(new DataLoader(train, { ...common, shuffle: true }), {
  epochs: flags.epochs,
  signal: stop.signal,
  callbacks: [{ onTrainEnd: (run) => (save ? run.save(save) : undefined) }],
  ...(flags.resume && { resume: flags.resume }),
});
if (stopped) {
  console.log(save ? `interrupted; go on with --resume ${save}` : 'interrupted');
  process.exit(130);
}
console.log('Test:');
const { accuracy = 0 } = await model.evaluate(new DataLoader(test, common));
console.log(`test accuracy: ${(100 * accuracy).toFixed(2)}%`);
