/**
 * Sentiment of reviews: a two-layer LSTM over packed sequences of words.
 *
 * Embedding 100 (from word vectors with --vectors), two LSTM layers with dropout .5, the last layer's
 * last h, linear, cross-entropy, Adam. Learns from 4,000 reviews of food, in both directions and with
 * averaged weights, less a fifth held out: the accuracy on those chooses the epoch whose weights are
 * tested, once, and was highest for the default width and rates. --data download takes IMDB's films;
 * bench/README.md has the flags of LSTM 2x256.
 */
import {
  capture,
  loadCheckpoint,
  manualSeed,
  nn,
  optim,
  ProgressBar,
  saveCheckpoint,
  type Tensor,
} from 'nodegrad';
import { amount, count, parseFlags, positive, share, text } from './support/flags.js';
import { accuracyOf, openReviews, reviewFlags } from './support/reviews.js';
import { leaveIfStopped, stopSignal } from './support/stop.js';

const flags = parseFlags('sentiment-lstm', {
  ...reviewFlags,
  epochs: count(5, 'times through the reviews; the best one by those held out is tested'),
  lr: amount(0.002, 'learning rate of Adam'),
  clip: amount(1, 'most that the norm of all gradients may be'),
  average: share(0.98, 'decay of the average of weights that is judged; 0 judges the last'),
  blank: share(0.3, 'share of the numbers of words and of the last h that training drops'),
  hidden: positive(64, 'width of an LSTM layer'),
  both: count(1, '1 reads in both directions, 0 forwards'),
  save: text(undefined, 'write a checkpoint after each epoch and on Ctrl-C'),
  resume: text(undefined, 'go on from a checkpoint'),
});
const { device, save: file } = flags;
manualSeed(flags.seed);

const { train, held, test, vocabulary, vectors } = await openReviews(flags);
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

const chosen = { judged: 0, accuracy: 0 }; // how many epochs were judged, and the best of them
const best = new Classifier(); // its averaged weights: those that are tested
const run = { model, optimizer, loader: train, more: { average, best } };
if (flags.resume) Object.assign(chosen, await loadCheckpoint(flags.resume, run));
const stop = stopSignal();

async function learn(label: string): Promise<void> {
  const progress = new ProgressBar(label, train, { every: 20 });
  model.train();
  for await (const batch of train) {
    progress.step(batch[2].size, await step(...batch));
    if (stop.aborted) break;
  }
  progress.finish();
}

async function judge(label: string): Promise<void> {
  const accuracy = await accuracyOf(model, held, stop);
  if (stop.aborted) return;
  ++chosen.judged;
  if (held.length > 0) console.log(`${label}: held-out accuracy ${accuracy.toFixed(2)}%`);
  if (accuracy < chosen.accuracy) return; // never so of none (NaN): then the last epoch is kept
  chosen.accuracy = accuracy;
  best.loadStateDict(model.stateDict());
}

while (chosen.judged < flags.epochs && !stop.aborted) {
  const label = `epoch ${chosen.judged + 1}/${flags.epochs}`;
  if (train.epoch === chosen.judged) await learn(label);
  await average.with(() => judge(label));
  if (file) await saveCheckpoint(file, { ...run, extra: chosen });
}
leaveIfStopped(stop, file);
const accuracy = await accuracyOf(best, test, stop);
leaveIfStopped(stop, file);
console.log(`test accuracy: ${accuracy.toFixed(2)}%`);
