/** Models of layers that train, evaluate and predict by themselves. */
import type { LazyLayer } from '../layers/layer.js';
import { SequentialLayers, type SequentialOptions } from '../layers/model.js';
import type { Layer } from '../nn/sequential.js';
import type { Tensor } from '../tensor.js';
import type { BatchSource, Inputs, Values } from './feed.js';
import type { History, Logs } from './history.js';
import type { CompileOptions, EvaluateOptions, FitOptions, PredictOptions } from './options.js';
import { Trainer } from './trainer.js';

/** See {@link sequential}; the methods are those of {@link Trainer}. */
export class SequentialModel extends SequentialLayers {
  /** What trains it. */
  readonly trainer: Trainer;

  constructor(items: readonly (LazyLayer | Layer)[], options: SequentialOptions = {}) {
    super(items, options);
    this.trainer = new Trainer(this as ConstructorParameters<typeof Trainer>[0]);
  }

  /** Says how to train: `optimizer`, `loss`, `metrics`. */
  compile(options: CompileOptions): this {
    this.trainer.compile(options);
    return this;
  }

  /** Trains on numbers, or on a source of batches. */
  fit(x: Inputs, y: Values, options?: FitOptions): Promise<History>;
  fit(source: BatchSource, options?: FitOptions): Promise<History>;
  fit(...args: unknown[]): Promise<History> {
    return this.trainer.fit(...(args as Parameters<Trainer['fit']>));
  }

  /** Loss and metrics, in evaluation mode and without gradients. */
  evaluate(x: Inputs, y: Values, options?: EvaluateOptions): Promise<Logs>;
  evaluate(source: BatchSource, options?: EvaluateOptions): Promise<Logs>;
  evaluate(...args: unknown[]): Promise<Logs> {
    return this.trainer.evaluate(...(args as Parameters<Trainer['evaluate']>));
  }

  /** What the model gives for each sample: [N, …]. */
  predict(x: Inputs | BatchSource, options: PredictOptions = {}): Promise<Tensor> {
    return this.trainer.predict(x, options);
  }

  /** Layers, shapes of their results and counts of parameters, as a table. */
  summary(): string {
    return this.trainer.summary();
  }
}

/**
 * Layers one after another, from `layers.…` or modules. Sizes are inferred from `inputShape`, or from
 * the first batch.
 * @example
 * const model = sequential([layers.dense(128, { activation: 'relu' }), layers.dense(10)]);
 * model.compile({ optimizer: 'adam', loss: { name: 'sparseCategoricalCrossentropy', fromLogits: true } });
 * await model.fit(x, y, { epochs: 5, validationSplit: 0.2 });
 */
export function sequential(
  items: readonly (LazyLayer | Layer)[],
  options: SequentialOptions = {},
): SequentialModel {
  return new SequentialModel(items, options);
}
