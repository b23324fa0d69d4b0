/**
 * Every exported function, method and class with arguments that should succeed. A new export needs
 * a line here (fuzz.test.ts says so).
 */
import * as ng from '../../lib/index.js';
import type { Maker } from './maker.js';

type Call = (...args: never[]) => unknown;

export interface Entry {
  /** As a user writes it: `relu`, `Tensor.relu`, `nn.Linear`. */
  readonly name: string;
  /** The row of the op table that it reaches. */
  readonly op?: string;
  readonly call: Call;
  readonly args: (m: Maker) => unknown[];
  /** How many leading arguments are never replaced by garbage. */
  readonly pinned?: number;
  /** How often, relative to the others; 1 where left out. */
  readonly weight?: number;
}

const entries: Entry[] = [];
// Its functions by name.
const api = { ...ng } as unknown as Record<string, Call>;
const init = { ...ng.nn.init } as unknown as Record<string, Call>;
const layers = { ...ng.nn } as unknown as Record<string, Constructor>;
const optimizers = { ...ng.optim };
type Constructor = new (...args: never[]) => ng.nn.Layer;

/** A function of a tensor first, and the method of the same name. */
function both(name: string, fn: Call, args: Entry['args'], op: string = name): void {
  entries.push({ name, op, call: fn, args });
  method(name, args, op);
}

function method(name: string, args: Entry['args'], op?: string): void {
  const call = (self: Record<string, Call>, ...rest: never[]) => (self[name] as Call)(...rest);
  entries.push({
    name: `Tensor.${name}`,
    ...(op && { op }),
    call: call as unknown as Call,
    args,
    pinned: 1,
  });
}

function getter(name: string): void {
  const call = (self: Record<string, unknown>) => self[name];
  entries.push({
    name: `Tensor.${name}`,
    call: call as Call,
    args: (m) => [m.tensor()],
    pinned: 1,
  });
}

function plain(name: string, call: unknown, args: Entry['args'], more: Partial<Entry> = {}): void {
  entries.push({ name, call: call as Call, args, ...more });
}

/** An op that is a function only. */
function op(name: string, call: unknown, args: Entry['args']): void {
  plain(name, call, args, { op: name });
}

for (const name of Object.keys(ng.opTable) as (keyof typeof ng.opTable)[]) {
  const { family, dtypes } = ng.opTable[name];
  const fn = api[name] as Call;
  if (family === 'unary') {
    both(name, fn, (m) => [dtypes === 'any' ? m.tensor() : m.floating()]);
  } else if (family === 'binary' && name !== 'where') {
    both(name, fn, (m) => {
      const x = m.tensor();
      return [x, m.chance(0.3) ? m.number() : m.beside(x, m.chance(0.7) ? x.dtype : m.dtype())];
    });
  } else if (name === 'argmax' || name === 'argmin') {
    both(name, fn, (m) => {
      const x = m.tensor();
      return m.chance(0.3) ? [x] : [x, m.axis(x), m.chance(0.5)];
    });
  } else if (family === 'reduce') {
    both(name, fn, (m) => {
      const x = m.floating();
      return [x, m.axes(x), m.chance(0.5)];
    });
  }
}
op('where', ng.where, (m) => {
  const x = m.tensor();
  return [m.beside(x, 'bool'), x, m.chance(0.3) ? m.number() : m.beside(x)];
});

// Creation.
op('full', ng.full, (m) => [m.shape(), m.number(), m.options()]);
for (const name of ['zeros', 'ones'] as const) {
  plain(name, api[name], (m) => [m.shape(), m.options()], { op: 'full' });
}
for (const name of ['zerosLike', 'onesLike'] as const) {
  plain(name, api[name], (m) => [m.tensor()], { op: 'full' });
}
op('arange', ng.arange, (m) => [m.integer(-5, 5), m.integer(-5, 40), m.pick([1, 2, -1, 0.5])]);
plain('tensor', ng.tensor, (m) =>
  m.pick([
    () => [
      [
        [1, 2],
        [3, m.number()],
      ],
      { dtype: m.dtype(), device: m.device },
    ],
    () => [new Float32Array(6), [2, 3], m.options()],
    () => [[1n, 2n], { device: m.device }],
    () => [m.number(), m.options()],
  ])(),
);
op('uniform', ng.uniform, (m) => [m.shape(), -1, 1, { dtype: m.float(), device: m.device }]);
op('normal', ng.normal, (m) => [m.shape(), 0, 1, { dtype: m.float(), device: m.device }]);
op('bernoulli', ng.bernoulli, (m) => [m.shape(), 0.5, m.options()]);
plain('linspace', ng.linspace, (m) => [m.number(), m.number(), m.integer(0, 40)], {
  op: 'arange',
});
plain('logspace', ng.logspace, (m) => [m.number(), m.number(), m.integer(0, 40), 2]);
plain('eye', ng.eye, (m) => [m.integer(0, 9), m.integer(0, 9), m.options()]);
op('randperm', ng.randperm, (m) => [m.integer(0, 40), m.options()]);
op('multinomial', ng.multinomial, (m) => {
  const classes = m.integer(1, 30);
  const x = m.make(m.chance(0.5) ? [classes] : [m.integer(0, 5), classes], m.float());
  return [x, m.integer(1, classes), m.chance(0.5)];
});
plain('bernoulli of a tensor', ng.bernoulli, (m) => [m.floating()], { op: 'bernoulliEach' });
op('truncatedNormal', ng.truncatedNormal, (m) => [
  m.shape(),
  m.number(),
  1,
  -1,
  2,
  { dtype: m.float(), device: m.device },
]);
for (const [name, of] of [
  ['rand', 'uniform'],
  ['randn', 'normal'],
] as const) {
  plain(name, api[name], (m) => [m.shape(), { dtype: m.float(), device: m.device }], { op: of });
}
plain('manualSeed', ng.manualSeed, (m) => [m.integer(0, 1000)]);
plain(
  'Generator',
  (...args: [number]) => new ng.Generator(...args),
  (m) => [m.integer(0, 99)],
);
const generator = new ng.Generator(1);
plain(
  'Generator.manualSeed',
  (s: number) => void generator.manualSeed(s),
  (m) => [m.integer(0, 9)],
);
plain(
  'Generator.getState',
  (d: ng.Device) => generator.getState(d),
  (m) => [m.device],
);
plain('Generator.setState', generator.setState.bind(generator), (m) => [[1n, 2n], m.device]);
plain(
  'Generator.stateDict',
  () => generator.stateDict(),
  () => [],
);
plain('Generator.loadStateDict', generator.loadStateDict.bind(generator), () => [
  generator.stateDict(),
]);

