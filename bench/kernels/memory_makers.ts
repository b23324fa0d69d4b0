/** The kernels that memory bounds by nodegrad, as memory_kernels.py has them by PyTorch. */
import {
  arange,
  argmax,
  avgPool2d,
  batchNorm,
  bernoulli,
  cat,
  clone,
  crossEntropy,
  cumsum,
  dropout,
  embedding,
  exp,
  flip,
  full,
  gather,
  gelu,
  groupNorm,
  indexAdd,
  indexSelect,
  layerNorm,
  maxPool2d,
  multinomial,
  nn,
  optim,
  pad,
  rand,
  randn,
  randperm,
  rmsNorm,
  scatterAdd,
  softmax,
  sort,
  sum,
  type Tensor,
  tensor,
  topk,
  variance,
  where,
} from 'nodegrad';
import type { KernelCase } from './case.js';
import { type Maker, normal, overRows } from './makers.js';

type Size = (name: string) => number;

const tableOf = (item: KernelCase, size: Size): Tensor =>
  normal([size('rows'), size('columns')], item);
const rowOf = (item: KernelCase, size: Size): Tensor => normal([size('columns')], item);

const indices = (count: number, at: (i: number) => number): Tensor =>
  tensor(
    Array.from({ length: count }, (_, i) => at(i)),
    [count],
    { dtype: 'int64' },
  );

/** A class for each row. */
const classes = (size: Size): Tensor => indices(size('rows'), (i) => i % size('columns'));

/** Each row once, far from its neighbours. */
const mixed = (size: Size): Tensor => indices(size('rows'), (i) => (i * 769) % size('rows'));

/** Within each row each column once. */
function mixedColumns(size: Size): Tensor {
  const [rows, columns] = [size('rows'), size('columns')];
  const places = arange(columns)
    .mul(389)
    .reshape([1, columns])
    .add(arange(rows).reshape([rows, 1]));
  return places.remainder(columns).to('int64');
}

/** Over a table and an index of it. */
function byIndex(
  indexOf: (size: Size) => Tensor,
  run: (x: Tensor, index: Tensor, size: Size) => Tensor,
): Maker {
  return (item, size) => ({
    inputs: { x: tableOf(item, size), index: indexOf(size) },
    run: ({ x, index }) => run(x as Tensor, index as Tensor, size),
  });
}

/** Rows with a weight for each column, and a bias. */
function affine(
  run: (x: Tensor, columns: number, given: { weight: Tensor; bias: Tensor }) => Tensor,
): Maker {
  return (item, size) => ({
    inputs: { x: tableOf(item, size), weight: rowOf(item, size), bias: rowOf(item, size) },
    run: ({ x, weight, bias }) =>
      run(x as Tensor, size('columns'), { weight: weight as Tensor, bias: bias as Tensor }),
  });
}

const shapeOf = (size: Size): number[] => {
  const [batch, channels, side] = [size('batch'), size('channels'), size('side')];
  return size('last') ? [batch, side, side, channels] : [batch, channels, side, side];
};

function normOfImages(
  run: (x: Tensor, given: { weight: Tensor; bias: Tensor }, last: boolean) => Tensor,
): Maker {
  return (item, size) => ({
    inputs: {
      x: normal(shapeOf(size), item),
      weight: normal([size('channels')], item),
      bias: normal([size('channels')], item),
    },
    run: ({ x, weight, bias }) =>
      run(x as Tensor, { weight: weight as Tensor, bias: bias as Tensor }, size('last') === 1),
  });
}

function pool(op: typeof maxPool2d | typeof avgPool2d): Maker {
  return (item, size) => {
    const layout = size('last') ? 'NHWC' : 'NCHW';
    // Windows of 3 overlap, and reach over the edge.
    const options = { stride: 2, padding: size('kernel') === 3 ? 1 : 0, layout } as const;
    return {
      inputs: { x: normal(shapeOf(size), item) },
      run: ({ x }) => op(x as Tensor, size('kernel'), options),
    };
  };
}

