/**
 * Sentiment of reviews: a two-layer LSTM over packed sequences of words.
 *
 * Embedding 100 (from word vectors with --vectors), two LSTM layers with dropout .5, the last layer's
 * last h, linear, cross-entropy, Adam. Learns from 4,000 reviews of food, in both directions and with
 * averaged weights; --data download takes IMDB's films, and bench/README.md has the flags of LSTM 2x256.
 */
import {
  capture,
  loadCheckpoint,
  manualSeed,
  metrics,
  nn,
  noGrad,
  optim,
  saveCheckpoint,
  type Tensor,
  tensor,
  Vocabulary,
} from 'nodegrad';
import { amount, count, parseFlags, text } from './support/flags.js';
import { Progress } from './support/progress.js';
import { openVectors, readParts, reviewBatches, reviewsFlag } from './support/reviews.js';
import { leaveIfStopped, stopSignal } from './support/stop.js';

const flags = parseFlags('sentiment-lstm', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: count(4, 'times through the reviews'),
  batch: count(32, 'reviews per step'),
  lr: amount(0.002, 'learning rate of Adam'),
  clip: amount(1, 'most that the norm of all gradients may be'),
  average: amount(0.98, 'decay of the average of weights that is tested; 0 tests the last'),
  blank: amount(0.3, 'share of the numbers of words and of the last h that training drops'),
  seed: count(0, 'seed of the initial weights, of shuffling and of dropout'),
  data: reviewsFlag,
  vectors: text(undefined, 'word vectors of 100 numbers: a file as GloVe has them, or `download`'),
  words: count(25_000, 'most words in the vocabulary, besides unknown and padding'),
  length: count(128, 'longer reviews are cut to so many words'),
  buckets: count(32, 'batches are padded to a multiple of so many words'),
  hidden: count(64, 'width of an LSTM layer'),
  both: count(1, '1 reads in both directions, 0 forwards'),
  reviews: count(Number.POSITIVE_INFINITY, 'most reviews to train on, and to test on'),
  save: text(undefined, 'write a checkpoint after each epoch and on Ctrl-C'),
  resume: text(undefined, 'go on from a checkpoint'),
});
const { device, save: file, seed } = flags;
manualSeed(seed);

const taken = { most: flags.reviews, length: flags.length };
const [train, test] = await readParts(flags.data, taken);
const vocabulary = await Vocabulary.build(train.words, { maxSize: flags.words });

const batches = { multiple: flags.buckets, batchSize: flags.batch, seed, device };
const loader = reviewBatches(train, vocabulary, { ...batches, shuffle: true });
const tests = reviewBatches(test, vocabulary, { ...batches, shuffle: false });
const directions = flags.both > 0 ? 2 : 1;
const layout = { numLayers: 2, dropout: 0.5, bidirectional: directions === 2, batchFirst: true };
class Classifier extends nn.Module {
  embedding = new nn.Embedding(vocabulary.size, 100, { paddingIdx: 0, device });
  blank = new nn.Dropout(flags.blank);
  lstm = new nn.LSTM(100, flags.hidden, { ...layout, device });
  head = new nn.Linear(directions * flags.hidden, 2, { device });

  forward(tokens: Tensor, lengths: Tensor): Tensor {
    const words = this.blank.forward(this.embedding.forward(tokens));
    const packed = nn.packPaddedSequence(words, lengths, { batchFirst: true });
    const [, [h]] = this.lstm.forward(packed);
    const last = h.slice(0, directions).transpose(0, 1).flatten(1); // after its own last word
    return this.head.forward(this.blank.forward(last));
  }
}
const model = new Classifier();
const vectors = flags.vectors && (await openVectors(flags.vectors, vocabulary));
if (vectors) model.embedding.weight.copyFrom(vectors.weight);
else nn.init.uniform(model.embedding.weight, -0.05, 0.05); // rare words stay small, as in Keras
console.log(`${vocabulary.size} words, of which ${vectors ? vectors.found : 0} start from vectors`);
const criterion = new nn.CrossEntropyLoss();
const optimizer = new optim.Adam(model.parameters(), { lr: flags.lr });
const average = new optim.EMA(model, { decay: flags.average, warmup: flags.average > 0 });

// Recorded once per padded length, of which the buckets leave few; then replayed whole.
const step = capture((tokens: Tensor, lengths: Tensor, labels: Tensor) => {
  optimizer.zeroGrad();
  const loss = criterion.forward(model.forward(tokens, lengths), labels);
  loss.backward();
  optim.clipGradNorm(model.parameters(), flags.clip);
  optimizer.step();
  average.update();
  return loss;
});

const run = { model, optimizer, loader, more: { average } };
if (flags.resume) await loadCheckpoint(flags.resume, run);
const stop = stopSignal();
while (loader.epoch < flags.epochs && !stop.aborted) {
  const label = `epoch ${loader.epoch + 1}/${flags.epochs}`;
  const progress = new Progress(label, loader.length, loader.position);
  let [total, steps] = [tensor(0, { device }), 0];
  const mean = () => Number(total.item()) / steps; // waits for the device
  model.train();
  for await (const batch of loader) {
    total = total.add(await step(...batch));
    ++steps;
    progress.step(batch[2].size);
    if (progress.done % 20 === 0) progress.show(mean());
    if (stop.aborted) break;
  }
  progress.finish(mean());
  if (file) await saveCheckpoint(file, run);
  if (stop.aborted) break;
  model.eval();
  const accuracy = new metrics.SparseCategoricalAccuracy();
  for await (const [tokens, lengths, labels] of tests) {
    const scores = noGrad(() => average.with(() => model.forward(tokens, lengths)));
    accuracy.update(scores, labels);
  }
  console.log(`test accuracy: ${(100 * accuracy.compute()).toFixed(2)}%`);
}
leaveIfStopped(stop, file);
