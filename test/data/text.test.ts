import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  BucketSampler,
  cleanText,
  DataLoader,
  Generator,
  loadVectors,
  nn,
  padSequences,
  SequenceDataset,
  tokenize,
  Vocabulary,
} from '../../lib/index.js';
import { storedZip } from '../support/zip.js';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-text-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const at = path.join(folder, name);
  await writeFile(at, content);
  return at;
}

describe('cleanText and tokenize', () => {
  it('drop tags, case and punctuation by choice', () => {
    expect(cleanText('A <b>GREAT</b><br />film &amp; more\n&lt;3 &#233;')).toBe(
      'a great film & more <3 é',
    );
    expect(cleanText('don&#x27;t &#X41;&#x110000;')).toBe("don't a&#x110000;");
    expect(cleanText('if x < 5 and y > 3 <!-- so --></P>then')).toBe('if x < 5 and y > 3 then');
    expect(cleanText('<?xml version="1.0"?>Is 3 <? 4')).toBe('is 3 <? 4');
    expect(cleanText('No <b>', { html: false, lowerCase: false })).toBe('No <b>');
    expect(cleanText("'Tis rock 'n' roll, isn't it?! (5/5)", { punctuation: true })).toBe(
      "tis rock n roll isn't it 5 5",
    );
    expect(cleanText('e\u0301te\u0301').length).toBe(3);
    expect(() => cleanText(3 as never)).toThrow(/cleanText: needs text, got 3/);
  });

  it('find the words of any script', () => {
    expect(tokenize("Don't stop: well-made, 3.5 times!")).toEqual([
      ...["Don't", 'stop', ':', 'well-made', ',', '3', '.', '5', 'times', '!'],
    ]);
    expect(tokenize('Привет, мир — e\u0301t\u00e9 naïve 日本')).toEqual([
      ...['Привет', ',', 'мир', '—', 'e\u0301t\u00e9', 'naïve', '日本'],
    ]);
    expect(tokenize('👍 ok')).toEqual(['👍', 'ok']);
    expect(tokenize(' \n')).toEqual([]);
  });
});

describe('Vocabulary', () => {
  const texts = ['b a b c', 'b a d <unk>'].map((text) => text.split(' '));

  it('numbers words by how often they occur, specials first', async () => {
    const all = await Vocabulary.build(texts);
    expect(all.words).toEqual(['<pad>', '<unk>', 'b', 'a', 'c', 'd']);
    expect([all.paddingIndex, all.unknownIndex, all.size]).toEqual([0, 1, 6]);
    expect(all.encode(['d', 'zzz', 'b'])).toEqual([5, 1, 2]);
    expect(all.decode([0, 2, 1n, 5])).toEqual(['b', '<unk>', 'd']);
    const few = await Vocabulary.build(texts, { maxSize: 1, padding: null });
    expect(few.words).toEqual(['<unk>', 'b']);
    const often = await Vocabulary.build(texts, { minCount: 2, unknown: null });
    expect(often.words).toEqual(['<pad>', 'b', 'a']);
    expect(() => often.encode(['c'])).toThrow(/must be among its 3 words, got "c"/);
    expect(() => often.decode([3])).toThrow(/a number must be an integer in \[0,2\], got 3/);
    await expect(Vocabulary.build(['plain'] as never)).rejects.toThrow(
      /list of words, got "plain"/,
    );
    expect(() => new Vocabulary(['a', 'a'])).toThrow(/words must differ, got "a" twice/);
    expect(() => new Vocabulary(['a'], { padding: 'p' })).toThrow(
      /padding must be one of the words/,
    );
  });

  it('goes to a file and back, and builds from a stream', async () => {
    async function* stream() {
      yield* texts;
    }
    const built = await Vocabulary.build(stream(), { maxSize: 2 });
    const at = path.join(folder, 'new', 'vocabulary.json');
    await built.save(at);
    const under = path.join(at, 'vocabulary.json');
    await expect(built.save(under)).rejects.toThrow(`Vocabulary.save: cannot write ${under}: `);
    expect((await Vocabulary.load(at)).toJSON()).toEqual(built.toJSON());
    await expect(Vocabulary.load(`${at}.none`)).rejects.toThrow(/load: cannot read .*none/);
    await expect(Vocabulary.load(await file('bad.json', '{"kind":'))).rejects.toThrow(
      /cannot read/,
    );
  });
});

