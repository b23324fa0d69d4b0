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
  return [x, m.axis(x), m.integer(-5, 5), m.integer(-5, 40), m.integer(1, 4)];
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
both('indexSelect', ng.indexSelect as Call, (m) => {
  const x = m.tensor(null, m.integer(1, 3));
  return [x, m.index(m.integer(0, 9), (x.shape[0] as number) + 1)];
});
op('indexAdd', ng.indexAdd, (m) => {
  const shape = [m.integer(0, 6), m.integer(0, 6)];
  const rows = m.integer(0, 9);
  return [shape, m.index(rows, 7), m.make([rows, shape[1] as number], m.dtype())];
});
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
for (const name of ['ReLU', 'Sigmoid', 'Tanh', 'GELU', 'SiLU', 'Softplus', 'Identity'] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [],
    (m) => [m.floating()],
  );
}
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
layer(
  'Linear',
  nn.Linear as never,
  () => [3, 2],
  (m) => [m.make([m.integer(0, 4), 3], 'float32')],
);
layer(
  'Sequential',
  nn.Sequential as never,
  () => [new nn.ReLU(), new nn.Tanh()],
  (m) => [m.floating()],
);
plain(
  'models.mlp',
  (...given: never[]) => void (ng.models.mlp as Call)(...given),
  () => [[4, 3, 2]],
);
plain('nn.parameter', nn.parameter, (m) => [m.make(m.shape(), m.float())]);
plain('nn.buffer', nn.buffer, (m) => [m.make(m.shape(), m.dtype())]);
plain('nn.mseLoss', nn.mseLoss, (m) => {
  const x = m.floating();
  return [x, m.make(x.shape, x.dtype), m.pick(['mean', 'sum', 'none'])];
});
plain(
  'nn.MSELoss',
  (options: object) => void new nn.MSELoss(options),
  () => [{ reduction: 'sum' }],
);
plain(
  'nn.CrossEntropyLoss',
  (options: object) => void new nn.CrossEntropyLoss(options),
  () => [{ reduction: 'none' }],
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
plain('nn.init.constant', nn.init.constant, (m) => [weight(m), m.number()]);
for (const name of ['zeros', 'ones', 'fans'] as const) {
  plain(`nn.init.${name}`, init[name], (m) => [weight(m)]);
}
plain('nn.init.gain', nn.init.gain, (m) => [m.pick(['relu', 'tanh', 'leakyRelu']), 0.1]);

// Optimizers: made, stepped, saved and loaded.
for (const name of ['SGD', 'Adam', 'AdamW'] as const) {
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
        m.make(m.shape(), m.pick(['float32', 'float64'] as const)).contiguous(),
      );
      const options = name === 'SGD' ? { lr: 0.1, momentum: m.pick([0, 0.9]) } : { lr: 0.1 };
      return [[p], options, [m.make(p.shape, p.dtype).contiguous()], 0.2];
    },
    { weight: 0.5 },
  );
}

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