/** As many tensors as a network has layers, the gradients given. */
function optimizer(make: (parameters: Tensor[]) => { step(): void }): Maker {
  return (item, size) => {
    const parts = 16;
    const shape = [size('rows') / parts, size('columns')];
    const inputs: Record<string, Tensor> = {};
    const parameters = Array.from({ length: parts }, (_, i) => {
      const w = nn.parameter(normal(shape, item));
      const gradient = normal(shape, item);
      w.mul(gradient).sum().backward();
      inputs[`w${i}`] = w;
      inputs[`g${i}`] = gradient;
      return w;
    });
    const made = make(parameters);
    return {
      inputs,
      run: () => {
        made.step();
        return parameters[0] as Tensor;
      },
    };
  };
}

/** A parameter with a gradient, which the op changes in its place. */
function onGradient(make: (weight: Tensor, gradient: Tensor) => () => Tensor): Maker {
  return (item, size) => {
    const weight = nn.parameter(tableOf(item, size));
    weight.mul(tableOf(item, size)).sum().backward();
    const gradient = weight.grad as Tensor;
    return { inputs: { x: gradient }, run: make(weight, gradient) };
  };
}

/** Draws, which depend on shapes alone. */
function draws(run: (shape: number[], item: KernelCase) => Tensor): Maker {
  return (item, size) => ({
    inputs: { x: normal([1], item) },
    run: () => run([size('rows'), size('columns')], item),
  });
}

/** Ops that draw: no rival can share their values. */
export const drawn = new Set(['dropout', 'rand', 'randn', 'bernoulli', 'multinomial', 'randperm']);

/** Ops whose inputs cannot be replaced by copies: their state is their own. */
export const ownState = [
  ...['adamw', 'sgd', 'adam', 'rmsprop', 'adagrad', 'adadelta', 'clip', 'unscale'],
] as const;

