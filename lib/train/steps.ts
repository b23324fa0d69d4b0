/** The steps of a trainer: forward, backward and update, an evaluation, a prediction; captured. */
import { autocast } from '../autocast.js';
import { type CapturedStep, capture } from '../capture.js';
import { describe } from '../check.js';
import { noGrad } from '../context.js';
import { observe } from '../guards.js';
import type { Metric } from '../metrics/index.js';
import type { Module } from '../nn/module.js';
import { mul } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { tensor } from '../ops/fill.js';
import { indexSelect } from '../ops/index.js';
import { argmax } from '../ops/reduce.js';
import { reshape } from '../ops/view.js';
import { clipGradNorm } from '../optim/clip.js';
import type { AnyOptimizer } from '../optim/schedule.js';
import { scope } from '../scope.js';
import { Tensor } from '../tensor.js';
import { type Ready, tensorsOf } from './feed.js';
import { type LossRule, weightedLoss } from './losses.js';
import type { TargetCheck } from './targets.js';

/** A module from one tensor, or several, to one. */
export type Trainable = Module & { forward(...inputs: Tensor[]): Tensor };

/** What `compile` settled. */
export interface Compiled {
  readonly rule: LossRule;
  readonly metrics: readonly Metric<number>[];
  readonly makeOptimizer: (parameters: Tensor[]) => AnyOptimizer;
  readonly clipNorm: number | null;
  readonly autocast: 'bfloat16' | null;
  readonly capture: boolean;
}

/** What a step leaves on the device: the loss and, where they are checked, the targets' bounds. */
export interface Measured {
  loss: Tensor;
  bounds: Tensor | null;
}

type Kind = 'train' | 'evaluate' | 'predict';
type Step = ((...tensors: Tensor[]) => Tensor[]) | CapturedStep<Tensor[], Tensor[]>;

export class Steps {
  private readonly made = new Map<string, Step>();
  private weights: Readonly<Record<number, number>> | null = null;
  private table: Tensor | null = null;
  /** How many scores the model gave per row, once it has run. */
  classes: number | null = null;

  constructor(
    private readonly model: Trainable,
    private readonly compiled: Compiled | null,
  ) {}

  /** How much each class counts in the training loss from now on. */
  setClassWeight(weights: Readonly<Record<number, number>> | null): void {
    this.table?.dispose();
    this.table = null;
    this.weights = weights;
  }

  /** Updates the model once. */
  async train(batch: Ready, optimizer: AnyOptimizer, check: TargetCheck | null): Promise<Measured> {
    const { metrics, clipNorm } = this.compiled as Compiled;
    return this.measured('train', batch, check, (ready) => {
      optimizer.zeroGrad();
      const [prediction, loss, target] = this.loss(ready, true);
      loss.backward();
      if (clipNorm !== null) clipGradNorm(this.model.parameters(), clipNorm);
      optimizer.step();
      for (const metric of metrics) metric.update(prediction, target);
      return loss;
    });
  }

  /** Metrics count the batch in. */
  async evaluate(batch: Ready, check: TargetCheck | null): Promise<Measured> {
    const { metrics } = this.compiled as Compiled;
    return noGrad(() =>
      this.measured('evaluate', batch, check, (ready) => {
        const [prediction, loss, target] = this.loss(ready, false);
        for (const metric of metrics) metric.update(prediction, target);
        return loss;
      }),
    );
  }

  /** What the model gives. */
  async predict(batch: Ready): Promise<Tensor> {
    const run = (): Tensor[] | Promise<Tensor[]> =>
      this.run('predict', batch, ({ inputs }) => [this.forward(inputs)]);
    const [found] = await noGrad(run);
    return found as Tensor;
  }

  private async measured(
    kind: Kind,
    batch: Ready,
    check: TargetCheck | null,
    step: (ready: Ready) => Tensor,
  ): Promise<Measured> {
    const [loss, bounds = null] = await this.run(
      kind,
      batch,
      (ready) => {
        const first = step(ready);
        const found = ready.target && check && noGrad(() => check.bounds(ready.target as Tensor));
        return found ? [first, found] : [first];
      },
      check !== null,
    );
    return { loss: loss as Tensor, bounds };
  }

  private run(
    kind: Kind,
    batch: Ready,
    step: (ready: Ready) => Tensor[],
    checked = false,
  ): Tensor[] | Promise<Tensor[]> {
    const { inputs, target, weight } = batch;
    const form = `${kind} ${inputs.length} ${target !== null} ${weight !== null} ${checked}`;
    let found = this.made.get(form);
    if (!found) {
      const [count, hasTarget] = [inputs.length, target !== null];
      const last = count + (hasTarget ? 1 : 0);
      const whole = (...tensors: Tensor[]): Tensor[] =>
        step({
          inputs: tensors.slice(0, count),
          target: hasTarget ? (tensors[count] as Tensor) : null,
          weight: tensors[last] ?? null,
        });
      found = (this.compiled?.capture ?? true) ? capture(whole) : whole;
      this.made.set(form, found);
    }
    return found(...tensorsOf(batch));
  }

  private forward(inputs: readonly Tensor[]): Tensor {
    const run = (): Tensor => this.model.forward(...inputs);
    const dtype = this.compiled?.autocast;
    const result = dtype ? autocast({ dtype }, run) : run();
    if (result instanceof Tensor) return result;
    throw new TypeError(`trainer: the model must give one tensor, got ${describe(result)}`);
  }

  private loss({ inputs, target, weight }: Ready, training: boolean): [Tensor, Tensor, Tensor] {
    const { rule, autocast: dtype } = this.compiled as Compiled;
    if (!target) throw new TypeError('fit: the batches have no targets, so there is no loss');
    let prediction = this.forward(inputs);
    if (dtype) prediction = to(prediction, 'float32');
    this.classes = prediction.shape[prediction.rank - 1] ?? null;
    let weights = weight && reshape(weight, [weight.size]);
    observe(this, 'weights');
    if (training && this.weights) {
      const own = this.classWeights(prediction, target);
      weights = weights ? mul(weights, own) : own;
    }
    return [prediction, weightedLoss(rule, prediction, target, weights), target];
  }

  /** The weight of each sample by its class. */
  private classWeights(prediction: Tensor, target: Tensor): Tensor {
    observe(this, 'table');
    const last = prediction.shape[prediction.rank - 1] ?? 1;
    const scores = prediction.rank > 1 && last > 1;
    const classes = scores ? last : 2;
    const beyond = Object.keys(this.weights ?? {}).find((c) => Number(c) >= classes);
    if (beyond !== undefined) {
      throw new RangeError(
        `fit: classWeight must be of classes from 0 to ${classes - 1}, got ${beyond}`,
      );
    }
    if (this.table?.device !== prediction.device || this.table.size !== classes) {
      const values = Array.from({ length: classes }, (_, c) => this.weights?.[c] ?? 1);
      this.table?.dispose();
      this.table = scope(() => tensor(values, { device: prediction.device })).keep();
      this.table.persistent = true;
    }
    const oneHot = scores && target.shape.join() === prediction.shape.join();
    const index = oneHot ? argmax(target, -1) : to(target, 'int64');
    if (index.size !== prediction.shape[0]) {
      throw new RangeError(
        `fit: classWeight needs one class per sample, got targets [${target.shape}]`,
      );
    }
    return indexSelect(this.table, reshape(index, [index.size]));
  }

  /** Gives the recordings back. */
  dispose(): void {
    for (const step of this.made.values()) if ('dispose' in step) step.dispose();
    this.made.clear();
    this.setClassWeight(null);
  }
}
