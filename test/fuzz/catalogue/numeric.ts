/** Scans, sorting, statistics, products, activations. */
import * as ng from '../../../lib/index.js';
import {
  api,
  both,
  type Call,
  type Constructor,
  type Entry,
  layer,
  layers,
  method,
  nn,
  plain,
} from '../entries.js';
import type { Maker } from '../maker.js';

for (const name of ['cumsum', 'cumprod'] as const) {
  both(name, api[name] as Call, (m) => {
    const x = m.tensor(null, m.integer(1, 4));
    return [x, m.axis(x)];
  });
}
for (const name of ['cummax', 'cummin']) {
  const args = (m: Maker): unknown[] => {
    const x = m.tensor(null, m.integer(1, 4));
    return [x, m.axis(x)];
  };
  plain(name, api[name], args);
  method(name, args);
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
for (const name of ['isclose', 'allclose'] as const) {
  plain(name, api[name], (m) => {
    const x = m.tensor();
    return [x, m.beside(x), { rtol: 0.1, equalNan: m.chance(0.5) }];
  });
}
plain('glu', ng.glu, (m) => [m.make([m.integer(0, 4), 6], m.float()), m.pick([1, -1])]);
composed('nanToNum', (m) => [m.floating(), 0, 1, -1]);
composed('celu', (m) => [m.floating(), m.pick([1, 0.5])]);
for (const name of ['outer', 'dot', 'vdot']) {
  const args = (m: Maker): unknown[] => {
    const n = m.integer(0, 9);
    const dtype = m.numeric();
    return [m.make([n], dtype), m.make([n], dtype)];
  };
  if (name === 'vdot') plain(name, api[name], args);
  else composed(name, args);
}
composed('mv', (m) => {
  const dtype = m.numeric();
  return [m.make([3, 4], dtype), m.make([4], dtype)];
});
composed('bmm', (m) => {
  const dtype = m.numeric();
  return [m.make([2, 3, 4], dtype), m.make([2, 4, 2], dtype)];
});
composed('trace', (m) => [m.make([m.integer(0, 4), m.integer(0, 4)], m.numeric())]);
composed('kron', (m) => [
  m.make([2, 3], m.numeric()),
  m.make(m.shape(m.integer(0, 2)), m.numeric()),
]);
plain('addmm', ng.addmm, (m) => {
  const dtype = m.float();
  const [a, b] = [m.make([3, 4], dtype), m.make([4, 2], dtype)];
  return [m.make([2], dtype), a, b, { beta: m.pick([0.5, 2]), alpha: m.pick([m.number(), 3]) }];
});
plain('tensordot', ng.tensordot, (m) => {
  const dtype = m.numeric();
  return [m.make([2, 3, 4], dtype), m.make([3, 4, 2], dtype), m.pick([2, 0, [[1], [0]]])];
});
plain('einsum', ng.einsum, (m) => {
  const dtype = m.numeric();
  const equation = m.pick(['ij,jk->ik', 'ij,jk', '...j,jk', 'ij,jk->', 'ii,ij->j']);
  return [equation, m.make([3, 3], dtype), m.make([3, m.integer(0, 4)], dtype)];
});

for (const name of ['LeakyReLU', 'ELU', 'CELU'] as const) {
  layer(
    name,
    layers[name] as Constructor,
    () => [0.5],
    (m) => [m.floating()],
  );
}
layer(
  'Softplus',
  nn.Softplus as never,
  (m) => m.pick([[], [2], [0.5, 3]]),
  (m) => [m.floating()],
);
layer(
  'PReLU',
  nn.PReLU as never,
  () => [],
  (m) => [m.floating()],
);
layer(
  'GLU',
  nn.GLU as never,
  () => [-1],
  (m) => [m.make([m.integer(0, 4), 6], m.float())],
);
layer(
  'Hardtanh',
  nn.Hardtanh as never,
  () => [-1, 2],
  (m) => [m.floating()],
);
