import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';

import { expectOptions } from '../../lib/check.js';
import * as ng from '../../lib/index.js';
import { opsDocument, publicOps } from '../../scripts/ops-table.js';
import { catalogue, type Entry } from '../fuzz/catalogue.js';
import { Maker } from '../fuzz/maker.js';
import { publicItems } from '../support/api.js';
import { Random } from '../support/random.js';

const { nn } = ng;
const odd = { unknownOption: 1 } as never;
const maker = new Maker(ng.device('cpu'));
maker.random = new Random(3);
afterAll(() => maker.dispose());

const x = (): ng.Tensor => ng.zeros([1, 2, 4]);
const tokens = (): ng.Tensor => ng.zeros([1, 2], { dtype: 'int64' });
const trainer = (): ng.SequentialModel =>
  ng
    .sequential([ng.layers.dense(1)], { inputShape: [2] })
    .compile({ optimizer: 'sgd', loss: 'mse' });
const bert = {
  vocabSize: 9,
  hiddenSize: 4,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
  intermediateSize: 4,
  maxPositionEmbeddings: 4,
} as const;
const decoder = () => new nn.TransformerDecoderLayer(4, 2, { dimFeedforward: 4 });
const encoder = () => new nn.TransformerEncoderLayer(4, 2, { dimFeedforward: 4 });

/** Calls that the catalogue of the fuzzer lacks or makes in another way. */
const calls: Record<string, () => unknown> = {
  'layers.embedding': () => ng.layers.embedding(3, 2, odd),
  'models.Bert.forward': () => new ng.models.Bert(bert).forward(tokens(), odd),
  'models.BertClassifier.forward': () => new ng.models.BertClassifier(bert).forward(tokens(), odd),
  'nn.AdditiveAttention': () => new nn.AdditiveAttention(4, 4, 3, odd),
  'nn.AdditiveAttention.forward': () =>
    new nn.AdditiveAttention(4, 4, 3).forward(x(), x(), x(), odd),
  'nn.DotProductAttention.forward': () => new nn.DotProductAttention().forward(x(), x(), x(), odd),
  'nn.MultiheadAttention.forward': () =>
    new nn.MultiheadAttention(4, 2).forward(x(), x(), x(), odd),
  'nn.EmbeddingBag.forward': () => new nn.EmbeddingBag(3, 2).forward(tokens(), odd),
  'nn.Module.loadStateDict': () => new nn.Linear(1, 1).loadStateDict(new Map(), odd),
  'nn.TransformerDecoder': () => new nn.TransformerDecoder(decoder(), 1, odd),
  'nn.TransformerDecoder.forward': () =>
    new nn.TransformerDecoder(decoder(), 1).forward(x(), x(), odd),
  'nn.TransformerDecoderLayer': () => new nn.TransformerDecoderLayer(4, 2, odd),
  'nn.TransformerDecoderLayer.forward': () => decoder().forward(x(), x(), odd),
  'nn.TransformerEncoder.forward': () => new nn.TransformerEncoder(encoder(), 1).forward(x(), odd),
  'nn.TransformerEncoderLayer.forward': () => encoder().forward(x(), odd),
  tensor: () => ng.tensor([1], odd),
  bernoulli: () => ng.bernoulli([1], 0.5, odd),
  'optim.EMA': () => new ng.optim.EMA(new nn.Linear(1, 1), odd),
  sequential: () => ng.sequential([ng.layers.flatten()], odd),
  'transforms.randomCrop': () => ng.transforms.randomCrop(2, odd),
  Vocabulary: () => new ng.Vocabulary(['a'], odd),
  'datasets.mnist': () => ng.datasets.mnist(odd),
  'datasets.fashionMnist': () => ng.datasets.fashionMnist(odd),
  'datasets.imdb': () => ng.datasets.imdb(odd),
  'datasets.glove': () => ng.datasets.glove(new ng.Vocabulary(['a']), odd),
  CsvDataset: () => new ng.CsvDataset('none.csv', odd),
  readCsv: () => ng.readCsv('none.csv', odd),
  ImageFolder: () => new ng.ImageFolder('none', odd),
  TextFolder: () => new ng.TextFolder('none', odd),
  readIdx: () => ng.readIdx('none', odd),
  saveImages: () => ng.saveImages('none.png', x(), odd),
  loadVectors: () => ng.loadVectors('none', new ng.Vocabulary(['a']), odd),
  ProgressBar: () => new ng.ProgressBar('epoch 1', 2, odd),
  loadSafetensors: () => ng.loadSafetensors('none', odd),
  loadCheckpoint: () => ng.loadCheckpoint('none', odd),
  saveCheckpoint: () => ng.saveCheckpoint('none', odd),
  SequentialModel: () => new ng.SequentialModel([ng.layers.flatten()], odd),
};
for (const name of ['SequentialModel', 'Trainer']) {
  calls[`${name}.compile`] = () => trainer().compile(odd);
  calls[`${name}.fit`] = () => trainer().fit(ng.zeros([2, 2]), ng.zeros([2, 1]), odd);
  calls[`${name}.evaluate`] = () => trainer().evaluate(ng.zeros([2, 2]), ng.zeros([2, 1]), odd);
  calls[`${name}.predict`] = () => trainer().predict(ng.zeros([2, 2]), odd);
}
for (const [name, metric] of Object.entries(ng.metrics)) {
  if (name !== 'Metric')
    calls[`metrics.${name}`] = () => new (metric as new (o: never) => unknown)(odd);
}
const items = publicItems();
const unchecked = {
  Profile: 'made by profile(), which checks them',
  'optim.Optimizer.setOptions': 'abstract: the options are those of SGD, Adam and the others',
};