// Copies and views.
both('cast', ng.cast as Call, (m) => [m.tensor(), m.dtype()]);
both('contiguous', ng.contiguous as Call, (m) => [m.tensor()]);
both('clone', ng.clone as Call, (m) => [m.tensor()]);
both('to', ng.to as Call, (m) => [m.tensor(), m.pick([m.dtype(), 'cpu', m.device])], 'toDevice');
plain('copyInto', ng.copyInto, (m) => {
  const x = m.make(m.shape(), m.dtype());
  return [x, m.beside(x, m.dtype())];
});
method('copyFrom', (m) => {
  const x = m.make(m.shape(), m.dtype());
  return [x, m.make(x.shape, m.dtype())];
});
both('reshape', ng.reshape as Call, (m) => {
  const x = m.tensor();
  return [x, m.pick([[x.size], [-1], [1, ...x.shape].slice(0, 8), [x.size, 1]])];
});
both('permute', ng.permute as Call, (m) => {
  const x = m.tensor();
  return [x, x.shape.map((_, axis) => x.rank - 1 - axis)];
});
both(
  'transpose',
  ng.transpose as Call,
  (m) => {
    const x = m.tensor(null, m.integer(2, 4));
    return m.chance(0.5) ? [x] : [x, m.axis(x), m.axis(x)];
  },
  'permute',
);
both('expand', ng.expand as Call, (m) => {
  const x = m.tensor();
  return [x, m.chance(0.5) ? x.shape : [m.integer(0, 3), ...x.shape.map(() => -1)].slice(-8)];
});
both('slice', ng.slice as Call, (m) => {
  const x = m.tensor(null, m.integer(1, 4));
  return [x, m.axis(x), m.integer(-5, 5), m.integer(-5, 40), m.pick([1, 2, 3, -1, -2])];
});
both('select', ng.select as Call, (m) => {
  const x = m.tensor(null, m.integer(1, 4));
  const axis = m.axis(x);
  const size = x.shape.at(axis) as number;
  return [x, axis, m.integer(-size, size - 1)];
});
both(
  'squeeze',
  ng.squeeze as Call,
  (m) => {
    const x = m.tensor();
    return x.rank === 0 || m.chance(0.3) ? [x] : [x, m.axis(x)];
  },
  'reshape',
);
both(
  'unsqueeze',
  ng.unsqueeze as Call,
  (m) => {
    const x = m.tensor();
    return [x, m.integer(-x.rank - 1, x.rank)];
  },
  'reshape',
);
both(
  'flatten',
  ng.flatten as Call,
  (m) => {
    const x = m.tensor();
    return [x, x.rank === 0 ? 0 : m.axis(x)];
  },
  'reshape',
);
op('alias', ng.alias, (m) => [m.tensor()]);
both('detach', ng.detach as Call, (m) => [m.tensor()], 'alias');
both(
  'at',
  ng.at as Call,
  (m) => {
    const x = m.tensor();
    return [x, ...x.shape.map(() => m.pick([null, [0, 2], [1, undefined, 2], [-1]]))];
  },
  'slice',
);

// Movement, parts, diagonals.
function several(m: Maker): ng.Tensor[] {
  const x = m.tensor(null, m.integer(1, 4));
  return Array.from({ length: m.integer(1, 3) }, () => m.make(x.shape, m.dtype()));
}
op('cat', ng.cat, (m) => {
  const list = several(m);
  return [list, m.axis(list[0] as ng.Tensor)];
});
plain('stack', ng.stack, (m) => [several(m), m.integer(-2, 1)], { op: 'cat' });
plain(
  'pad',
  ng.pad,
  (m) => {
    const x = m.tensor(null, m.integer(1, 4));
    const pairs = Array.from({ length: 2 * m.integer(0, x.rank) }, () => m.integer(-1, 3));
    if (m.chance(0.5)) return [x, pairs, 'constant', m.number()];
    const mode = m.pick(['reflect', 'replicate', 'circular']);
    return [x, pairs.map((n) => Math.max(n, 0)), mode];
  },
  { op: 'pad' },
);
both('flip', ng.flip as Call, (m) => {
  const x = m.tensor(null, m.integer(1, 4));
  return [x, m.axis(x)];
});
both('roll', ng.roll as Call, (m) => {
  const x = m.tensor(null, m.integer(1, 4));
  return m.chance(0.3) ? [x, m.integer(-9, 9)] : [x, m.integer(-9, 9), m.axis(x)];
});
both('tile', ng.tile as Call, (m) => {
  return [m.tensor(null, m.integer(0, 3)), [m.integer(0, 2), m.integer(1, 3)]];
});
both('repeatInterleave', ng.repeatInterleave as Call, (m) => {
  const x = m.tensor(null, m.integer(0, 3));
  return x.rank === 0 || m.chance(0.3) ? [x, m.integer(0, 3)] : [x, m.integer(0, 3), m.axis(x)];
});
for (const name of ['tril', 'triu'] as const) {
  both(name, api[name] as Call, (m) => [m.tensor(null, m.integer(2, 4)), m.integer(-3, 3)]);
}
both('diagonal', ng.diagonal as Call, (m) => [
  m.tensor(null, 3),
  m.integer(-3, 3),
  0,
  m.pick([1, 2]),
]);
op('diagEmbed', ng.diagEmbed, (m) => [m.tensor(null, m.integer(1, 3)), m.integer(-3, 3)]);
both(
  'diag',
  ng.diag as Call,
  (m) => [m.tensor(null, m.integer(1, 2)), m.integer(-3, 3)],
  'diagonal',
);
plain('meshgrid', ng.meshgrid, (m) => [
  [m.tensor(null, 1), m.tensor(null, m.integer(0, 1))],
  m.pick(['ij', 'xy']),
]);
both(
  'split',
  ng.split as Call,
  (m) => {
    const x = m.tensor(null, m.integer(1, 4));
    const axis = m.axis(x);
    return [x, m.chance(0.5) ? m.integer(1, 9) : [x.shape.at(axis) as number, 0], axis];
  },
  'slice',
);
both(
  'chunk',
  ng.chunk as Call,
  (m) => {
    const x = m.tensor(null, m.integer(1, 4));
    return [x, m.integer(1, 5), m.axis(x)];
  },
  'slice',
);
both(
  'unbind',
  ng.unbind as Call,
  (m) => {
    const x = m.tensor(null, m.integer(1, 4));
    return [x, m.axis(x)];
  },
  'select',
);
both(
  'movedim',
  ng.movedim as Call,
  (m) => {
    const x = m.tensor(null, m.integer(1, 4));
    return [x, m.axis(x), m.axis(x)];
  },
  'permute',
);
both(
  'swapaxes',
  ng.swapaxes as Call,
  (m) => {
    const x = m.tensor(null, m.integer(1, 4));
    return [x, m.axis(x), m.axis(x)];
  },
  'permute',
);
both(
  'broadcastTo',
  ng.broadcastTo as Call,
  (m) => {
    const x = m.tensor(null, m.integer(0, 3));
    return [x, [m.integer(0, 3), ...x.shape]];
  },
  'expand',
);
both(
  'expandAs',
  ng.expandAs as Call,
  (m) => {
    const x = m.tensor();
    return [
      m.make(
        x.shape.map((size) => (m.chance(0.3) ? 1 : size)),
        m.dtype(),
      ),
      x,
    ];
  },
  'expand',
);

