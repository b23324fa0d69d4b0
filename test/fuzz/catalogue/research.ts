/** Hooks, custom functions, mixed precision, profiles, sharing. */
import * as ng from '../../../lib/index.js';
import { api, method, nn, plain } from '../entries.js';

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
const cubes = (x: ng.Tensor): ng.Tensor => x.mul(x).mul(x);
for (const name of ['jacobian', 'vjp', 'jvp']) {
  plain(name, api[name], (m) => {
    const x = m.make(m.shape(m.integer(0, 1)), 'float32');
    const v = m.make(x.shape, 'float32');
    return [cubes, [x], ...(name === 'vjp' ? [v] : name === 'jvp' ? [[v]] : [])];
  });
}
plain('hessian', ng.hessian, (m) => [
  (x: ng.Tensor) => cubes(x).sum(),
  [m.make([m.integer(0, 4)], 'float64')],
]);
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
