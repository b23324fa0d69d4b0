/** Datasets in memory, samplers, encoders, text, transforms. */
import * as ng from '../../../lib/index.js';
import { type Call, plain } from '../entries.js';
import type { Maker } from '../maker.js';

const { ListDataset, StandardScaler, MinMaxScaler, LabelEncoder, OneHotEncoder, transforms } = ng;
const scalers = { StandardScaler, MinMaxScaler };
const encoders = { LabelEncoder, OneHotEncoder, ...scalers };
const samplers = {
  SequentialSampler: ng.SequentialSampler,
  RandomSampler: ng.RandomSampler,
  SubsetRandomSampler: ng.SubsetRandomSampler,
  WeightedRandomSampler: ng.WeightedRandomSampler,
};
const little = { weight: 0.3 };
const words = (m: Maker) => Array.from({ length: m.integer(1, 6) }, () => m.pick(['a', 'b', 'c']));
const dataset = (m: Maker) => new ListDataset(Array.from({ length: m.integer(2, 9) }, (_, i) => i));
const made =
  (Made: unknown, use: (object: never) => unknown = () => undefined): Call =>
  (...args: never[]) =>
    use(new (Made as new (...args: never[]) => never)(...args));

plain('collate', ng.collate, (m) => [
  [
    { x: 1, y: words(m).length },
    { x: 2, y: 3 },
  ],
  { y: 'int64' },
]);
plain(
  'ListDataset',
  made(ng.ListDataset, (d: ng.ListDataset<number>) => d.batch(Uint32Array.of(0))),
  () => [[1, 2]],
  little,
);
plain(
  'SampleDataset',
  (get: (i: number) => number) => {
    class Own extends ng.SampleDataset<number> {
      readonly length = 2;
      get = (i: number) => (typeof get === 'function' ? Number(get(i)) : i);
    }
    return new Own().batch(Uint32Array.of(1)) as ng.Tensor;
  },
  () => [(i: number) => 2 * i],
  little,
);
plain(
  'Subset',
  made(ng.Subset, (d: ng.Subset<ng.Tensor>) => d.length),
  (m) => [dataset(m), [0, 1]],
  little,
);
plain('ConcatDataset', made(ng.ConcatDataset), (m) => [dataset(m), dataset(m)], little);
plain('MapDataset', made(ng.MapDataset), (m) => [dataset(m), (x: unknown) => x], little);
plain(
  'sliceDataset',
  (...a: never[]) => void (ng.sliceDataset as Call)(...a),
  (m) => [dataset(m), 0, 2],
  little,
);
plain(
  'randomSplit',
  (...a: never[]) => void (ng.randomSplit as Call)(...a),
  (m) => [dataset(m), [0.5, 0.5], { seed: 1 }],
  little,
);
plain(
  'stratifiedSplit',
  (...a: never[]) => void (ng.stratifiedSplit as Call)(...a),
  () => [new ListDataset([1, 2, 3]), ['a', 'b', 'a'], [0.5, 0.5], { seed: 1 }],
  little,
);
for (const [name, args] of [
  ['SequentialSampler', (m: Maker) => [m.integer(0, 9)]],
  ['RandomSampler', (m: Maker) => [m.integer(1, 9), { seed: 1, replacement: m.chance(0.5) }]],
  ['SubsetRandomSampler', () => [[1, 2, 3], { seed: 1 }]],
  ['WeightedRandomSampler', (m: Maker) => [[1, 0, 2], { count: m.integer(0, 2), seed: 1 }]],
] as const) {
  plain(
    name,
    made(samplers[name], (sampler: ng.Sampler) => sampler.length < 1e4 && sampler.order(0).length),
    args,
    little,
  );
}
plain(
  'BucketSampler',
  made(ng.BucketSampler, (sampler: ng.BucketSampler) => sampler.batches(0).length),
  () => [[3, 1, 2, 5], { batchSize: 2, seed: 1 }],
  little,
);
plain('IterableDataset', made(ng.IterableDataset), () => [[1, 2, 3], { dtypes: 'int64' }], little);
for (const [name, args] of [
  ['map', () => [(x: number) => x]],
  ['filter', () => [(x: number) => x > 1]],
  ['take', () => [2]],
  ['skip', () => [1]],
  ['concat', () => [new ng.IterableDataset([4])]],
  ['shuffle', () => [2, { seed: 1 }]],
] as const) {
  plain(
    `IterableDataset.${name}`,
    (...given: never[]) => {
      const stream = new ng.IterableDataset([1, 2, 3]);
      (stream[name] as Call).apply(stream, given);
    },
    args,
    little,
  );
}

