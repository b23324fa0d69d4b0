/** Losses, clipping, schedules, averages. */
import * as ng from '../../../lib/index.js';
import { type Constructor, nn, optimizers, plain } from '../entries.js';
import type { Maker } from '../maker.js';

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
  'hingeLoss',
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
  const args = (m: Maker): unknown[] => {
    const [rows, classes] = [m.integer(0, 12), m.integer(1, 9)];
    const options = { reduction: m.pick(['sum', 'mean', 'none']) };
    return [m.make([rows, classes], m.float()), m.index(rows, classes + 1), options];
  };
  plain(`nn.${name}`, nn[name], args, name === 'nllLoss' ? { op: name } : {});
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
  'HingeLoss',
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