/** An entry's call with valid arguments and an option too many. */
function fromCatalogue(name: string, at: number): unknown {
  const entry = catalogue.find((one) => one.name === name) as Entry;
  if (!entry) throw new Error(`${name}: give public.test.ts a call of it`);
  const args = entry.args(maker);
  while (args.length < at) args.push(undefined);
  args[at] = { ...(args[at] as object | undefined), unknownOption: 1 };
  return (entry.call as (...args: unknown[]) => unknown)(...args);
}

async function said(call: () => unknown): Promise<string> {
  try {
    await ng.scope(() => call());
    return 'nothing';
  } catch (error) {
    return (error as Error).message;
  }
}

describe('an option that does not exist', () => {
  it('is refused by everything that takes options', async () => {
    const wrong: string[] = [];
    for (const { name, options } of items) {
      if (!options || name in unchecked) continue;
      const at = options.at + (name.startsWith('Tensor.') ? 1 : 0);
      const message = await said(calls[name] ?? (() => fromCatalogue(name, at)));
      // The names it lists are those of its type, so that no option is refused that there is.
      const form =
        /^[\w.]+: unknown option unknownOption(?:, perhaps unknown)?; known: (\w[\w, ]*)$/;
      const known = form.exec(message)?.[1]?.split(', ').sort();
      if (known?.join() !== [...options.names].sort().join()) wrong.push(`${name}: ${message}`);
    }
    expect(wrong).toEqual([]);
  });

  it.each([
    ['weight_decay', /^Adam: unknown option weight_decay, perhaps weightDecay; known: lr, betas/],
    ['learningRate', /^Adam: unknown option learningRate; known: lr, /],
    ['beta', /^Adam: unknown option beta, perhaps betas; known: /],
    ['esp', /^Adam: unknown option esp; known: /],
    ['constructor', /^Adam: unknown option constructor; known: /],
  ])('is told with the name near %s', (name, sentence) => {
    const make = () => new ng.optim.Adam([nn.parameter(x())], { [name]: 1 });
    expect(make).toThrow(sentence);
  });

  it('is no option of another class', () => {
    const conv = () => new nn.Conv2d(1, 1, 3, { relu: true } as never);
    expect(conv).toThrow('Conv2d: unknown option relu; known: stride');
    expect(() => new nn.GRU(1, 1, { nonlinearity: 'relu' } as never)).toThrow('unknown option');
    expect(() => expectOptions('f', { a: 1 }, ['a'])).not.toThrow();
  });
});

describe('what is exported', () => {
  it('has a docstring', () => {
    expect(items.filter(({ doc }) => doc === '').map(({ name }) => name)).toEqual([]);
    expect(items.filter(({ name }) => name.startsWith('Tensor.')).length).toBeGreaterThan(150);
  });
});

describe('docs/ops.md', () => {
  const text = readFileSync(new URL('../../docs/ops.md', import.meta.url), 'utf8');

  it('is what the exports and the op table say', () => {
    expect(text).toBe(opsDocument(items));
  });

  it('has every public op, with its devices and dtypes', () => {
    const rows = new Map(
      (text.split('## Native ops')[0] as string)
        .split('\n')
        .map((line) => line.split(' | '))
        .map((cells) => [cells[1], cells]),
    );
    const unclear = publicOps(items).filter(({ name }) => {
      const [, , , , dtypes, devices] = rows.get(`\`${name}\``) ?? [];
      return devices !== 'cpu, cuda' || !dtypes;
    });
    expect(unclear.map(({ name }) => name)).toEqual([]);
  });
});
