/** What the types of the public API promise; checked by `npm run typecheck` and by the tests. */
import { describe, expectTypeOf, it } from 'vitest';
import {
  type CapturedStep,
  CsvDataset,
  capture,
  DataLoader,
  type Gradients,
  grad,
  type History,
  IterableDataset,
  ListDataset,
  layers,
  metrics,
  nn,
  noGrad,
  optim,
  randomSplit,
  type SequentialModel,
  type Subset,
  scope,
  sequential,
  steps,
  Tensor,
  TensorDataset,
  tensor,
  trainer,
  valueAndGrad,
  zeros,
} from '../../lib/index.js';

const x = zeros([2, 3]);

describe('tensors', () => {
  it('are made from numbers, arrays of them, and typed arrays', () => {
    expectTypeOf(tensor([[1, 2]])).toEqualTypeOf<Tensor>();
    expectTypeOf(tensor(new Float32Array(6), [2, 3])).toEqualTypeOf<Tensor>();
    // @ts-expect-error a tensor is not made of text
    tensor('1, 2');
    // @ts-expect-error a shape is a list of numbers
    zeros(['2']);
    // @ts-expect-error there is no such dtype
    zeros([2], { dtype: 'float8' });
    // @ts-expect-error a constructor is not the way to a tensor
    new Tensor();
  });

  it('take numbers beside tensors, and give tensors', () => {
    expectTypeOf(x.add(1).mul(x)).toEqualTypeOf<Tensor>();
    // @ts-expect-error text cannot be added
    x.add('1');
    // @ts-expect-error a product has a second factor
    x.matmul();
  });

  it('have shapes that cannot be written', () => {
    expectTypeOf(x.shape).toEqualTypeOf<readonly number[]>();
    // @ts-expect-error the shape belongs to the tensor
    x.shape[0] = 1;
  });
});

describe('functions of functions', () => {
  it('keep the result of what they run', () => {
    expectTypeOf(scope(() => 3)).toEqualTypeOf<number>();
    expectTypeOf(noGrad(() => [x] as const)).toEqualTypeOf<readonly [Tensor]>();
    expectTypeOf(scope(async () => x)).toEqualTypeOf<Promise<Tensor>>();
  });

  it('keep the arguments of what they wrap', () => {
    const step = capture((a: Tensor, b: Tensor) => a.add(b));
    expectTypeOf(step).toEqualTypeOf<CapturedStep<[a: Tensor, b: Tensor], Tensor>>();
    expectTypeOf(step(x, x)).toEqualTypeOf<Promise<Tensor>>();
    // @ts-expect-error an argument is missing
    step(x);
    const model = new nn.Linear(3, 1);
    const both = valueAndGrad(model, (input: Tensor, factor: number) =>
      model.forward(input).sum().mul(factor),
    );
    expectTypeOf(both(x, 2)).toEqualTypeOf<{ value: Tensor; gradients: Gradients }>();
    // @ts-expect-error the factor is a number
    both(x, x);
    expectTypeOf(grad(x, [x])).toEqualTypeOf<Tensor[]>();
  });
});

describe('modules and optimizers', () => {
  it('take the options they have', () => {
    const model = new nn.Sequential(new nn.Linear(3, 4, { bias: false }), new nn.ReLU());
    expectTypeOf(model.forward(x)).toEqualTypeOf<Tensor>();
    expectTypeOf(
      new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 }).step,
    ).returns.toEqualTypeOf<void>();
    // @ts-expect-error the rate is a number
    new optim.Adam(model.parameters(), { lr: '0.1' });
    // @ts-expect-error there is no such option
    new nn.Linear(3, 4, { biased: false });
  });
});

describe('loops', () => {
  it('give batches with the parts of the dataset', async () => {
    const data = new TensorDataset(x, zeros([2]));
    for await (const batch of new DataLoader(data, { batchSize: 2 })) {
      expectTypeOf(batch).toEqualTypeOf<[Tensor, Tensor]>();
    }
    const transform = (a: Tensor) => [a.mul(2)] as const;
    for await (const batch of new DataLoader(data, { transform })) {
      expectTypeOf(batch).toEqualTypeOf<readonly [Tensor]>();
    }
    for (const i of steps(3)) expectTypeOf(i).toEqualTypeOf<number>();
    // @ts-expect-error a loader reads a dataset
    new DataLoader([x]);
  });
});

