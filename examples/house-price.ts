/**
 * House prices: linear regression on one feature, on two that say the same, and on real sales.
 *
 * 1. Price from age, four houses on a line: gradient descent finds intercept 50 and slope 10.
 * 2. Price from size and rooms, which grow together: the fit is exact from any start, the slopes are
 *    not determined, and the condition number of the features says so.
 * 3. 932 sales in Sacramento: what gradient descent finds on five features, judged on unseen sales.
 */
import {
  capture,
  manualSeed,
  metrics,
  nn,
  noGrad,
  optim,
  randomSplit,
  readCsv,
  StandardScaler,
  type Tensor,
  TensorDataset,
  tensor,
} from 'nodegrad';
import { amount, count, parseFlags, text } from './support/flags.js';

const flags = parseFlags('house-price', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  steps: count(3000, 'steps of gradient descent, each on all houses'),
  lr: amount(0.1, 'learning rate, of standardised features'),
  seed: count(0, 'seed of the split into training and test houses'),
  data: text('examples/data/sacramento-homes.csv', 'a table with the columns of the sales'),
});
const { device } = flags;

/** Standardises x [N, F] and y [N, 1], descends, and returns the weights in the units of the table. */
async function regress(x: Tensor, y: Tensor, seed = 0) {
  manualSeed(seed);
  const [scaleX, scaleY] = [new StandardScaler().fit(x), new StandardScaler().fit(y)];
  const [inputs, targets] = [scaleX.transform(x), scaleY.transform(y)];
  const model = new nn.Linear(x.shape[1] as number, 1, { device });
  const optimizer = new optim.SGD(model.parameters(), { lr: flags.lr });
  const criterion = new nn.MSELoss();
  const step = capture((a: Tensor, b: Tensor) => {
    optimizer.zeroGrad();
    const loss = criterion.forward(model.forward(a), b);
    loss.backward();
    optimizer.step();
  });
  for (let i = 0; i < flags.steps; ++i) await step(inputs.to(device), targets.to(device));
  const [sd = 1] = scaleY.scale;
  const slopes = Array.from(model.weight.data() as Float32Array, (w, i) => {
    return (w * sd) / (scaleX.scale[i] as number);
  });
  const center = slopes.reduce((sum, slope, i) => sum + slope * (scaleX.mean[i] as number), 0);
  const bias = Number(model.bias?.item() ?? 0);
  const intercept = (scaleY.mean[0] as number) + bias * sd - center;
  const predict = (given: Tensor): Tensor =>
    noGrad(() => scaleY.inverse(model.forward(scaleX.transform(given).to(device)).to('cpu')));
  return { slopes, intercept, predict, inputs };
}

const column = (values: readonly number[]): Tensor => tensor([...values], [values.length, 1]);

console.log('Price from age:');
const byAge = await regress(column([5, 10, 15, 20]), column([100, 150, 200, 250]));
console.log(`  intercept ${byAge.intercept.toFixed(1)}, slope ${byAge.slopes[0]?.toFixed(1)}`);

console.log('Price from size and rooms, four houses:');
const houses = tensor([
  [50, 1],
  [100, 2],
  [150, 3],
  [200, 4],
]);
const prices = column([120, 220, 320, 420]);
const starts = [await regress(houses, prices, 1), await regress(houses, prices, 2)];
for (const { slopes, intercept, predict } of starts) {
  const error = predict(houses).sub(prices).abs().max().item();
  const found = slopes.map((slope) => slope.toFixed(2)).join(' and ');
  const line = `slopes ${found}, intercept ${intercept.toFixed(1)}`;
  console.log(`  one start: ${line}, largest error ${Number(error).toFixed(3)}`);
}
// Of two standardised features with correlation r, XᵀX has the eigenvalues N(1 + r) and N(1 − r).
const z = starts[0]?.inputs as Tensor;
const r = Math.abs(Number(z.select(1, 0).mul(z.select(1, 1)).mean().item()));
const condition = (1 + r) / Math.max(1 - r, Number.EPSILON);
console.log(
  `  correlation of the features ${r.toFixed(3)}, condition number ${condition.toPrecision(2)}`,
);
console.log(
  condition > 1e4
    ? '  badly posed: many pairs of slopes fit, and the start decides which is found'
    : '  well posed: one pair of slopes fits best',
);

console.log('Price of real houses:');
const features = ['beds', 'baths', 'sqft', 'latitude', 'longitude'] as const;
const columns = [...features, 'price'].map((name) => [name, 'number'] as const);
const table = await readCsv(flags.data, { columns: Object.fromEntries(columns) });
const all = new TensorDataset(table.tensor(features), table.tensor(['price']));
const [train, test] = randomSplit(all, [0.8, 0.2], { seed: flags.seed });
const part = (set: typeof train) =>
  set.batch(Uint32Array.from({ length: set.length }, (_, i) => i)) as [Tensor, Tensor];
const [x, y] = part(train);
const { slopes, intercept, predict } = await regress(x, y);
console.log(`  ${table.length} sales, ${train.length} to train on, ${test.length} to test on`);
for (const [i, name] of features.entries()) {
  console.log(`  ${name.padEnd(10)} ${slopes[i]?.toFixed(1)} $ each`);
}
console.log(`  intercept  ${intercept.toFixed(0)} $`);
for (const [name, set] of Object.entries({ train, test })) {
  const [given, paid] = part(set);
  const [rmse, r2] = [new metrics.RootMeanSquaredError(), new metrics.R2Score()];
  for (const metric of [rmse, r2]) metric.update(predict(given), paid);
  console.log(
    `  ${name}: error ${rmse.compute().toFixed(0)} $ (RMSE), R² ${r2.compute().toFixed(3)}`,
  );
}