plain('LabelEncoder', made(ng.LabelEncoder), (m) => [[...new Set(words(m))]], little);
plain(
  'LabelEncoder.fit',
  (v: never) => new ng.LabelEncoder().fit(v).classes.length,
  (m) => [words(m)],
  little,
);
plain(
  'LabelEncoder.transform',
  (v: never) => new ng.LabelEncoder(['a', 'b', 'c']).transform(v),
  (m) => [words(m)],
);
plain(
  'LabelEncoder.inverse',
  (v: never) => new ng.LabelEncoder(['a', 'b']).inverse(v).length,
  () => [[0, 1]],
  little,
);
plain('OneHotEncoder', made(ng.OneHotEncoder), () => [{ ignoreUnknown: true }], little);
plain(
  'OneHotEncoder.transform',
  (v: never) => new ng.OneHotEncoder().fit(['a', 'b', 'c']).transform(v),
  (m) => [words(m)],
);
plain(
  'OneHotEncoder.inverse',
  (v: never) => new ng.OneHotEncoder().fit(['a', 'b']).inverse(v).length,
  (m) => [m.make([3, 2], 'float32')],
  little,
);
plain('MinMaxScaler', made(ng.MinMaxScaler), () => [{ range: [0, 2] }], little);
plain('StandardScaler', made(ng.StandardScaler), () => [], little);
for (const name of ['StandardScaler', 'MinMaxScaler'] as const) {
  const table = (m: Maker) => [m.make([m.integer(1, 6), 3], 'float32')];
  const fitted = () =>
    new scalers[name]().fit(
      ng.tensor([
        [1, 2, 3],
        [3, 5, 3],
      ]),
    );
  plain(`${name}.fit`, (x: ng.Tensor) => new scalers[name]().fit(x).transform(x), table);
  plain(`${name}.transform`, (x: ng.Tensor) => fitted().transform(x), table);
  plain(`${name}.inverse`, (x: ng.Tensor) => fitted().inverse(x), table);
}
for (const name of ['LabelEncoder', 'OneHotEncoder', 'StandardScaler', 'MinMaxScaler'] as const) {
  const state = () => [JSON.parse(JSON.stringify(new encoders[name]()))];
  plain(`${name}.fromJSON`, (s: never) => void encoders[name].fromJSON(s), state, little);
}

plain('cleanText', ng.cleanText, (m) => [words(m).join(' <br> '), { punctuation: m.chance(0.5) }]);
plain(
  'tokenize',
  (text: string) => ng.tokenize(text).length,
  (m) => [words(m).join('-')],
);
plain('Vocabulary', made(ng.Vocabulary), () => [['<unk>', 'a'], { unknown: '<unk>' }], little);
plain(
  'Vocabulary.build',
  async (...a: never[]) => void (await (ng.Vocabulary.build as Call)(...a)),
  (m) => [[words(m)], { maxSize: 3 }],
  little,
);
plain(
  'Vocabulary.encode',
  (v: never) => new ng.Vocabulary(['a', 'b', 'c']).encode(v).length,
  (m) => [words(m)],
);
plain(
  'Vocabulary.decode',
  (v: never) => new ng.Vocabulary(['a', 'b', 'c']).decode(v).length,
  () => [[0, 2]],
);
plain(
  'Vocabulary.fromJSON',
  (s: never) => void ng.Vocabulary.fromJSON(s),
  () => [new ng.Vocabulary(['a']).toJSON()],
  little,
);
plain('padSequences', ng.padSequences, (m) => [
  [[1, 2], [3]],
  { maxLength: m.integer(0, 4), padding: m.pick(['pre', 'post']) },
]);
plain(
  'SequenceDataset',
  made(ng.SequenceDataset, (d: ng.SequenceDataset) => d.batch(Uint32Array.of(0))),
  (m) => [[[1, 2], [3]], [0, 1], { classes: 2, multiple: m.integer(1, 4) }],
);

const images = (m: Maker) => m.make([m.integer(0, 3), m.integer(1, 3), 6, 5], 'float32');
for (const [name, args] of [
  ['scale', () => [0.5]],
  ['normalize', () => [0.5, 0.5]],
  ['randomHorizontalFlip', () => [0.5]],
  ['randomVerticalFlip', () => [0.5]],
  ['centerCrop', () => [[3, 4]]],
  ['randomCrop', (m: Maker) => [4, { padding: m.integer(0, 2) }]],
] as const) {
  plain(
    `transforms.${name}`,
    (x: ng.Tensor, ...given: never[]) =>
      (transforms[name] as unknown as (...a: never[]) => ng.transforms.Transform)(...given)(x),
    (m) => [images(m), ...args(m)],
  );
}
plain(
  'transforms.compose',
  (x: ng.Tensor, step: never) => ng.transforms.compose(step)(x),
  (m) => [images(m), ng.transforms.scale(2)],
  little,
);
plain(
  'transforms.oneHot',
  (x: ng.Tensor, n: number) => ng.transforms.oneHot(n)(x),
  (m) => [m.index(4, 3), 3],
);
plain('transforms.checkLabels', ng.transforms.checkLabels, (m) => [m.index(4, 3), 3]);