// Elements by index, and masks.
function picked(m: Maker): [ng.Tensor, number, ng.Tensor] {
  const x = m.tensor(null, m.integer(1, 3));
  const axis = m.axis(x);
  const at = axis < 0 ? axis + x.rank : axis;
  const shape = x.shape.map((size, i) => (i === at ? m.integer(0, 9) : m.integer(0, size)));
  const size = shape.reduce((a, b) => a * b, 1);
  return [x, axis, m.index(size, (x.shape[at] as number) + 1).reshape(shape)];
}
both('gather', ng.gather as Call, picked);
both('scatter', ng.scatter as Call, (m) => {
  const [x, axis, index] = picked(m);
  return [x, axis, index, m.chance(0.5) ? m.number() : m.make(index.shape, m.dtype())];
});
both('scatterAdd', ng.scatterAdd as Call, (m) => {
  const [x, axis, index] = picked(m);
  return [x, axis, index, m.make(index.shape, m.dtype())];
});
both('nonzero', ng.nonzero as Call, (m) => [m.tensor()]);
both(
  'maskedFill',
  ng.maskedFill as Call,
  (m) => {
    const x = m.tensor();
    return [x, m.make(x.shape.slice(m.integer(0, x.rank)), 'bool'), m.number()];
  },
  'where',
);
both(
  'maskedSelect',
  ng.maskedSelect as Call,
  (m) => {
    const x = m.tensor();
    return [x, m.beside(x, 'bool')];
  },
  'nonzero',
);
plain('oneHot', ng.oneHot, (m) => [m.index(m.integer(0, 9), 5), m.integer(1, 6)], { op: 'eq' });

// Products, softmax, rows.
function productOperands(m: Maker): [ng.Tensor, ng.Tensor] {
  const dtype = m.float();
  const [rows, inner, columns] = [m.integer(0, 9), m.integer(0, 20), m.integer(0, 9)];
  const batch = m.shape(m.integer(0, 2));
  const a = m.make(m.chance(0.2) ? [inner] : [...batch, rows, inner], dtype);
  return [a, m.make(m.chance(0.2) ? [inner] : [inner, columns], dtype)];
}
both('matmul', ng.matmul as Call, productOperands);
op('linear', ng.linear, (m) => {
  const dtype = m.float();
  const [inputs, outputs] = [m.integer(0, 20), m.integer(0, 9)];
  const x = m.make([...m.shape(m.integer(0, 2)), inputs], dtype);
  const bias = m.chance(0.5) ? m.make([outputs], dtype) : null;
  return [x, m.make([outputs, inputs], dtype), bias, { relu: m.chance(0.5) }];
});
// Convolutions and pooling of one axis or two; `m.integer(…)` keeps kernels within their inputs.
function convolution(m: Maker, axes: 1 | 2, transposed: boolean): unknown[] {
  const dtype = m.float();
  const [groups, each, outputs] = [m.integer(1, 2), m.integer(1, 3), m.integer(1, 3)];
  const kernel = Array.from({ length: axes }, () => m.integer(1, 3));
  const image = kernel.map((taps) => 2 * taps + m.integer(0, 4));
  const weight = transposed ? [groups * each, outputs] : [groups * outputs, each];
  const bias = m.chance(0.5) ? m.make([groups * outputs], dtype) : null;
  const options = {
    groups,
    stride: m.integer(1, 3),
    padding: m.chance(0.2) ? 0 : m.integer(0, 1),
    dilation: m.integer(1, 2),
  };
  const x = m.make([m.integer(0, 2), groups * each, ...image], dtype);
  return [x, m.make([...weight, ...kernel], dtype), bias, options];
}
op('conv2d', ng.conv2d, (m) => convolution(m, 2, false));
op('convTranspose2d', ng.convTranspose2d, (m) => convolution(m, 2, true));
plain('conv1d', ng.conv1d, (m) => convolution(m, 1, false), { op: 'conv2d' });
plain('convTranspose1d', ng.convTranspose1d, (m) => convolution(m, 1, true), {
  op: 'convTranspose2d',
});
function pooling(m: Maker, axes: 1 | 2): unknown[] {
  const image = Array.from({ length: axes }, () => m.integer(3, 9));
  const x = m.make([m.integer(0, 2), m.integer(1, 3), ...image], m.float());
  const kernel = m.integer(2, 3);
  const options = { stride: m.integer(1, 4), padding: m.integer(0, 1), ceilMode: m.chance(0.5) };
  return [x, kernel, options];
}
op('maxPool2d', ng.maxPool2d, (m) => pooling(m, 2));
op('avgPool2d', ng.avgPool2d, (m) => pooling(m, 2));
plain('maxPool1d', ng.maxPool1d, (m) => pooling(m, 1), { op: 'maxPool2d' });
plain('avgPool1d', ng.avgPool1d, (m) => pooling(m, 1), { op: 'avgPool2d' });
const images = (m: Maker): ng.Tensor =>
  m.make([...m.shape(m.integer(1, 2)), m.integer(1, 9), m.integer(1, 9)], m.float());