export const memoryMakers: Record<string, Maker> = {
  copy: overRows((x) => clone(x)),
  sum: overRows((x) => sum(x, 1)),
  softmax: overRows((x) => softmax(x)),
  gelu: overRows((x) => gelu(x)),
  dropout: overRows((x) => dropout(x, 0.1)),
  transpose: overRows((x) => x.transpose().contiguous()),
  gradNorm: overRows((x) => optim.getTotalNorm([x])),
  crossEntropy: byIndex(classes, (x, index) => crossEntropy(x, index)),
  layerNorm: affine((x, columns, given) => layerNorm(x, columns, given)),
  rmsNorm: (item, size) => ({
    inputs: { x: tableOf(item, size), weight: rowOf(item, size) },
    run: ({ x, weight }) => rmsNorm(x as Tensor, size('columns'), { weight: weight as Tensor }),
  }),
  batchNorm: affine((x, _, given) => batchNorm(x, { ...given, training: true })),
  embedding: byIndex(mixed, (x, index) => embedding(x, index)),
  clip: onGradient((weight) => () => optim.clipGradNorm([weight], 1)),

  fill: draws((shape, { dtype }) => full(shape, 1.5, { dtype })),
  cast: overRows((x) => x.to(x.dtype === 'float32' ? 'bfloat16' : 'float32')),
  exp: overRows((x) => exp(x)),
  add: overRows((x, y) => x.add(y), 2),
  addRow: (item, size) => ({
    inputs: { x: tableOf(item, size), row: rowOf(item, size) },
    run: ({ x, row }) => (x as Tensor).add(row as Tensor),
  }),
  where: (item, size) => ({
    inputs: {
      x: tableOf(item, size),
      y: tableOf(item, size),
      mask: tableOf(item, size).gt(0),
    },
    run: ({ x, y, mask }) => where(mask as Tensor, x as Tensor, y as Tensor),
  }),
  flip: overRows((x) => flip(x, 1)),
  cat: overRows((x, y) => cat([x, y], 1), 2),
  pad: overRows((x) => pad(x, [1, 1])),
  mse: overRows((x, y) => nn.mseLoss(x, y), 2),
  smoothL1: overRows((x, y) => nn.smoothL1Loss(x, y), 2),
  bceLogits: overRows((x, y) => nn.binaryCrossEntropyWithLogits(x, y), 2),
  nll: (item, size) => ({
    // Below 0, as logarithms of probabilities are: a mean near 0 would have few right digits.
    inputs: { x: tableOf(item, size).abs().neg(), index: classes(size) },
    run: ({ x, index }) => nn.nllLoss(x as Tensor, index as Tensor),
  }),
  smoothing: byIndex(classes, (x, index) => crossEntropy(x, index, { labelSmoothing: 0.1 })),
  rotary: (item, size) => {
    const [length, width] = [size('length'), size('size')];
    const positions = new nn.RotaryPositions(length, width);
    const { cosines, sines } = positions;
    return {
      inputs: { x: normal([size('batch'), size('heads'), length, width], item), cosines, sines },
      run: ({ x }) => positions.forward(x as Tensor),
      wanted: ['x'],
    };
  },

  batchNorm2d: normOfImages((x, given, last) => {
    const options = { ...given, training: true };
    if (!last) return batchNorm(x, options);
    return batchNorm(x.reshape([-1, x.shape[3] as number]), options).reshape(x.shape);
  }),
  groupNorm: normOfImages((x, given) => groupNorm(x, (x.shape[1] as number) / 2, given)),
  maxPool: pool(maxPool2d),
  avgPool: pool(avgPool2d),

  gather: byIndex(mixedColumns, (x, index) => gather(x, 1, index)),
  scatterAdd: (item, size) => ({
    inputs: { x: tableOf(item, size), y: tableOf(item, size), index: mixedColumns(size) },
    run: ({ x, y, index }) => scatterAdd(x as Tensor, 1, index as Tensor, y as Tensor),
  }),
  indexSelect: byIndex(mixed, (x, index) => indexSelect(x, index)),
  indexAdd: byIndex(mixed, (x, index) => indexAdd(x.shape, index, x)),
  sort: overRows((x) => sort(x, 1)[0]),
  topk: overRows((x) => topk(x, 8, 1)[0]),
  cumsum: overRows((x) => cumsum(x, 1)),
  cumsumColumns: overRows((x) => cumsum(x, 0)),
  argmax: overRows((x) => argmax(x, 1)),
  variance: overRows((x) => variance(x, 1)),
  lookups: (item, size) => {
    const [rows, high] = [size('rows'), size('table')];
    // Of words the first few are most of a text: the logarithm of the number is spread evenly.
    const row = (i: number): number =>
      size('words') ? Math.floor(high ** ((i * 0.6180339887) % 1)) - 1 : (i * 769) % high;
    return {
      inputs: {
        x: normal([high, size('columns')], item),
        index: indices(rows, row),
      },
      run: ({ x, index }) => embedding(x as Tensor, index as Tensor),
    };
  },

  rand: draws((shape, { dtype }) => rand(shape, { dtype })),
  randn: draws((shape, { dtype }) => randn(shape, { dtype })),
  bernoulli: draws((shape, { dtype }) => bernoulli(shape, 0.5, { dtype })),
  multinomial: (item, size) => ({
    inputs: { x: rand([size('rows'), size('columns')]).to(item.dtype) },
    run: ({ x }) => multinomial(x as Tensor, 1),
  }),
  randperm: draws(([rows = 0, columns = 0]) => randperm(rows * columns)),

  adamw: optimizer((given) => new optim.AdamW(given, { lr: 1e-3 })),
  sgd: optimizer((given) => new optim.SGD(given, { lr: 1e-3, momentum: 0.9 })),
  adam: optimizer((given) => new optim.Adam(given, { lr: 1e-3 })),
  rmsprop: optimizer((given) => new optim.RMSprop(given, { lr: 1e-3 })),
  adagrad: optimizer((given) => new optim.Adagrad(given, { lr: 1e-3 })),
  adadelta: optimizer((given) => new optim.Adadelta(given, { lr: 1 })),
  unscale: onGradient((weight, gradient) => {
    const scaler = new optim.GradScaler();
    const owner = new optim.SGD([weight]);
    scaler.scale(weight.sum().detach()); // which puts the scale on the device
    return () => {
      scaler.unscale(owner);
      scaler.update();
      return gradient;
    };
  }),
};
