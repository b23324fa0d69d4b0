/** Movement, indices, draws. */
import * as ng from '../../../lib/index.js';
import { api, both, type Call, method, op, plain } from '../entries.js';
import type { Maker } from '../maker.js';

plain('linspace', ng.linspace, (m) => [m.number(), m.number(), m.integer(0, 40), m.options()], {
  op: 'arange',
});
plain('logspace', ng.logspace, (m) => [m.number(), m.number(), m.integer(0, 40), 2, m.options()]);
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
const times = (m: Maker): unknown[] => {
  const x = m.tensor(null, m.integer(0, 2));
  return [x, Array.from({ length: x.rank + m.integer(0, 1) }, () => m.integer(0, 3))];
};
plain('repeat', ng.repeat, times);
method('repeat', times);
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
const along = (m: Maker): unknown[] => {
  const x = m.tensor(null, m.integer(1, 3));
  const axis = m.axis(x);
  const shape = [...x.shape];
  const size = shape.splice(axis, 1, m.integer(0, 9))[0] as number;
  const index = m
    .index(
      shape.reduce((a, b) => a * b, 1),
      size + 1,
    )
    .reshape(shape);
  return m.chance(0.3) ? [x, index] : [x, index, axis];
};
plain('takeAlongDim', ng.takeAlongDim, along);
method('takeAlongDim', along);
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
plain('oneHot', ng.oneHot, (m) => [m.index(m.integer(0, 9), 5), 5, { dtype: m.dtype() }], {
  op: 'eq',
});