for (const name of ['adaptiveAvgPool2d', 'adaptiveMaxPool2d'] as const) {
  const by = name === 'adaptiveAvgPool2d' ? 'avgPool2d' : 'maxPool2d';
  plain(name, api[name], (m) => [images(m), m.pick([1, [3, null], 11, null])], { op: by });
}
plain('upsample', ng.upsample, (m) => [
  images(m),
  m.pick([
    { scaleFactor: 2 },
    { size: [5, 7] },
    { size: 6, mode: 'bilinear' },
    { scaleFactor: [1.5, 2], mode: 'bilinear', alignCorners: true },
  ]),
]);
for (const name of ['softmax', 'logSoftmax'] as const) {
  both(
    name,
    api[name] as Call,
    (m) => {
      const x = m.floating();
      return [x, x.rank === 0 ? -1 : m.axis(x)];
    },
    'softmax',
  );
}
op('crossEntropy', ng.crossEntropy, (m) => {
  const [rows, classes] = [m.integer(0, 12), m.integer(1, 9)];
  const reduction = m.pick(['mean', 'sum', 'none'] as const);
  const options = m.chance(0.5) ? { reduction } : { reduction, ignoreIndex: 1 };
  return [m.make([rows, classes], m.float()), m.index(rows, classes + 1), options];
});
op('scaledDotProductAttention', ng.scaledDotProductAttention, (m) => {
  const dtype = m.float();
  const [batch, few, group] = [m.integer(0, 2), m.integer(1, 2), m.integer(1, 2)];
  const [queries, keys, width] = [m.integer(0, 9), m.integer(0, 9), m.integer(0, 20)];
  const k = m.make([batch, few, keys, width], dtype);
  const options = {
    mask: m.pick([null, m.make([queries, keys], m.chance(0.5) ? 'bool' : dtype)]),
    keyPadding: m.pick([null, m.make([batch, keys], 'bool')]),
    isCausal: m.chance(0.5),
    dropout: m.pick([0, 0.2]),
    scale: m.pick([undefined, 0.3]),
  };
  return [m.make([batch, few * group, queries, width], dtype), k, k, options];
function normOptions(m: Maker, shape: readonly number[], dtype: ng.DType): ng.AffineOptions {
  const weight = m.make(shape, dtype);
  return m.pick([{}, { weight }, { weight, bias: m.make(shape, dtype), eps: 1e-3 }]);
}
both('layerNorm', ng.layerNorm as Call, (m) => {
  const x = m.floating(m.integer(1, 4));
  const shape = x.shape.slice(m.integer(0, x.rank - 1));
  return [x, shape, normOptions(m, shape, x.dtype)];
});
both('rmsNorm', ng.rmsNorm as Call, (m) => {
  const x = m.floating(m.integer(1, 4));
  const shape = x.shape.slice(m.integer(0, x.rank - 1));
  return [x, shape, m.chance(0.5) ? { weight: m.make(shape, x.dtype) } : {}];
});
op('groupNorm', ng.groupNorm, (m) => {
  const [groups, each, dtype] = [m.integer(1, 4), m.integer(0, 3), m.float()];
  const x = m.make([m.integer(0, 5), groups * each, ...m.shape(m.integer(0, 2))], dtype);
  return [x, groups, normOptions(m, [groups * each], dtype)];
});
plain(
  'instanceNorm',
  ng.instanceNorm,
  (m) => {
    const x = m.floating(m.integer(3, 4));
    return [x, normOptions(m, [x.shape[1] as number], x.dtype)];
  },
  { op: 'groupNorm' },
);
op('batchNorm', ng.batchNorm, (m) => {
  const [channels, dtype] = [m.integer(0, 5), m.float()];
  const x = m.make([m.integer(2, 9), channels, ...m.shape(m.integer(0, 2))], dtype);
  const wide = dtype === 'float64' ? dtype : 'float32';
  const running = {
    runningMean: m.make([channels], wide),
    runningVar: m.make([channels], wide),
    numBatchesTracked: m.make([], 'int64'),
    momentum: m.pick([null, 0.1, 1]),
  };
  const options = normOptions(m, [channels], dtype);
  return [x, { ...options, ...(m.chance(0.6) && running), training: m.chance(0.8) }];
});
const dropoutGenerator = new ng.Generator(2);
both('dropout', ng.dropout as Call, (m) => {
  const generator = m.chance(0.5) ? [dropoutGenerator] : [];
  return [m.floating(), m.pick([0, 0.3, 0.5, 1]), m.chance(0.8), ...generator];
});
op('embedding', ng.embedding, (m) => {
  const rows = m.integer(0, 6);
  const table = m.make([rows, m.integer(0, 6)], m.float());
  const index = m.index(6, rows + 1).reshape(m.pick([[6], [2, 3], [3, 1, 2]]));
  return [
    table,
    index,
    rows > 0 && m.chance(0.5) ? { paddingIdx: m.integer(-rows, rows - 1) } : {},
  ];
});
both('indexSelect', ng.indexSelect as Call, (m) => {
  const x = m.tensor(null, m.integer(1, 3));
  const axis = m.axis(x);
  return [x, m.index(m.integer(0, 9), (x.shape.at(axis) as number) + 1), axis];
});
op('indexAdd', ng.indexAdd, (m) => {
  const shape = [m.integer(0, 6), m.integer(0, 6)];
  const rows = m.integer(0, 9);
  if (m.chance(0.5)) {
    return [shape, m.index(rows, 7), m.make([shape[0] as number, rows], m.dtype()), -1];
  }
  return [shape, m.index(rows, 7), m.make([rows, shape[1] as number], m.dtype())];
});
plain(
  'recurrent',
  ng.recurrent,
  (m) => {
    const mode = m.pick(['lstm', 'gru', 'tanh', 'relu'] as const);
    const dtype = m.float();
    const gates = { lstm: 4, gru: 3, tanh: 1, relu: 1 }[mode];
    const [batch, steps, input] = [m.integer(0, 4), m.integer(0, 3), m.integer(0, 5)];
    const [hidden, directions, biased] = [m.integer(1, 5), m.integer(1, 2), m.chance(0.5)];
    const size = gates * hidden;
    const weights = Array.from({ length: directions }, () => [
      m.make([size, input], dtype),
      m.make([size, hidden], dtype),
      ...(biased ? [m.make([size], dtype), m.make([size], dtype)] : []),
    ]);
    const state = () => (m.chance(0.5) ? m.make([directions, batch, hidden], dtype) : null);
    const options = {
      batchFirst: m.chance(0.5),
      lengths: m.chance(0.5) ? m.index(batch, steps + 2) : null,
      h0: state(),
      c0: mode === 'lstm' ? state() : null,
    };
    const shape = options.batchFirst ? [batch, steps, input] : [steps, batch, input];
    return [mode, m.make(shape, dtype), weights, options];
  },
  { op: 'rnn' },
);
for (const name of ['cumsum', 'cumprod'] as const) {
  both(name, api[name] as Call, (m) => {
    const x = m.tensor(null, m.integer(1, 4));
    return [x, m.axis(x)];
  });
}
for (const name of ['sort', 'argsort'] as const) {
  both(
    name,
    api[name] as Call,
    (m) => {
      const x = m.tensor(null, m.integer(1, 4));
      return [x, m.axis(x), { descending: m.chance(0.5) }];
    },
    'sort',
  );
}
both(
  'topk',
  ng.topk as Call,
  (m) => {
    const x = m.tensor(null, m.integer(1, 4));
    const axis = m.axis(x);
    return [x, m.integer(0, x.shape.at(axis) as number), axis, { largest: m.chance(0.5) }];
  },
  'sort',
);
both(
  'median',
  ng.median as Call,
  (m) => {
    const x = m.tensor(null, m.integer(1, 4));
    return m.chance(0.5) ? [x] : [x, m.axis(x), true];
  },
  'sort',
);
// Composed of others.
function composed(name: string, args: Entry['args'], names: { as?: string } = {}): void {
  plain(name, api[name], args, name in ng.opTable ? { op: name } : {});
  method(names.as ?? name, args);
}
for (const name of ['logsumexp', 'countNonzero', 'any', 'all']) {
  composed(name, (m) => {
    const x = m.floating();
    return [x, m.axes(x), m.chance(0.5)];
  });
}
for (const [name, as] of [
  ['variance', 'var'],
  ['std', 'std'],
] as const) {
  const args = (m: Maker): unknown[] => {
    const x = m.floating();
    return [x, m.axes(x), { correction: m.integer(0, 2), keepdim: m.chance(0.5) }];
  };
  composed(name, args, { as });
}
plain('varMean', ng.varMean, (m) => [m.floating()]);
composed('norm', (m) => {
  const x = m.floating();
  return [x, m.pick([0, 1, 2, 3, 0.5, Number.POSITIVE_INFINITY]), m.axes(x), m.chance(0.5)];
});
composed('clamp', (m) => {
  const x = m.tensor();
  return [x, m.pick([null, -1, m.beside(x)]), m.pick([1, m.beside(x)])];
});
composed('lerp', (m) => {
  const x = m.floating();
  return [x, m.beside(x, x.dtype), m.chance(0.5) ? 0.3 : m.beside(x, x.dtype)];
});
for (const name of ['addcmul', 'addcdiv']) {
  composed(name, (m) => {
    const x = m.floating();
    return [x, m.beside(x, x.dtype), m.beside(x, x.dtype), m.number()];
  });
}
composed('nanToNum', (m) => [m.floating(), 0, 1, -1]);
composed('celu', (m) => [m.floating(), m.pick([1, 0.5])]);
for (const name of ['outer', 'dot', 'vdot']) {
  const args = (m: Maker): unknown[] => {
    const n = m.integer(0, 9);
    const dtype = m.float();
    return [m.make([n], dtype), m.make([n], dtype)];
  };
  if (name === 'vdot') plain(name, api[name], args);
  else composed(name, args);
}
composed('mv', (m) => [m.make([3, 4], 'float32'), m.make([4], 'float32')]);
composed('bmm', (m) => [m.make([2, 3, 4], 'float32'), m.make([2, 4, 2], 'float32')]);
composed('trace', (m) => [m.make([m.integer(0, 4), m.integer(0, 4)], m.float())]);
composed('kron', (m) => [m.make([2, 3], m.float()), m.make(m.shape(m.integer(0, 2)), m.float())]);
plain('addmm', ng.addmm, (m) => {
  const [a, b] = [m.make([3, 4], 'float32'), m.make([4, 2], 'float32')];
  return [m.make([2], 'float32'), a, b, { beta: 0.5, alpha: m.number() }];
});
plain('tensordot', ng.tensordot, (m) => [
  m.make([2, 3, 4], 'float32'),
  m.make([3, 4, 2], 'float32'),
  m.pick([2, 0, [[1], [0]]]),
]);
plain('einsum', ng.einsum, (m) => [
  m.pick(['ij,jk->ik', 'ij,jk', '...j,jk', 'ij,jk->', 'ii,ij->j']),
  m.make([3, 3], 'float32'),
  m.make([3, m.integer(0, 4)], 'float32'),
]);
plain('setMatmulPrecision', ng.setMatmulPrecision, (m) => [m.pick(['highest', 'high', 'medium'])]);
plain('getMatmulPrecision', ng.getMatmulPrecision, () => []);
plain('setMatmulBackend', ng.setMatmulBackend, (m) => [m.pick(['best', 'own', 'cublas'])]);
plain('getMatmulBackend', ng.getMatmulBackend, () => []);

// Tensors.
for (const name of ['rank', 'size', 'bytes', 'released', 'requiresGrad', 'grad', 'T']) getter(name);
for (const name of ['keep', 'data', 'read', 'toArray', 'toString'])
  method(name, (m) => [m.tensor()]);
method('item', (m) => [m.make(m.pick([[], [1], [1, 1]]), m.dtype())]);
method('dispose', (m) => [m.tensor()]);
method('zeroGrad', (m) => [m.tensor()]);
method('requireGrad', (m) => [m.make(m.shape(), m.float()), m.chance(0.8)]);
method('retainGrad', (m) => [m.leaf().mul(2)]);
method('onGrad', (m) => [m.leaf(), (g: ng.Tensor) => (m.chance(0.5) ? g.mul(2) : undefined)]);
function differentiable(m: Maker): [ng.Tensor, ng.Tensor] {
  const x = m.leaf();
  const y = m.pick([
    () => x.mul(x).tanh(),
    () => x.softmax().add(x),
    () => x.exp().div(x.abs().add(1)),
    () => x.reshape([-1]).sum().sqrt(),
  ])();
  return [x, y];
}
for (const [name, call] of [
  ['Tensor.backward', (y: ng.Tensor, ...rest: [ng.Tensor]) => y.backward(...rest)],
  ['backward', ng.backward],
] as const) {
  plain(
    name,
    call,
    (m) => {
      const [, y] = differentiable(m);
      return [y, m.make(y.shape, y.dtype), { retainGraph: m.chance(0.5) }];
    },
    { pinned: 1, weight: 3 },
  );
}
plain(
  'grad',
  ng.grad,
  (m) => {
    const [x, y] = differentiable(m);
    return [y, [x], m.make(y.shape, y.dtype), { createGraph: m.chance(0.3) }];
  },
  { weight: 2 },
);
method('registerHook', (m) => [m.leaf(), (g: ng.Tensor) => g.mul(2)]);
plain(
  'customFunction',
  (definition: never, x: ng.Tensor) => {
    const y = ng.customFunction(definition)(x as never) as ng.Tensor;
    if (y.requiresGrad) y.sum().backward();
    return y;
  },
  (m) => [
    {
      name: 'customFunction',
      forward: (ctx: ng.FunctionContext, x: ng.Tensor) => {
        ctx.save(x);
        return x.square();
      },
      backward: (ctx: ng.FunctionContext, dout: ng.Tensor) =>
        dout.mul(ctx.saved[0] as ng.Tensor).mul(2),
    },
    m.leaf(),
  ],
);
plain(
  'checkpoint',
  (fn: never, x: ng.Tensor) => {
    const y = ng.checkpoint(fn as (x: ng.Tensor) => ng.Tensor, x);
    if (y.requiresGrad) y.sum().backward();
    return y;
  },
  (m) => [(x: ng.Tensor) => ng.tanh(ng.mul(x, 2)), m.leaf()],
);
plain('autocast', ng.autocast, (m) => [
  { dtype: m.pick(['bfloat16', 'float16']), enabled: m.chance(0.8) },
  () => ng.matmul(m.make([2, 3], 'float32'), m.make([3, 2], 'float32')),
]);
plain('autocastDType', ng.autocastDType, () => []);
plain('detectAnomaly', ng.detectAnomaly, (m) => [
  () => m.make(m.shape(), 'float32').mul(2),
  { infinite: m.chance(0.5) },
]);
plain('setAnomalyDetection', ng.setAnomalyDetection, () => [false], { pinned: 1 });
plain('profile', ng.profile, (m) => [() => void m.make([2], 'float32').mul(2), { shapes: true }], {
  weight: 0.2,
});
plain('annotate', ng.annotate, (m) => ['part', () => m.make([2], 'float32')]);
plain(
  'Profile',
  () => ng.profile(() => 1).table(),
  () => [],
  { weight: 0.2 },
);
plain(
  'shareTensor',
  (x: ng.Tensor, options: object) => ng.receiveTensor(ng.shareTensor(x, options)),
  (m) => [m.make(m.shape(), m.dtype()).to('cpu'), { expires: 1 }],
);
plain(
  'receiveTensor',
  (shared: never) => ng.receiveTensor(shared),
  () => [ng.shareTensor(ng.ones([2]), { expires: 1 })],
);

// Contexts and devices.
for (const name of ['noGrad', 'enableGrad', 'scope'] as const) {
  plain(name, api[name], (m) => [() => m.make(m.shape(), 'float32').add(1)]);
}
plain(
  'steps',
  (n: number) => {
    let total = ng.zeros([]);
    for (const i of ng.steps(n)) {
      total = total.add(i);
      if (i >= 20) break;
    }
    return total;
  },
  (m) => [m.integer(0, 5)],
);
plain(
  'capture',
  async (fn: (x: ng.Tensor) => ng.Tensor, x: ng.Tensor) => {
    const step = ng.capture(fn);
    try {
      for (let i = 0; i < 3; ++i) await step(x);
    } finally {
      step.dispose();
    }
  },
  (m) => [(x: ng.Tensor) => ng.sum(ng.mul(x, 2)), m.tensor('float32')],
  { weight: 0.05 },
);
plain(
  'valueAndGrad',
  (model: ng.HasParameters, fn: (x: ng.Tensor) => ng.Tensor, x: ng.Tensor) =>
    ng.valueAndGrad(model, fn)(x),
  (m) => {
    const model = new ng.nn.Linear(3, 2, { device: m.device });
    const fn = (x: ng.Tensor): ng.Tensor => model.forward(x).sum();
    return [model, fn, m.make([2, 3], 'float32')];
  },
  { weight: 0.3 },
);
plain('device', ng.device, (m) => [m.device.name]);
plain('deviceAvailable', ng.deviceAvailable, (m) => [m.pick(['cpu', 'cuda', 'emulated'])]);
plain('devices', ng.devices, (m) => [m.pick(['cpu', 'cuda'])]);
plain('deviceCount', ng.deviceCount, (m) => [m.pick(['cpu', 'cuda', 'emulated'])]);
plain('getDefaultDevice', ng.getDefaultDevice, () => []);
plain('setDefaultDevice', ng.setDefaultDevice, () => ['cpu']);
plain('getNumThreads', ng.getNumThreads, () => []);
plain('setNumThreads', ng.setNumThreads, (m) => [m.integer(1, 3)], { weight: 0.02 });
plain('memory.stats', ng.memory.stats, (m) => [m.device]);
plain('memory.setLimit', ng.memory.setLimit, (m) => [m.integer(0, 2 ** 30), m.device]);
plain('memory.emptyCache', ng.memory.emptyCache, (m) => [m.device], { weight: 0.1 });
plain('memory.resetPeak', ng.memory.resetPeak, (m) => [m.device]);

// Layers, losses, initialisers.
const { nn } = ng;
function layer(name: string, make: Constructor, args: Entry['args'], input: Entry['args']): void {
  plain(`nn.${name}`, (...given: never[]) => String(new make(...given)), args);
  plain(
    `nn.${name}.forward`,
    (x: ng.Tensor, ...given: never[]) => new make(...given).forward(x),
    (m) => [...input(m), ...args(m)],
  );
}
for (const name of [
  'ReLU',
  'Sigmoid',
  'Tanh',
  'GELU',
  'SiLU',
  'Softplus',
  'Identity',
  'ReLU6',
  'Hardsigmoid',
  'Hardswish',
  'SELU',
  'Mish',
  'Softsign',
  'LogSigmoid',
] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [],
    (m) => [m.floating()],
  );
}
for (const name of ['LeakyReLU', 'ELU', 'CELU'] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [0.5],
    (m) => [m.floating()],
  );
}
layer(
  'Hardtanh',
  nn.Hardtanh as never,
  () => [-1, 2],
  (m) => [m.floating()],
);
for (const name of ['Softmax', 'LogSoftmax'] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [-1],
    (m) => [m.floating()],
  );
}
layer(
  'Flatten',
  nn.Flatten as never,
  () => [1],
  (m) => [m.floating(m.integer(2, 4))],
);
for (const name of ['Conv1d', 'Conv2d', 'ConvTranspose1d', 'ConvTranspose2d'] as const) {
  const image = name.endsWith('1d') ? [6] : [6, 5];
  layer(
    name,
    layers[name] as Constructor,
    (m) => [2, 4, m.integer(1, 3), { groups: 2, padding: 1, bias: m.chance(0.5) }],
    (m) => [m.make([m.integer(0, 2), 2, ...image], 'float32')],
  );
}
for (const name of ['MaxPool1d', 'MaxPool2d', 'AvgPool1d', 'AvgPool2d'] as const) {
  const image = name.endsWith('1d') ? [6] : [6, 5];
  layer(
    name,
    layers[name] as Constructor,
    (m) => [m.integer(2, 3), { stride: m.integer(1, 2) }],
    (m) => [m.make([m.integer(0, 2), 2, ...image], m.float())],
  );
}
for (const name of ['AdaptiveAvgPool2d', 'AdaptiveMaxPool2d'] as const) {
  layer(
    name,
    layers[name] as Constructor,
    (m) => [m.pick([1, [2, null]])],
    (m) => [images(m)],
  );
}
layer(
  'Unflatten',
  nn.Unflatten as never,
  () => [1, [2, -1]],
  (m) => [m.make([3, 4], m.float())],
);
layer(
  'Upsample',
  nn.Upsample as never,
  () => [{ scaleFactor: 2 }],
  (m) => [images(m)],
);
layer(
  'Linear',
  nn.Linear as never,
  () => [3, 2],
  (m) => [m.make([m.integer(0, 4), 3], 'float32')],
);
for (const [name, shape] of [
  ['LayerNorm', [4, 3]],
  ['RMSNorm', [4, 3]],
  ['BatchNorm1d', [4, 3]],
  ['BatchNorm2d', [4, 3, 2, 2]],
  ['InstanceNorm2d', [4, 3, 2, 2]],
] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [3, { eps: 1e-3 }],
    (m) => [m.make(shape, 'float32')],
  );
}
layer(
  'GroupNorm',
  nn.GroupNorm as never,
  () => [2, 4, { eps: 1e-3 }],
  (m) => [m.make([3, 4, 2], 'float32')],
);
for (const [name, rank] of [
  ['Dropout', 2],
  ['Dropout1d', 3],
  ['Dropout2d', 4],
] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [0.5],
    (m) => [m.floating(rank)],
  );
}
layer(
  'Embedding',
  nn.Embedding as never,
  () => [6, 3, { paddingIdx: 1 }],
  (m) => [m.index(5, 7)],
);
layer(
  'EmbeddingBag',
  nn.EmbeddingBag as never,
  () => [6, 3, { mode: 'sum', paddingIdx: 1 }],
  (m) => [m.index(6, 7).reshape([2, 3])],
);
plain('nn.Embedding.fromPretrained', nn.Embedding.fromPretrained, (m) => [
  m.make([4, 3], m.float()),
  { freeze: m.chance(0.5) },
]);
layer(
  'Sequential',
  nn.Sequential as never,
  () => [new nn.ReLU(), new nn.Tanh()],
  (m) => [m.floating()],
);
for (const name of ['RNN', 'GRU', 'LSTM'] as const) {
  layer(
    name,
    nn[name] as never,
    (m) => [3, 4, { numLayers: m.integer(1, 2), bidirectional: m.chance(0.5), dropout: 0.5 }],
    (m) => [m.make([m.integer(0, 3), m.integer(0, 3), 3], 'float32')],
  );
}
for (const name of ['RNNCell', 'GRUCell', 'LSTMCell'] as const) {
  layer(
    name,
    nn[name] as never,
    (m) => [3, 4, { bias: m.chance(0.5) }],
    (m) => [m.make([m.integer(0, 4), 3], 'float32')],
  );
}
const packedRows = (m: Maker): [ng.Tensor, ng.Tensor | number[], { batchFirst: boolean }] => {
  const [batch, steps] = [m.integer(0, 4), m.integer(1, 4)];
  const lengths = m.chance(0.5)
    ? m.index(batch, steps + 2)
    : Array.from({ length: batch }, () => m.integer(1, steps));
  return [m.make([batch, steps, 2], m.float()), lengths, { batchFirst: true }];
};
plain('nn.packPaddedSequence', nn.packPaddedSequence, packedRows);
plain('nn.padPackedSequence', nn.padPackedSequence, (m) => [
  nn.packPaddedSequence(...packedRows(m)),
  { batchFirst: m.chance(0.5), paddingValue: m.integer(0, 1) },
]);
plain(
  'nn.PackedSequence',
  (...given: [ng.Tensor, ng.Tensor]) => void new nn.PackedSequence(...given),
  (m) => [m.make([2, 3, 1], 'float32'), m.index(2, 3)],
);
plain('nn.padSequence', nn.padSequence, (m) => {
  const dtype = m.dtype();
  const parts = Array.from({ length: m.integer(1, 4) }, () => m.make([m.integer(0, 4), 2], dtype));
  return [parts, { batchFirst: m.chance(0.5), paddingValue: 1 }];
});
// Attention and transformers.
layer(
  'MultiheadAttention',
  nn.MultiheadAttention as never,
  () => [8, 2, { batchFirst: true }],
  (m) => [m.make([m.integer(0, 2), m.integer(0, 4), 8], 'float32')],
);
plain(
  'nn.MultiheadAttention.forward between sequences',
  (query: never, key: never, value: never, call: never) =>
    new nn.MultiheadAttention(8, 2).forward(query, key, value, call)[0],
  (m) => {
    const [queries, keys, batch] = [m.integer(1, 3), m.integer(1, 3), m.integer(1, 2)];
    const key = m.make([keys, batch, 8], 'float32');
    const call = {
      attnMask: m.pick([null, m.make([queries, keys], 'bool')]),
      keyPaddingMask: m.pick([null, m.make([batch, keys], 'bool')]),
      needWeights: m.chance(0.5),
    };
    return [m.make([queries, batch, 8], 'float32'), key, key, call];
  },
);
for (const [name, make] of [
  ['AdditiveAttention', (options: object) => new nn.AdditiveAttention(4, 4, 3, options)],
  ['DotProductAttention', () => new nn.DotProductAttention()],
] as const) {
  plain(
    `nn.${name}`,
    (query: never, keys: never, values: never, call: never) =>
      make({}).forward(query, keys, values, call)[0],
    (m) => {
      const [batch, length] = [m.integer(0, 2), m.integer(1, 5)];
      const keys = m.make([batch, length, 4], 'float32');
      const query = m.make(
        m.pick([
          [batch, 4],
          [batch, 3, 4],
        ]),
        'float32',
      );
      return [query, keys, keys, { keyPaddingMask: m.make([batch, length], 'bool') }];
    },
  );
}
const small = { dimFeedforward: 4, dropout: 0.1, activation: 'gelu', batchFirst: true } as const;
layer(
  'TransformerEncoderLayer',
  nn.TransformerEncoderLayer as never,
  () => [4, 2, small],
  (m) => [m.make([2, m.integer(0, 3), 4], 'float32')],
);
layer(
  'TransformerEncoder',
  nn.TransformerEncoder as never,
  () => [new nn.TransformerEncoderLayer(4, 2, small), 2, { norm: new nn.LayerNorm(4) }],
  (m) => [m.make([2, m.integer(0, 3), 4], 'float32')],
);
for (const name of ['TransformerDecoderLayer', 'TransformerDecoder'] as const) {
  plain(
    `nn.${name}`,
    (x: never, memory: never, masks: never, width: never, options: never) => {
      const made = new nn.TransformerDecoderLayer(width, 2, options);
      const decoder = name === 'TransformerDecoder' ? new nn.TransformerDecoder(made, 2) : made;
      return decoder.forward(x, memory, masks);
    },
    (m) => {
      const [length, keys] = [m.integer(1, 3), m.integer(1, 3)];
      const masks = { isCausal: true, memoryKeyPaddingMask: m.make([2, keys], 'bool') };
      const x = m.make([2, length, 4], 'float32');
      return [x, m.make([2, keys, 4], 'float32'), masks, 4, small];
    },
    { weight: 0.5 },
  );
}
plain('nn.sinusoidalPositions', nn.sinusoidalPositions, (m) => [
  m.integer(0, 5),
  m.integer(1, 6),
  { base: 100, ...m.options() },
]);
for (const name of ['SinusoidalPositions', 'LearnedPositions', 'RotaryPositions'] as const) {
  layer(
    name,
    nn[name] as never,
    () => [4, 6],
    (m) => [m.make([...m.shape(m.integer(0, 2)), m.integer(0, 4), 6], m.float())],
  );
}
plain(
  'models.mlp',
  (...given: never[]) => void (ng.models.mlp as Call)(...given),
  () => [[4, 3, 2]],
);
plain(
  'models.cnn',
  (options: object) => void ng.models.cnn(options),
  () => [{ input: [1, 6, 7], channels: [2], hidden: 3 }],
  { weight: 0.3 },
);
plain('nn.parameter', nn.parameter, (m) => [m.make(m.shape(), m.float())]);
plain('nn.buffer', nn.buffer, (m) => [m.make(m.shape(), m.dtype())]);
op('softCrossEntropy', ng.crossEntropy, (m) => {
  const [rows, classes] = [m.integer(0, 12), m.integer(1, 9)];
  const dtype = m.float();
  const target = m.chance(0.5) ? m.make([rows, classes], dtype) : m.index(rows, classes + 1);
  const weight = m.chance(0.5) ? { weight: m.make([classes], dtype) } : {};
  return [m.make([rows, classes], dtype), target, { labelSmoothing: 0.1, ...weight }];
});
for (const name of [
  'mseLoss',
  'l1Loss',
  'smoothL1Loss',
  'huberLoss',
  'poissonNLLLoss',
  'binaryCrossEntropy',
  'binaryCrossEntropyWithLogits',
  'klDivLoss',
  'hingeEmbeddingLoss',
  'cosineSimilarity',
  'cosineEmbeddingLoss',
  'marginRankingLoss',
  'tripletMarginLoss',
] as const) {
  const args = (m: Maker): unknown[] => {
    const shape = [m.integer(0, 6), m.integer(1, 9)];
    const dtype = m.float();
    const made = (): ng.Tensor => m.make(shape, dtype);
    const options = name === 'cosineSimilarity' ? {} : { reduction: m.pick(['mean', 'none']) };
    if (name === 'cosineEmbeddingLoss') {
      return [made(), made(), m.make([shape[0] as number], dtype), options];
    }
    const three = name === 'marginRankingLoss' || name === 'tripletMarginLoss';
    return three ? [made(), made(), made(), options] : [made(), made(), options];
  };
  const pointwise = ['mseLoss', 'l1Loss', 'smoothL1Loss', 'huberLoss', 'binaryCrossEntropy'];
  plain(`nn.${name}`, nn[name], args, pointwise.includes(name) ? { op: 'pointwiseLoss' } : {});
}
for (const name of ['nllLoss', 'multiMarginLoss'] as const) {
  plain(`nn.${name}`, nn[name], (m) => {
    const [rows, classes] = [m.integer(0, 12), m.integer(1, 9)];
    return [m.make([rows, classes], m.float()), m.index(rows, classes + 1), { reduction: 'sum' }];
  });
}
for (const name of [
  'MSELoss',
  'L1Loss',
  'SmoothL1Loss',
  'HuberLoss',
  'PoissonNLLLoss',
  'CrossEntropyLoss',
  'NLLLoss',
  'BCELoss',
  'BCEWithLogitsLoss',
  'KLDivLoss',
  'MultiMarginLoss',
  'CosineEmbeddingLoss',
  'HingeEmbeddingLoss',
  'MarginRankingLoss',
  'TripletMarginLoss',
] as const) {
  const Made = nn[name] as new (options: object) => ng.nn.Module;
  plain(
    `nn.${name}`,
    (options: object) => void new Made(options),
    () => [{ reduction: 'sum' }],
  );
}
plain(
  'nn.CosineSimilarity',
  (options: object) => void new nn.CosineSimilarity(options),
  () => [{ axis: 0 }],
);
const module = (): ng.nn.Module => new nn.Sequential(new nn.Linear(2, 2), new nn.Linear(2, 1));
plain(
  'nn.Module',
  (state: never, options: never) => {
    const model = module();
    model.loadStateDict(state, options);
    model.eval().train().requireGrad().zeroGrad();
  },
  () => [module().stateDict(), { strict: true }],
  { weight: 0.3 },
);
plain(
  'nn.Module.to',
  (to: never) => module().to(to),
  (m) => [m.device],
  { weight: 0.2 },
);
const weight = (m: Maker): ng.Tensor => m.make([m.integer(1, 5), m.integer(1, 5)], 'float32');
for (const name of ['kaimingUniform', 'kaimingNormal'] as const) {
  plain(`nn.init.${name}`, init[name], (m) => [weight(m), { mode: 'fanIn', nonlinearity: 'relu' }]);
}
for (const name of ['xavierUniform', 'xavierNormal'] as const) {
  plain(`nn.init.${name}`, init[name], (m) => [weight(m), 1]);
}
for (const name of ['uniform', 'normal'] as const) {
  plain(`nn.init.${name}`, init[name], (m) => [weight(m), 0, 1]);
}
plain('nn.init.truncatedNormal', init.truncatedNormal, (m) => [weight(m), 0, 1, -1, 2]);
plain('nn.init.constant', nn.init.constant, (m) => [weight(m), m.number()]);
for (const name of ['zeros', 'ones', 'fans'] as const) {
  plain(`nn.init.${name}`, init[name], (m) => [weight(m)]);
}
plain('nn.init.truncatedNormal', nn.init.truncatedNormal, (m) => [weight(m), 0, 1, -2, 2]);
plain('nn.init.orthogonal', nn.init.orthogonal, (m) => [weight(m), 2]);
plain('nn.init.eye', nn.init.eye, (m) => [weight(m)]);
plain('nn.init.calculateGain', nn.init.calculateGain, (m) => [
  m.pick(['relu', 'tanh', 'leakyRelu']),
  0.1,
]);

