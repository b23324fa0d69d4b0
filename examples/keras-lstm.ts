/**
 * Sentiment of reviews in the manner of Keras: embedding, LSTM and a sigmoid by compile and fit.
 *
 * Embedding(10000, 32), LSTM(128), Dense(1) on reviews of food cut to 200 words, or with --data on
 * IMDB's films; a fifth of those to train on validates, and its loss chooses the epoch. `--mnist 100`
 * feeds it images instead: the error says what it expects.
 */
import {
  datasets,
  EarlyStopping,
  indexSelect,
  layers,
  ModelCheckpoint,
  manualSeed,
  padSequences,
  randperm,
  sequential,
  tensor,
  Vocabulary,
} from 'nodegrad';
import { amount, count, parseFlags, positive, text } from './support/flags.js';
import { type Reviews, readParts, reviewsFlag } from './support/reviews.js';
import { leaveIfStopped, orLeave, stopSignal } from './support/stop.js';

const flags = parseFlags('keras-lstm', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: count(5, 'times through the reviews'),
  batch: positive(32, 'reviews per step'),
  lr: amount(0.001, 'learning rate of Adam'),
  clip: amount(1, 'most that the norm of all gradients may be; larger ones are scaled down to it'),
  patience: count(2, 'epochs that may pass with no better loss of validation'),
  seed: count(0, 'seed of the initial weights and of shuffling'),
  data: reviewsFlag,
  length: positive(200, 'of longer reviews, the last so many words are taken'),
  units: positive(128, 'width of the LSTM'),
  reviews: positive(Number.POSITIVE_INFINITY, 'most reviews to train on, and to test on'),
  mnist: count(0, 'train on so many images of digits instead, which must fail'),
  save: text(undefined, 'write a checkpoint after each epoch and on Ctrl-C'),
  resume: text(undefined, 'go on from a checkpoint, and save to it'),
});
const { device, epochs, resume, save = resume, batch: batchSize } = flags;
manualSeed(flags.seed);

const model = sequential(
  [
    layers.embedding(10_000, 32),
    layers.lstm(flags.units),
    layers.dense(1, { activation: 'sigmoid' }),
  ],
  { device },
);
model.compile({
  optimizer: 'adam',
  learningRate: flags.lr,
  clipNorm: flags.clip,
  loss: 'binaryCrossentropy',
  metrics: ['accuracy'],
});

if (flags.mnist > 0) {
  const { images, labels } = (await datasets.mnist()).train;
  const pixels = images.slice(0, 0, flags.mnist).to('float32').div(255);
  try {
    await model.fit(pixels, labels.slice(0, 0, flags.mnist), { epochs, validationSplit: 0.2 });
  } catch (error) {
    console.error((error as Error).message);
    process.exit(1);
  }
}

const [train, test] = await readParts(flags.data, { most: flags.reviews });
// 10,000 numbers: padding 0, unknown 1, and the most frequent words.
const vocabulary = await Vocabulary.build(train.words, { maxSize: 9998 });
const numbers = ({ words }: Reviews) =>
  padSequences(
    words.map((review) => vocabulary.encode(review)),
    { maxLength: flags.length },
  );
// The last fifth validates: in class folders, one class would be the last.
const order = randperm(train.labels.length);
const x = indexSelect(numbers(train), order);
const y = indexSelect(tensor(train.labels), order);

const stop = stopSignal();
await model.fit(x, y, {
  epochs,
  batchSize,
  validationSplit: 0.2,
  signal: stop,
  callbacks: [
    new EarlyStopping({ patience: flags.patience, restoreBestWeights: true }),
    ...(save ? [new ModelCheckpoint({ last: save })] : []),
  ],
  ...(resume && { resume }),
});
leaveIfStopped(stop, save);
console.log(model.summary());
const judged = model.evaluate(numbers(test), test.labels, { verbose: 0, signal: stop });
const { loss, accuracy } = await orLeave(stop, save, judged);
console.log(`test loss ${loss?.toFixed(4)}, accuracy ${accuracy?.toFixed(4)}`);
