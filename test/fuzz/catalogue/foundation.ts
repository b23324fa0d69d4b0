/** Creation, elementwise ops, views, products, autograd, capture, io. */
import * as ng from '../../../lib/index.js';
import { api, both, type Call, getter, method, op, plain } from '../entries.js';
import type { Maker } from '../maker.js';

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
plain('fullLike', ng.fullLike, (m) => [m.tensor(), m.pick([0, 1, 2.5])], { op: 'full' });
plain('randLike', ng.randLike, (m) => [m.floating()], { op: 'uniform' });
plain('randnLike', ng.randnLike, (m) => [m.floating()], { op: 'normal' });
plain('randint', ng.randint, (m) => [m.integer(-9, 0), m.integer(1, 9), m.shape(), m.options()]);
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
    return [x, m.axes(x)];
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
    return m.chance(0.5) ? [x, m.axis(x)] : [x, 0, m.axis(x)];
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
  const dtype = m.numeric();
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
  const options = {
    ...(m.chance(0.5) && { activation: m.pick(['relu', 'gelu', 'geluTanh'] as const) }),
    ...(m.chance(0.3) && { residual: m.make([...x.shape.slice(0, -1), outputs], dtype) }),
  };
  return [x, m.make([outputs, inputs], dtype), bias, options];
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