describe('training in the manner of Keras', () => {
  const model = sequential([layers.dense(4, { activation: 'relu' }), new nn.Linear(4, 1)]);

  it('takes names, objects and functions', () => {
    expectTypeOf(
      model.compile({ optimizer: 'adam', loss: 'mse' }),
    ).toEqualTypeOf<SequentialModel>();
    model.compile({
      optimizer: (parameters) => new optim.SGD(parameters, { lr: 0.1 }),
      loss: (prediction, target) => prediction.sub(target).square().mean(),
      metrics: ['mae', new metrics.R2Score()],
    });
    // @ts-expect-error there is no such optimizer
    model.compile({ optimizer: 'adamant', loss: 'mse' });
    // @ts-expect-error a confusion matrix is not a number
    model.compile({ optimizer: 'adam', loss: 'mse', metrics: [new metrics.ConfusionMatrix()] });
    // @ts-expect-error there is no such activation
    layers.dense(4, { activation: 'rely' });
  });

  it('takes numbers and sources of batches', () => {
    expectTypeOf(model.fit(x, [1, 2])).toEqualTypeOf<Promise<History>>();
    const loader = new DataLoader(new TensorDataset(x, zeros([2])));
    expectTypeOf(model.fit(loader, { epochs: 2 })).toEqualTypeOf<Promise<History>>();
    model.fit(function* () {
      yield [[[1, 2, 3]], [1]] as const;
    });
    expectTypeOf(model.evaluate(x, x)).toEqualTypeOf<Promise<Record<string, number>>>();
    expectTypeOf(model.predict(x)).toEqualTypeOf<Promise<Tensor>>();
    // @ts-expect-error numbers need targets
    model.fit(x);
    // @ts-expect-error epochs are counted
    model.fit(x, x, { epochs: 'all' });
    // @ts-expect-error an attention layer does not go from one tensor to one
    trainer(new nn.MultiheadAttention(4, 2));
  });

  it('keeps the type of a module', () => {
    expectTypeOf(trainer(new nn.Linear(3, 1)).model).toEqualTypeOf<nn.Linear>();
    expectTypeOf(new metrics.ConfusionMatrix().compute()).toEqualTypeOf<number[][]>();
  });
});

describe('data', () => {
  it('has the types of its samples', () => {
    const list = new ListDataset([{ x: [1, 2], y: 0, name: 'a' }]);
    const loader = new DataLoader(list, { batchSize: 2 });
    expectTypeOf(loader).toEqualTypeOf<
      DataLoader<{ x: Tensor; y: Tensor; name: string[] }, { x: Tensor; y: Tensor; name: string[] }>
    >();
    const pairs = new DataLoader(list, { transform: ({ x, name }) => [x, name] });
    expectTypeOf(pairs).toExtend<AsyncIterable<[Tensor, string[]]>>();
    const three = new TensorDataset(x, x, x);
    const two = new DataLoader(three, { transform: (a, b) => [a.mul(2), b] });
    expectTypeOf(two).toExtend<AsyncIterable<[Tensor, Tensor]>>();
    const [train, test] = randomSplit(three, [0.8, 0.2]);
    expectTypeOf(train).toEqualTypeOf<Subset<[Tensor, Tensor, Tensor]>>();
    expectTypeOf(test).toEqualTypeOf<Subset<[Tensor, Tensor, Tensor]>>();
    const stream = new IterableDataset(() => [1, 2]).map((i) => ({ i, text: String(i) }));
    expectTypeOf(new DataLoader(stream)).toExtend<AsyncIterable<{ i: Tensor; text: string[] }>>();
    // @ts-expect-error samples have no part z
    new ListDataset([{ x: 1 }], { dtypes: { z: 'int64' } });
    const rows = new CsvDataset('f', { columns: { n: 'number', s: 'string' } });
    expectTypeOf(rows.map(({ n, s }) => [n, s] as [number, string])).toExtend<object>();
    // @ts-expect-error the file is read for the columns n and s
    rows.map(({ m }) => m);
  });
});
