/** Reviews as words: those of food that come with the examples, or of films (IMDB). */
import {
  BucketSampler,
  cleanText,
  DataLoader,
  type DeviceLike,
  datasets,
  loadVectors,
  readCsv,
  SequenceDataset,
  tokenize,
  type Vocabulary,
} from 'nodegrad';
import { text } from './flags.js';

/** `--data`, which {@link readParts} reads. */
export const reviewsFlag = text(
  undefined,
  'folder aclImdb with {train,test}/{pos,neg}, or `download`: films instead of food',
);

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

/** Batches of reviews of like length, as numbers of their words: tokens, lengths, labels. */
export function reviewBatches(
  { words, labels }: Reviews,
  vocabulary: Vocabulary,
  options: {
    /** Batches are padded to a multiple of so many words. */
    multiple: number;
    batchSize: number;
    shuffle: boolean;
    seed: number;
    device: DeviceLike;
  },
) {
  const { multiple, device, ...order } = options;
  const numbers = words.map((review) => vocabulary.encode(review));
  const data = new SequenceDataset(numbers, labels, { classes: 2, multiple });
  return new DataLoader(data, { batchSampler: new BucketSampler(data.lengths, order), device });
}

/** Vectors for the words of a vocabulary, from a file; or, by `download`, those of GloVe 6B. */
export function openVectors(from: string, vocabulary: Vocabulary) {
  return from === 'download' ? datasets.glove(vocabulary) : loadVectors(from, vocabulary);
}