describe('loadVectors', () => {
  const lines = 'the 1 0 -1\ngood 0.5 2 1e-1\n. . . 4 4 4\nunused 9 9 9\n';
  const vocabulary = new Vocabulary(['<pad>', '<unk>', 'good', 'the', 'odd', '. . .'], {
    padding: '<pad>',
    unknown: '<unk>',
  });

  it('fills a table from plain, gzipped and zipped files', async () => {
    const zip = storedZip({ 'g.50d.txt': 'a 1\n', 'g.3d.txt': lines });
    const files = [
      await file('v.txt', lines),
      await file('v.txt.gz', gzipSync(lines)),
      await file('w2v.txt', `4 3\n${lines}`),
      await file('v.zip', zip),
    ];
    for (const at of files) {
      const generator = new Generator(7);
      const { weight, found, missing } = await loadVectors(at, vocabulary, {
        generator,
        ...(at.endsWith('zip') && { member: '3d.txt' }),
      });
      expect([weight.shape, found, missing]).toEqual([[6, 3], 3, ['odd']]);
      const rows = weight.toArray() as number[][];
      expect([rows[0], rows[3], rows[5]]).toEqual([
        [0, 0, 0],
        [1, 0, -1],
        [4, 4, 4],
      ]);
      expect(rows[2]?.[2]).toBeCloseTo(0.1, 6);
      expect(rows[1]?.every((x) => x !== 0)).toBe(true);
      expect(rows[4]).not.toEqual(rows[1]);
      expect(nn.Embedding.fromPretrained(weight, { paddingIdx: 0 }).weight.shape).toEqual([6, 3]);
    }
  });

  it('says what is wrong with a file', async () => {
    const refused = async (name: string, content: string | Uint8Array, message: RegExp) =>
      expect(loadVectors(await file(name, content), vocabulary)).rejects.toThrow(message);
    await refused(
      'short.txt',
      'the 1 2\ngood 1\n',
      /short.txt line 2 must hold a word and 2 numbers, got 1/,
    );
    await refused('words.txt', 'the 1 x\n', /words.txt line 1 must hold numbers, got "x"/);
    await refused('empty.txt', '', /must hold vectors, got an empty file/);
    await refused(
      'cut.gz',
      gzipSync(lines.repeat(500)).subarray(0, 90),
      /is damaged: unexpected end/,
    );
    await refused('two.zip', storedZip({ a: lines, b: lines }), /must hold one file, it has a, b/);
    await refused('cut.zip', storedZip({ a: lines }).subarray(0, 60), /cut.zip is damaged/);
    await expect(loadVectors('/none', vocabulary)).rejects.toThrow(/cannot read \/none/);
    await expect(loadVectors('/none', {} as never)).rejects.toThrow(/needs a Vocabulary/);
  });
});

describe('sequences', () => {
  it('are padded and cut as in Keras', () => {
    const three = [[1], [2, 3], [4, 5, 6]];
    expect(padSequences(three).toArray()).toEqual([
      [0, 0, 1],
      [0, 2, 3],
      [4, 5, 6],
    ]);
    expect(padSequences(three, { maxLength: 2, padding: 'post' }).toArray()).toEqual([
      [1, 0],
      [2, 3],
      [5, 6],
    ]);
    const post = padSequences(three, { maxLength: 2, truncating: 'post', value: 9 });
    expect([post.dtype, post.toArray()]).toEqual([
      'int64',
      [
        [9, 1],
        [2, 3],
        [4, 5],
      ],
    ]);
    expect(() => padSequences([[0.5]])).toThrow(/a number must be an integer, got 0.5/);
    expect(() => padSequences([3 as never])).toThrow(
      /a sequence must be an array of numbers, got 3/,
    );
    expect(() => padSequences(three, { padding: 'left' as never })).toThrow(/one of pre, post/);
  });

  it('come as tokens, lengths and labels, bucketed, ready for an LSTM', async () => {
    const sequences = [[5, 6, 7, 8], [1], [], [2, 3]];
    const data = new SequenceDataset(sequences, [1, 0, 1, 0], {
      maxLength: 3,
      classes: 2,
      value: 9,
    });
    expect([...data.lengths]).toEqual([3, 1, 0, 2]);
    const [tokens, lengths, labels] = data.batch(Uint32Array.of(0, 2, 3));
    expect([tokens.toArray(), lengths.toArray(), labels.toArray()]).toEqual([
      [
        [5, 6, 7],
        [9, 9, 9],
        [2, 3, 9],
      ],
      [3, 1, 2],
      [1, 1, 0],
    ]);
    const wide = new SequenceDataset(sequences, [1, 0, 1, 0], { multiple: 8, truncating: 'pre' });
    expect(wide.batch(Uint32Array.of(0))[0].shape).toEqual([1, 8]);
    const lstm = new nn.LSTM(4, 3, { batchFirst: true });
    const words = new nn.Embedding(10, 4, { paddingIdx: 0 });
    const last = new Map<string, unknown>();
    for (const batchSize of [1, 4]) {
      const batchSampler = new BucketSampler(data.lengths, { batchSize, seed: 0 });
      const loader = new DataLoader(data, { batchSampler });
      for await (const [x, n] of loader) {
        const packed = nn.packPaddedSequence(words.forward(x), n, { batchFirst: true });
        const [, [h]] = lstm.forward(packed);
        const states = h.select(0, 0).toArray() as number[][];
        (x.toArray() as number[][]).forEach((row, i) => {
          const own = String(row.slice(0, (n.toArray() as number[])[i]));
          if (last.has(own)) {
            states[i]?.forEach((value, j) => {
              expect(value).toBeCloseTo((last.get(own) as number[])[j] as number, 6);
            });
          }
          last.set(own, states[i]);
        });
      }
    }
    expect(last.size).toBe(4);
    expect(() => new SequenceDataset([[1]], [2], { classes: 2 })).toThrow(
      /a label must be an integer in \[0,1\], got 2/,
    );
    expect(() => new SequenceDataset([[-1]], [0])).toThrow(/a token must be .* got -1/);
    expect(() => new SequenceDataset([[1]], [])).toThrow(/one label each, got 1 and 0/);
  });
});
