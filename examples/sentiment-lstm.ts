/**
 * Sentiment of reviews: a two-layer LSTM over packed sequences of words.
 *
 * Embedding 100 (from word vectors with --vectors), LSTM 2x256 with dropout .5, the last layer's last
 * h, linear, cross-entropy, Adam. Learns from 4,000 reviews of food; with --data from IMDB's films.
 */
import {
  BucketSampler,
  capture,
  DataLoader,
  loadCheckpoint,
  loadVectors,
  manualSeed,
  nn,
  noGrad,
  optim,
  SequenceDataset,
  saveCheckpoint,
  type Tensor,
  tensor,
  Vocabulary,
} from 'nodegrad';
import { amount, count, parseFlags, text } from './support/flags.js';
import { Progress } from './support/progress.js';
import { type Reviews, readReviews } from './support/reviews.js';

const flags = parseFlags('sentiment-lstm', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: count(6, 'times through the reviews'),
  batch: count(64, 'reviews per step'),
  lr: amount(0.001, 'learning rate of Adam'),
  seed: count(0, 'seed of the initial weights, of shuffling and of dropout'),
  data: text(undefined, 'folder aclImdb with {train,test}/{pos,neg}, instead of reviews of food'),
  vectors: text(undefined, 'word vectors of 100 numbers in the format of GloVe: .txt, .gz or .zip'),
  words: count(25_000, 'most words in the vocabulary, besides unknown and padding'),
  length: count(256, 'longer reviews are cut to so many words'),
  buckets: count(32, 'batches are padded to a multiple of so many words'),
  hidden: count(256, 'width of an LSTM layer'),
  reviews: count(Number.POSITIVE_INFINITY, 'most reviews to train on, and to test on'),
  save: text(undefined, 'write a checkpoint after each epoch and on Ctrl-C'),
  resume: text(undefined, 'go on from a checkpoint'),
});
const { device, save: file, batch: batchSize, seed } = flags;
manualSeed(seed);

const taken = { most: flags.reviews, length: flags.length };
const train = await readReviews('train', flags.data, taken);
const test = await readReviews('test', flags.data, taken);
const vocabulary = await Vocabulary.build(train.words, { maxSize: flags.words });

function batches({ words, labels }: Reviews, shuffle: boolean) {
  const numbers = words.map((review) => vocabulary.encode(review));
  const data = new SequenceDataset(numbers, labels, { classes: 2, multiple: flags.buckets });
  const batchSampler = new BucketSampler(data.lengths, { batchSize, shuffle, seed });
  return new DataLoader(data, { batchSampler, device });
}
const [loader, tests] = [batches(train, true), batches(test, false)];

class Classifier extends nn.Module {
  embedding = new nn.Embedding(vocabulary.size, 100, { paddingIdx: 0, device });
  lstm = new nn.LSTM(100, flags.hidden, { numLayers: 2, dropout: 0.5, batchFirst: true, device });
  head = new nn.Linear(flags.hidden, 2, { device });

  forward(tokens: Tensor, lengths: Tensor): Tensor {
    const words = this.embedding.forward(tokens);
    const packed = nn.packPaddedSequence(words, lengths, { batchFirst: true });
    const [, [h]] = this.lstm.forward(packed);
    return this.head.forward(h.select(0, -1)); // h after each review's own last word
  }
}
const model = new Classifier();
const vectors = flags.vectors && (await loadVectors(flags.vectors, vocabulary));
if (vectors) model.embedding.weight.copyFrom(vectors.weight);
console.log(`${vocabulary.size} words, of which ${vectors ? vectors.found : 0} start from vectors`);
const criterion = new nn.CrossEntropyLoss();
const optimizer = new optim.Adam(model.parameters(), { lr: flags.lr });

// Recorded once per padded length, of which the buckets leave few; then replayed whole.
const step = capture((tokens: Tensor, lengths: Tensor, labels: Tensor) => {
  optimizer.zeroGrad();
  const loss = criterion.forward(model.forward(tokens, lengths), labels);
  loss.backward();
  optimizer.step();
  return loss;
});

const run = { model, optimizer, loader };
if (flags.resume) await loadCheckpoint(flags.resume, run);
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());
while (loader.epoch < flags.epochs && !stop.signal.aborted) {
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
    if (stop.signal.aborted) break;
  }
  progress.finish(mean());
  if (file) await saveCheckpoint(file, run);
  if (stop.signal.aborted) break;

  model.eval();
  let correct = tensor(0, { dtype: 'int64', device });
  for await (const [tokens, lengths, labels] of tests) {
    correct = correct.add(noGrad(() => model.forward(tokens, lengths).argmax(1).eq(labels).sum()));
  }
  const share = Number(correct.item()) / test.labels.length;
  console.log(`test accuracy: ${(100 * share).toFixed(2)}%`);
}
if (stop.signal.aborted) {
  console.log(file ? `interrupted; go on with --resume ${file}` : 'interrupted');
  process.exit(130);
}
