/** Reviews as words: those of food that come with the examples, or of films (IMDB). */
import {
  BucketSampler,
  cleanText,
  DataLoader,
  datasets,
  loadVectors,
  metrics,
  type nn,
  noGrad,
  readCsv,
  SequenceDataset,
  stratifiedSplit,
  type Tensor,
  TensorDataset,
  tensor,
  tokenize,
  Vocabulary,
} from 'nodegrad';
import { count, positive, share, text } from './flags.js';

/** `--data`, which {@link readParts} reads. */
export const reviewsFlag = text(
  undefined,
  'folder aclImdb with {train,test}/{pos,neg}, or `download`: films instead of food',
);

/** The flags that {@link openReviews} reads. */
export const reviewFlags = {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  seed: count(0, 'seed of the initial weights, of what is held out, of shuffling and of dropout'),
  batch: positive(32, 'reviews per step'),
  data: reviewsFlag,
  vectors: text(undefined, 'word vectors of 100 numbers: a file as GloVe has them, or `download`'),
  buckets: positive(32, 'batches are padded to a multiple of so many words'),
  reviews: positive(Number.POSITIVE_INFINITY, 'most reviews to train on, and to test on'),
  held: share(0.2, 'share of the training reviews that is held out to choose the epoch by'),
  words: count(25_000, 'most words in the vocabulary, besides unknown and padding'),
  length: positive(128, 'longer reviews are cut to so many words'),
};
type Given = { [Name in keyof typeof reviewFlags]: (typeof reviewFlags)[Name]['value'] };

export interface Reviews {
  words: string[][];
  /** 1 where the review is good, else 0. */
  labels: number[];
}

async function texts(
  part: 'train' | 'test',
  folder: string | undefined,
): Promise<[string[], number[]]> {
  if (folder === undefined) {
    const table = await readCsv(`examples/data/reviews-${part}.csv.gz`, {
      columns: { review: 'string', score: { type: 'category', classes: ['other', 'great'] } },
    });
    return [table.strings('review'), [...table.numbers('score')]];
  }
  const { [part]: films } = await datasets.imdb(folder === 'download' ? {} : { dir: folder });
  const found: string[] = [];
  for await (const { text } of films.stream()) found.push(text);
  return [found, [...films.labels]];
}

interface Taken {
  /** How many reviews, taken evenly so that classes keep their shares. */
  most?: number;
  /** How many of a review's words, the first. */
  length?: number;
}

async function readPart(
  part: 'train' | 'test',
  data: string | undefined,
  { most = Number.POSITIVE_INFINITY, length = Number.POSITIVE_INFINITY }: Taken,
): Promise<Reviews> {
  const [all, labels] = await texts(part, data);
  const every = Math.max(1, all.length / most);
  const chosen = [...all.keys()].filter((i) => Math.floor(i % every) === 0);
  const words = chosen.map((i) => tokenize(cleanText(all[i] as string)).slice(0, length));
  const count = words.reduce((sum, review) => sum + review.length, 0);
  console.log(`${words.length} reviews of ${count} words to ${part} on`);
  return { words, labels: chosen.map((i) => labels[i] as number) };
}

/** The reviews to train on and those to test on. */
export async function readParts(
  data: string | undefined,
  taken: Taken,
): Promise<[train: Reviews, test: Reviews]> {
  return [await readPart('train', data, taken), await readPart('test', data, taken)];
}

/** The reviews but for a part, and that part, held out by a seed; good ones have the same share. */
function heldOut({ words, labels }: Reviews, share: number, seed: number): [Reviews, Reviews] {
  const data = new TensorDataset(tensor(labels));
  const [rest, held] = stratifiedSplit(data, labels, [1 - share, share], { seed });
  const part = ({ indices }: typeof rest): Reviews => ({
    words: Array.from(indices, (i) => words[i] as string[]),
    labels: Array.from(indices, (i) => labels[i] as number),
  });
  return [part(rest), part(held)];
}

/**
 * Reviews to train on, those held out of them and those to test on, each as batches of like length:
 * numbers of words, lengths, labels. Words have numbers, and perhaps vectors, that training alone gives.
 */
export async function openReviews(flags: Given) {
  const { data, batch: batchSize, buckets: multiple, device, seed } = flags;
  const [all, test] = await readParts(data, { most: flags.reviews, length: flags.length });
  const [train, held] = heldOut(all, flags.held, seed);
  const vocabulary = await Vocabulary.build(train.words, { maxSize: flags.words });
  const batches = ({ words, labels }: Reviews, shuffle: boolean) => {
    const numbers = words.map((review) => vocabulary.encode(review));
    const set = new SequenceDataset(numbers, labels, { classes: 2, multiple });
    const batchSampler = new BucketSampler(set.lengths, { batchSize, shuffle, seed });
    return new DataLoader(set, { batchSampler, device });
  };
  const { vectors: from } = flags;
  const load = () =>
    from === 'download' ? datasets.glove(vocabulary) : loadVectors(from as string, vocabulary);
  return {
    ...{ train: batches(train, true), held: batches(held, false), test: batches(test, false) },
    vocabulary,
    vectors: from === undefined ? null : await load(),
  };
}

/** The percentage that a network gets right of batches; of none, NaN. Ends early where stopped. */
export async function accuracyOf(
  net: nn.Module & { forward(tokens: Tensor, lengths: Tensor): Tensor },
  batches: AsyncIterable<[tokens: Tensor, lengths: Tensor, labels: Tensor]>,
  stop: AbortSignal,
): Promise<number> {
  const accuracy = new metrics.SparseCategoricalAccuracy();
  net.eval();
  for await (const [tokens, lengths, labels] of batches) {
    const scores = noGrad(() => net.forward(tokens, lengths));
    accuracy.update(scores, labels);
    if (stop.aborted) break;
  }
  return 100 * accuracy.compute();
}
