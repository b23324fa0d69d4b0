/**
 * Parameters in groups: their options, and the states and step counts that each group has. A base of
 * {@link Optimizer}, which updates, saves and loads them.
 */
import { describe, expectInteger, expectNames, expectRange } from '../check.js';
import { expectUncaptured, observe } from '../guards.js';
import { native } from '../native.js';
import { full } from '../ops/fill.js';
import { Tensor } from '../tensor.js';
import { type Cohort, writeHyper } from './cohorts.js';
import { hyper, isHalf, type StateNames, slots } from './rules.js';

/** Parameters that are updated alike; what a group leaves out it takes from the optimizer. */
export type ParameterGroup<Options> = Partial<Options> & { parameters: Iterable<Tensor> };

/** Parameters, or groups of them. */
export type Parameters<Options> = Iterable<Tensor> | Iterable<ParameterGroup<Options>>;

/** @internal */
export interface Group<Options> {
  options: Options;
  parameters: Tensor[];
  cohorts: Cohort[];
}

/** Groups of parameters, each with options of its own. */
export abstract class ParameterGroups<Options extends { lr: number }> {
  protected groups: Group<Options>[] = [];
  protected all: Tensor[] = [];
  protected readonly states = new Map<Tensor, Map<string, Tensor>>();

  constructor(
    protected readonly name: string,
    parameters: Parameters<Options>,
    protected readonly defaults: Options,
  ) {
    if (!isIterable(parameters)) {
      throw new TypeError(
        `${name}: parameters must be tensors or groups of them, got ${describe(parameters)}`,
      );
    }
    const items = [...(parameters as Iterable<Tensor | ParameterGroup<Options>>)];
    const grouped = items.length > 0 && items.every((item) => !(item instanceof Tensor));
    const given = (grouped ? items : [{ parameters: items }]) as ParameterGroup<Options>[];
    for (const group of given) this.addParamGroup(group);
    if (this.all.length === 0) throw new RangeError(`${name}: needs at least one parameter`);
  }

  /** Throws where an option is out of its range. */
  protected abstract validate(options: Options): void;
  /** The hyper-parameters in the order of `hyper`, step 0. */
  protected abstract hyperOf(options: Options): number[];
  /** The states that each parameter has. */
  protected abstract stateNames(options: Options): StateNames;
  /** The sum of `flags` that hold. */
  protected abstract flagsOf(options: Options): number;
  /** What states are filled with at first. */
  protected initialState(_options: Options): number {
    return 0;
  }

  /** Adds parameters with options of their own; what they leave out comes from the optimizer. */
  addParamGroup(group: ParameterGroup<Options>): void {
    const { parameters, ...rest } = expectNames(this.name, group, [
      'parameters',
      ...Object.keys(this.defaults),
    ]);
    if (!isIterable(parameters)) {
      throw new TypeError(`${this.name}: a group needs parameters, got ${describe(parameters)}`);
    }
    const options = { ...this.defaults, ...rest } as unknown as Options;
    this.validate(options);
    const own = [...(parameters as Iterable<Tensor>)];
    for (const parameter of own) {
      if (!(parameter instanceof Tensor) || !parameter.gradient) {
        throw new TypeError(
          `${this.name}: parameters must be leaf tensors that require gradients, got ${describe(parameter)}`,
        );
      }
      if (!native.isContiguous(parameter.h)) {
        throw new RangeError(
          `${this.name}: parameters must be contiguous, make them of x.contiguous(), got a view ${describe(parameter).slice(2)}`,
        );
      }
    }
    const all = [...this.all, ...own];
    if (new Set(all).size !== all.length) {
      throw new RangeError(`${this.name}: a parameter is given more than once`);
    }
    observe(this, 'groups');
    // A new array: captured steps depend on which one it is.
    this.groups = [...this.groups, { options, parameters: own, cohorts: [] }];
    this.all = all;
  }

  /** How many parameter groups there are. */
  get groupCount(): number {
    return this.groups.length;
  }

  /** The options of one group, as they are now. */
  optionsOf(group: number): Readonly<Options> {
    return this.group(group).options;
  }

  /**
   * Changes options of one group that are numbers: learning rate, momentum, betas, weight decay.
   * They take effect in stream order, in captured steps too.
   * @throws where a change would need other states or another kernel
   */
  setOptions(group: number, changes: Partial<Options>): void {
    expectUncaptured(this.name, 'setOptions()');
    const found = this.group(group);
    const options = {
      ...found.options,
      ...expectNames(this.name, changes, Object.keys(found.options)),
    };
    this.validate(options);
    if (this.formOf(options) !== this.formOf(found.options)) {
      throw new Error(
        `${this.name}: an optimizer's states and form are fixed, got ${Object.keys(changes)}`,
      );
    }
    const before = this.hyperOf(found.options);
    for (const [at, value] of this.hyperOf(options).entries()) {
      if (value === before[at]) continue;
      for (const cohort of found.cohorts) writeHyper(cohort, at, value);
    }
    found.options = options;
  }

  /** What options decide besides numbers that kernels read: states and form of the update. */
  protected formOf(options: Options): string {
    return JSON.stringify([
      this.stateNames(options),
      this.flagsOf(options),
      this.initialState(options),
    ]);
  }

  protected group(at: number): Group<Options> {
    const found = this.groups[at];
    if (!found) throw new RangeError(`${this.name}: no group ${describe(at)}`);
    return found;
  }

  /** Learning rate of the first group. Setting it sets all groups; it takes effect in stream order. */
  get lr(): number {
    return this.group(0).options.lr;
  }

  set lr(value: number) {
    expectRange(this.name, 'lr', value, 0);
    for (const [at] of this.groups.entries()) this.setLearningRate(at, value);
  }

  /** Sets the learning rate of one group. */
  setLearningRate(group: number, value: number): void {
    expectUncaptured(this.name, 'setLearningRate()');
    const found = this.group(expectInteger(this.name, 'group', group));
    expectRange(this.name, 'lr', value, 0);
    for (const cohort of found.cohorts) writeHyper(cohort, hyper.learningRate, value);
    found.options = { ...found.options, lr: value };
  }

  /** Forgets the gradients of all parameters. */
  zeroGrad(): void {
    for (const parameter of this.all) parameter.zeroGrad();
  }

  /** @internal Every parameter of every group. */
  trained(): readonly Tensor[] {
    return this.all;
  }

  protected stateNamesOf(parameter: Tensor, options: Options): string[] {
    const names = this.stateNames(options);
    const own = slots.flatMap((slot) => names[slot] ?? []);
    return isHalf(parameter) ? [...own, 'master'] : own;
  }

  protected stateOf(parameter: Tensor, options: Options): Map<string, Tensor> {
    let state = this.states.get(parameter);
    if (!state) {
      state = new Map();
      const { shape, device } = parameter;
      const dtype = parameter.dtype === 'float64' ? 'float64' : 'float32';
      for (const name of this.stateNamesOf(parameter, options)) {
        const value = name === 'master' ? 0 : this.initialState(options);
        state.set(name, full(shape, value, { dtype, device }).persist());
      }
      this.states.set(parameter, state);
    }
    return state;
  }
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof (value as Partial<Iterable<unknown>> | null)?.[Symbol.iterator] === 'function';
}