// Optimizers: made, stepped, saved and loaded.
for (const name of ['SGD', 'Adam', 'AdamW', 'RMSprop', 'Adagrad', 'Adadelta', 'Lion'] as const) {
  plain(
    `optim.${name}`,
    (parameters: never, options: never, gradients: never, lr: never) => {
      const optimizer = new optimizers[name](parameters, options);
      optimizer.apply(gradients);
      optimizer.lr = lr;
      optimizer.step();
      optimizer.zeroGrad();
      optimizer.loadStateDict(optimizer.stateDict());
    },
    (m) => {
      const p = nn.parameter(
        m.make(m.shape(), m.pick(['float32', 'float64', 'bfloat16'] as const)).contiguous(),
      );
      const options = name === 'SGD' ? { lr: 0.1, momentum: m.pick([0, 0.9]) } : { lr: 0.1 };
      return [[p], options, [m.make(p.shape, p.dtype).contiguous()], 0.2];
    },
    { weight: 0.5 },
  );
}
for (const name of ['clipGradNorm', 'clipGradValue'] as const) {
  plain(`optim.${name}`, ng.optim[name], (m) => {
    const leaf = m.leaf();
    leaf.mul(2).sum().backward();
    return [[leaf], m.pick([0, 1, 5])];
  });
}
for (const [name, options] of [
  ['StepLR', { stepSize: 2 }],
  ['MultiStepLR', { milestones: [1, 2] }],
  ['ExponentialLR', { gamma: 0.9 }],
  ['LinearLR', { totalIters: 3 }],
  ['LambdaLR', (t: number) => 1 / (1 + t)],
  ['CosineAnnealingLR', { tMax: 5 }],
  ['CosineAnnealingWarmRestarts', { t0: 2, tMult: 2 }],
  ['OneCycleLR', { maxLr: 1, totalSteps: 5 }],
  ['ReduceLROnPlateau', { patience: 0 }],
] as const) {
  const Made = optimizers[name] as new (
    ...args: never[]
  ) => {
    step(measure?: number): void;
    stateDict(): object;
    loadStateDict(state: object): void;
  };
  plain(
    `optim.${name}`,
    (...given: never[]) => {
      const schedule = new Made(...given);
      schedule.step(0.5);
      schedule.loadStateDict(schedule.stateDict());
    },
    () => [new ng.optim.SGD([nn.parameter(ng.zeros([2]))], { lr: 0.1, momentum: 0.9 }), options],
    { weight: 0.2 },
  );
}
plain(
  'optim.SequentialLR',
  (...given: never[]) => void new (ng.optim.SequentialLR as never as Constructor)(...given),
  () => {
    const optimizer = new ng.optim.SGD([nn.parameter(ng.zeros([2]))], { lr: 0.1 });
    const schedules = [0.5, 0.9].map((gamma) => new ng.optim.ExponentialLR(optimizer, { gamma }));
    return [optimizer, { schedules, milestones: [2] }];
  },
  { weight: 0.2 },
);
for (const name of ['EMA', 'SWA'] as const) {
  const Made = ng.optim[name] as new (...args: never[]) => ng.optim.EMA;
  plain(
    `optim.${name}`,
    (...given: never[]) => {
      const average = new Made(...given);
      average.update();
      average.with(() => 1);
      average.loadStateDict(average.stateDict());
    },
    (m) => [new nn.Linear(3, 2, { device: m.device }), name === 'EMA' ? { decay: 0.9 } : {}],
    { weight: 0.2 },
  );
}
plain('optim.getTotalNorm', ng.optim.getTotalNorm, (m) => [[m.floating()], m.pick([1, 2])]);

