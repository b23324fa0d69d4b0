/** Reviews as words: those of food that come with the examples, or of films from a folder aclImdb. */
import path from 'node:path';
import { cleanText, readCsv, TextFolder, tokenize } from 'nodegrad';

export interface Reviews {
  words: string[][];
  /** 1 where the review is good, else 0. */
  labels: number[];
}

async function texts(part: string, folder: string | undefined): Promise<[string[], number[]]> {
  if (folder === undefined) {
    const table = await readCsv(`examples/data/reviews-${part}.csv.gz`, {
      columns: { review: 'string', score: { type: 'category', classes: ['other', 'great'] } },
    });
    return [table.strings('review'), [...table.numbers('score')]];
  }
  const films = new TextFolder(path.join(folder, part), { classes: ['neg', 'pos'] });
  const found: string[] = [];
  for await (const { text } of films.stream()) found.push(text);
  return [found, [...films.labels]];
}

/**
 * The reviews to train on, or to test on.
 * @param options.most how many of them, taken evenly so that classes keep their shares
 * @param options.length how many of a review's words, the first
 */
export async function readReviews(
  part: 'train' | 'test',
  folder: string | undefined,
  { most = Number.POSITIVE_INFINITY, length = Number.POSITIVE_INFINITY } = {},
): Promise<Reviews> {
  const [all, labels] = await texts(part, folder);
  const every = Math.max(1, all.length / most);
  const chosen = [...all.keys()].filter((i) => Math.floor(i % every) === 0);
  const words = chosen.map((i) => tokenize(cleanText(all[i] as string)).slice(0, length));
  const count = words.reduce((sum, review) => sum + review.length, 0);
  console.log(`${words.length} reviews of ${count} words to ${part} on`);
  return { words, labels: chosen.map((i) => labels[i] as number) };
}
