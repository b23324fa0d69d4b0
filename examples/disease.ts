/**
 * Disease: the probability of being ill by logistic regression, on a small table and on a real one.
 *
 * 1. Twelve patients by age and blood pressure: the curve of the largest likelihood.
 * 2. 569 tumours by thirty measures: trained on four fifths, judged on the rest.
 */
import {
  LabelEncoder,
  layers,
  manualSeed,
  metrics,
  readCsv,
  type SequentialModel,
  StandardScaler,
  sequential,
  stratifiedSplit,
  type Tensor,
  TensorDataset,
  tensor,
} from 'nodegrad';
import { amount, count, parseFlags, positive, text } from './support/flags.js';

const flags = parseFlags('disease', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: positive(300, 'times through a table'),
  batch: positive(64, 'patients per step'),
  lr: amount(0.05, 'learning rate of Adam'),
  seed: count(0, 'seed of the split into training and test patients'),
  data: text('examples/data/breast-cancer.csv', 'a table with a column `diagnosis`'),
});
const { device, epochs, batch: batchSize, lr: learningRate } = flags;
manualSeed(flags.seed);

/** p = sigmoid(x · w + b), trained on standardised x. */
async function logistic(x: Tensor, y: Tensor): Promise<SequentialModel> {
  const model = sequential([layers.dense(1, { activation: 'sigmoid' })], { device });
  model.compile({ optimizer: 'adam', learningRate, loss: 'binaryCrossentropy' });
  const { history } = await model.fit(x, y, { epochs, batchSize, verbose: 0 });
  const { loss = [] } = history;
  console.log(
    `  loss ${loss.at(0)?.toFixed(4)} in the first epoch, ${loss.at(-1)?.toFixed(4)} in the last`,
  );
  return model;
}

console.log('Twelve patients, by age and blood pressure:');
const patients = tensor([
  [32, 118],
  [38, 135],
  [41, 122],
  [45, 150],
  [47, 128],
  [52, 139],
  [55, 124],
  [58, 160],
  [61, 131],
  [64, 148],
  [68, 142],
  [71, 165],
]);
const ill = tensor([0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 1]);
const small = new StandardScaler().fit(patients);
const curve = await logistic(small.transform(patients), ill);
for (const [age, pressure] of [
  [40, 120],
  [55, 140],
  [70, 160],
] as const) {
  const p = (await curve.predict(small.transform(tensor([[age, pressure]])))).item() as number;
  console.log(`  age ${age}, pressure ${pressure}: ill with probability ${p.toFixed(3)}`);
}

console.log('Tumours:');
const table = await readCsv(flags.data); // numbers are found out, other columns are text
const measures = table.names.filter((name) => name !== 'diagnosis');
const coder = new LabelEncoder(['benign', 'malignant']);
const y = coder.transform(table.strings('diagnosis'));
const all = new TensorDataset(table.tensor(measures), y);
const [train, test] = stratifiedSplit(all, y, [0.8, 0.2], { seed: flags.seed });
const part = ({ dataset, indices }: typeof train) => dataset.batch(indices) as [Tensor, Tensor];
const [trainX, trainY] = part(train);
const [testX, testY] = part(test);
console.log(
  `  ${table.length} tumours by ${measures.length} measures, ${test.length} of them to test on`,
);
const scaler = new StandardScaler().fit(trainX);
const model = await logistic(scaler.transform(trainX), trainY.to('float32'));
const probabilities = (await model.predict(scaler.transform(testX))).reshape([-1]).to('cpu');
const judges = [
  new metrics.BinaryAccuracy(),
  new metrics.Precision(),
  new metrics.Recall(),
  new metrics.F1(),
  new metrics.AUC(),
];
for (const judge of judges) {
  judge.update(probabilities, testY);
  console.log(`  ${judge.name.padEnd(10)} ${judge.compute().toFixed(3)}`);
}
const confusion = new metrics.ConfusionMatrix();
confusion.update(probabilities, testY);
console.log('  truly benign or malignant (rows), taken for benign or malignant (columns):');
for (const row of confusion.compute()) console.log(`    ${row.join('  ')}`);