plain(
  'optim.GradScaler',
  (options: object, p: ng.Tensor, factor: number) => {
    const optimizer = new ng.optim.SGD([p], { lr: 0.1 });
    const scaler = new ng.optim.GradScaler(options);
    scaler.scale(ng.mul(p, factor).sum()).backward();
    scaler.unscale(optimizer);
    scaler.step(optimizer);
    scaler.update();
    scaler.loadStateDict(scaler.stateDict());
    return scaler.getScale();
  },
  (m) => [
    { initScale: 4, growthInterval: m.integer(1, 3) },
    nn.parameter(m.make([2], 'float32')),
    m.pick([1, 2, Number.POSITIVE_INFINITY]),
  ],
  { weight: 0.3 },
);
for (const name of [
  'registerForwardPreHook',
  'registerForwardHook',
  'registerFullBackwardHook',
] as const) {
  plain(
    `nn.Module.${name}`,
    (hook: never) => {
      const layer = new nn.Linear(2, 2);
      const handle = layer[name](hook);
      layer
        .forward(ng.ones([1, 2]))
        .sum()
        .backward();
      handle.remove();
    },
    () => [() => undefined],
    { weight: 0.2 },
  );
}

// Data.
plain(
  'TensorDataset',
  (...tensors: [ng.Tensor]) => new ng.TensorDataset(...tensors).batch(Uint32Array.of(0)),
  (m) => [m.make([4, 2], 'float32'), m.make([4], 'int64')],
);
plain(
  'DataLoader',
  async (data: never, options: never) => {
    let batches = 0;
    for await (const batch of new ng.DataLoader(data, options)) if (batch && ++batches > 5) break;
  },
  (m) => [
    new ng.TensorDataset(m.make([4, 2], 'float32')),
    { batchSize: 2, shuffle: true, seed: 1 },
  ],
  { weight: 0.05 },
);
plain('normalize', ng.normalize, (m) => [m.make([2, 3, 4], 'float32'), 0.5, 2]);

export const catalogue: readonly Entry[] = entries;
