/**
 * Running averages of a model's weights, for evaluation: updated in one launch per device,
 * swapped in and out, saved. Weights of 16 bits are averaged in float32.
 * Sources: Polyak and Juditsky 1992; Izmailov et al. 2018 (stochastic weight averaging).
 */
import { around } from '../around.js';
import { describe, expectBoolean, expectOptions, expectRange, expectTensorMap } from '../check.js';
import { noGrad } from '../context.js';
import type { Device } from '../device.js';
import type { HasParameters } from '../gradient.js';
import { observe } from '../guards.js';
import { native } from '../native.js';
import { copyInto } from '../ops/copy.js';
import { tensor, zeros } from '../ops/fill.js';
import { scope } from '../scope.js';
import { sameShape, type Tensor } from '../tensor.js';
import { flags, handles, isHalf, rules } from './rules.js';

/** Something with parameters, and perhaps buffers, by name: a module. */
export interface HasWeights extends HasParameters {
  namedBuffers?(): Iterable<[string, Tensor]>;
}

interface Averaged {
  name: string;
  source: Tensor;
  average: Tensor;
  /** The average in float32, of a weight of 16 bits. */
  master: Tensor | null;
}

const nothing = new Float64Array();

/** What both averages share. */
abstract class WeightAverage {
  private readonly weights: Averaged[] = [];
  private readonly buffers: Averaged[] = [];
  /** One per device, alike but for where they are. */
  private readonly hyper: ReadonlyMap<Device, Tensor>;
  private swapped = false;

  constructor(
    private readonly name: string,
    model: HasWeights,
    decay: number,
    private readonly options: number,
  ) {
    if (typeof model?.namedParameters !== 'function') {
      throw new TypeError(`${name}: needs a model with parameters, got ${describe(model)}`);
    }
    const copied = ([of, source]: [string, Tensor]): Averaged => ({
      name: of,
      source,
      average: noGrad(() => source.detach().clone()).persist(),
      master: isHalf(source)
        ? zeros(source.shape, { dtype: 'float32', device: source.device }).persist()
        : null,
    });
    for (const entry of model.namedParameters()) this.weights.push(copied(entry));
    for (const entry of model.namedBuffers?.() ?? []) this.buffers.push(copied(entry));
    if (this.weights.length === 0) throw new RangeError(`${name}: needs at least one parameter`);
    const devices = new Set(this.weights.map(({ source }) => source.device));
    // As core/families/optim.h lays out: the decay is in momentum's place.
    this.hyper = new Map(
      [...devices].map((device) => [
        device,
        tensor([0, decay, 0, 0, 0, 0], { dtype: 'float64', device }).persist(),
      ]),
    );
  }

  /** Takes the weights as they are now into the average; buffers are copied. */
  update(): void {
    observe(this, 'swapped');
    if (this.swapped) throw new Error(`${this.name}: update() needs the trained weights in place`);
    for (const [device, hyper] of this.hyper) {
      const weights = this.weights.filter(({ source }) => source.device === device);
      native.updateParameters(
        rules.average,
        handles(weights.map(({ average }) => average)),
        handles(weights.map(({ source }) => source)),
        nothing,
        nothing,
        nothing,
        weights.some(({ master }) => master)
          ? handles(weights.map(({ master, average }) => master ?? average))
          : nothing,
        hyper.h,
        this.options,
        undefined,
      );
      for (const { average } of weights) ++average.version;
    }
    noGrad(() => {
      for (const { average, source } of this.buffers) copyInto(average, source);
    });
  }

  /** Exchanges the model's weights and buffers with the averages, on the device. */
  swap(): void {
    observe(this, 'swapped');
    noGrad(() =>
      scope(() => {
        for (const { source, average } of [...this.weights, ...this.buffers]) {
          const before = source.clone();
          copyInto(source, average);
          copyInto(average, before);
        }
      }),
    );
    this.swapped = !this.swapped;
  }

  /** Runs `fn` with the averages in the model, and puts the trained weights back, come what may. */
  with<R>(fn: () => R): R {
    this.swap();
    return around(fn, () => this.swap());
  }

  /** The averages by the names of the parameters and buffers, and what updating them needs. */
  stateDict(): Map<string, Tensor> {
    if (this.swapped) throw new Error(`${this.name}: swap back before saving`);
    const [hyper] = [...this.hyper.values()] as [Tensor];
    const state = new Map([['hyper', hyper]]);
    for (const { name, average, master } of [...this.weights, ...this.buffers]) {
      state.set(`average.${name}`, average);
      if (master) state.set(`master.${name}`, master);
    }
    return state;
  }

  /** Takes over what {@link stateDict} gave. */
  loadStateDict(state: Map<string, Tensor>): void {
    expectTensorMap(this.name, state);
    if (this.swapped) throw new Error(`${this.name}: swap back before loading`);
    const own = this.stateDict();
    for (const [name, target] of own) {
      const source = state.get(name);
      if (!source) throw new Error(`${this.name}: the state lacks ${name}`);
      if (!sameShape(source.shape, target.shape)) {
        throw new RangeError(
          `${this.name}: ${name} must be [${target.shape}], got [${source.shape}]`,
        );
      }
    }
    noGrad(() =>
      scope(() => {
        for (const [name, target] of own) {
          copyInto(target, (state.get(name) as Tensor).to(target.device));
        }
        for (const [device, hyper] of this.hyper) {
          copyInto(hyper, (state.get('hyper') as Tensor).to(device));
        }
      }),
    );
  }
}

export interface EMAOptions {
  /** Weight of the past, in [0,1]; 0.999 where left out. */
  decay?: number;
  /** Takes at most (1 + t) / (10 + t) as decay in update t, so that the start fades; false. */
  warmup?: boolean;
}

/**
 * Exponential moving average: a ← decay·a + (1 − decay)·w at each `update()`, from the weights as
 * they are when it is made. Works in captured steps.
 * @example
 * const ema = new optim.EMA(model, { decay: 0.999 });
 * optimizer.step(); ema.update();
 * const accuracy = await ema.with(() => evaluate(model));
 */
export class EMA extends WeightAverage {
  constructor(model: HasWeights, options: EMAOptions = {}) {
    const { decay = 0.999, warmup = false } = expectOptions('EMA', options, ['decay', 'warmup']);
    expectRange('EMA', 'decay', decay, 0, 1);
    super('EMA', model, decay, expectBoolean('EMA', 'warmup', warmup) ? flags.warmup : 0);
  }
}

/** The mean of the weights at all calls of `update()`: stochastic weight averaging. */
export class SWA extends WeightAverage {
  constructor(model: HasWeights) {
    super('SWA', model, 0, flags.equal);
  }
}
