/**
 * What all optimizers share: parameters in groups, state that lives on the device, one kernel
 * launch over all tensors. Learning rate and step count are read by the kernels from device memory
 * (float64, as core/families/optim.h lays out), so a captured step sees every change.
 *
 * Parameters of 16 bits are updated in float32: their states are float32, and so is a copy of the
 * parameter itself (`master`), which follows where somebody else changes the parameter.
 */
import {
  describe,
  expectInteger,
  expectNames,
  expectRange,
  expectTensor,
  expectTensorMap,
} from '../check.js';
import type { Device } from '../device.js';
import type { Gradients } from '../gradient.js';
import { expectUncaptured, observe } from '../guards.js';
import { native } from '../native.js';
import { full, tensor } from '../ops/fill.js';
import { slice } from '../ops/view.js';
import { sameShape, Tensor } from '../tensor.js';
import { packOption, unpackOption } from './saved.js';

declare module '../native.js' {
  interface NativeKernels {
    updateParameters(
      rule: number,
      params: Numbers,
      grads: Numbers,
      first: Numbers,
      second: Numbers,
      third: Numbers,
      masters: Numbers,
      hyper: Handle,
      options: number,
    ): void;
  }
}

/** @internal The rules and their options, as core/families/optim.h numbers them. */
export const rules = {
  sgd: 0,
  adam: 1,
  rmsprop: 2,
  adagrad: 3,
  adadelta: 4,
  lion: 5,
  average: 6,
} as const;
/** @internal */
export const flags = {
  maximize: 1,
  nesterov: 2,
  classical: 4,
  decoupled: 8,
  warmup: 16,
  equal: 32,
} as const;

/** Places in the hyper-parameters, as core/families/optim.h numbers them. */
export const hyper = {
  learningRate: 0,
  momentum: 1,
  dampening: 2,
  eps: 3,
  weightDecay: 4,
  step: 5,
  size: 6,
} as const;

const slots = ['first', 'second', 'third'] as const;
/** The states that a rule keeps per parameter, by their place in the kernel, with their names. */
export type StateNames = Partial<Record<(typeof slots)[number], string>>;

/** Parameters that are updated alike; what a group leaves out it takes from the optimizer. */
export type ParameterGroup<Options> = Partial<Options> & { parameters: Iterable<Tensor> };

/** Parameters, or groups of them. */
export type Parameters<Options> = Iterable<Tensor> | Iterable<ParameterGroup<Options>>;

/**
 * Parameters of one group that have had the same number of updates. A parameter whose gradients
 * come later, or not at every step, is counted apart, as PyTorch does.
 */
interface Cohort {
  hyper: Tensor;
  members: Set<Tensor>;
}

interface Group<Options> {
  options: Options;
  parameters: Tensor[];
  cohorts: Cohort[];
}

/** What is to become of a group: its options, and per parameter the values in its hyper and states. */
interface SavedGroup<Options> {
  options: Options;
  values: Map<Tensor, { hyper: Float64Array; states: Map<string, Tensor> }>;
}

/** Tensors by name; what saving and loading works on. */
export type OptimizerState = Map<string, Tensor>;

/**
 * Parameters in groups with options of their own, and a state for each on its device. Subclasses say
 * the rule: SGD, Adam and others.
 */
export abstract class Optimizer<Options extends { lr: number }> {
  private groups: Group<Options>[] = [];
  private all: Tensor[] = [];
  private readonly states = new Map<Tensor, Map<string, Tensor>>();

  constructor(
    protected readonly name: string,
    private readonly rule: keyof typeof rules,
    parameters: Parameters<Options>,
    private readonly defaults: Options,
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
  private formOf(options: Options): string {
    return JSON.stringify([
      this.stateNames(options),
      this.flagsOf(options),
      this.initialState(options),
    ]);
  }

  private group(at: number): Group<Options> {
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

  /** Updates every parameter that has a gradient. */
  step(): void {
    this.run((parameter) => {
      const state = parameter.gradient;
      if (!state) return null;
      observe(state, 'filled');
      return state.filled && state.required ? state.buffer : null;
    });
  }

  /**
   * Updates parameters by gradients that are given, as `valueAndGrad` returns them: in the order of
   * the parameters, or by name in the order of `model.namedParameters()`.
   */
  apply(gradients: Gradients | readonly Tensor[]): void {
    const list = gradients instanceof Map ? [...gradients.values()] : gradients;
    const wanted = this.all.filter((parameter) => parameter.gradient?.required);
    if (!Array.isArray(list) || list.length !== wanted.length) {
      throw new RangeError(
        `${this.name}: apply needs ${wanted.length} gradients, got ${describe(list)}`,
      );
    }
    for (const gradient of list) expectTensor(this.name, gradient, 'each gradient');
    const byParameter = new Map(wanted.map((parameter, i) => [parameter, list[i] as Tensor]));
    this.run((parameter) => byParameter.get(parameter) ?? null);
  }

  private run(gradientOf: (parameter: Tensor) => Tensor | null): void {
    observe(this, 'groups');
    for (const group of this.groups) {
      const active = new Map<Tensor, Tensor>();
      for (const parameter of group.parameters) {
        const gradient = gradientOf(parameter);
        if (gradient) active.set(parameter, gradient);
      }
      if (active.size === 0) continue;
      if (!sorted(group.cohorts, active)) {
        for (const [device, parameters] of byDevice([...active.keys()])) {
          this.sortIntoCohorts(group, device, new Set(parameters));
        }
      }
      for (const cohort of group.cohorts) {
        const parameters = [...cohort.members].filter((p) => active.has(p));
        if (parameters.length === 0) continue;
        const states = parameters.map((p) => this.stateOf(p, group.options));
        const names = this.stateNames(group.options);
        const [first, second, third] = slots.map((slot) => {
          const name = names[slot];
          return handles(name ? states.map((state) => state.get(name) as Tensor) : []);
        }) as [Float64Array, Float64Array, Float64Array];
        native.updateParameters(
          rules[this.rule],
          handles(parameters),
          handles(parameters.map((p) => active.get(p) as Tensor)),
          first,
          second,
          third,
          masters(parameters, states),
          cohort.hyper.h,
          this.flagsOf(group.options),
        );
        for (const parameter of parameters) ++parameter.version;
      }
    }
  }

  /** Makes every cohort either wholly active or not at all. */
  private sortIntoCohorts(group: Group<Options>, device: Device, active: Set<Tensor>): void {
    observe(group, 'cohorts');
    const unseen = new Set(active);
    const sorted: Cohort[] = [];
    for (const cohort of group.cohorts) {
      const moving = [...cohort.members].filter((p) => active.has(p));
      for (const p of moving) unseen.delete(p);
      if (moving.length === 0 || moving.length === cohort.members.size) {
        sorted.push(cohort);
        continue;
      }
      const staying = [...cohort.members].filter((p) => !active.has(p));
      sorted.push({ hyper: cohort.hyper, members: new Set(staying) });
      sorted.push({ hyper: cohort.hyper.clone().persist(), members: new Set(moving) });
    }
    if (unseen.size > 0) {
      const values = tensor(this.hyperOf(group.options), { dtype: 'float64', device });
      sorted.push({ hyper: values.persist(), members: unseen });
    }
    // A new array only where something changed: captured steps depend on which one it is.
    if (sorted.some((cohort, i) => cohort !== group.cohorts[i])) group.cohorts = sorted;
  }

  private stateNamesOf(parameter: Tensor, options: Options): string[] {
    const names = this.stateNames(options);
    const own = slots.flatMap((slot) => names[slot] ?? []);
    return isHalf(parameter) ? [...own, 'master'] : own;
  }

  private stateOf(parameter: Tensor, options: Options): Map<string, Tensor> {
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

  /**
   * The whole state by name: `state.<parameter number>.<what>`, states and the step count, and
   * `group.<number>.<option>`. Saving and loading it resumes to the same bits.
   */
  stateDict(): OptimizerState {
    const state = this.deviceState();
    for (const [at, { options }] of this.groups.entries()) {
      for (const name of this.optionNames()) {
        state.set(`group.${at}.${name}`, packOption(options[name as keyof Options]));
      }
    }
    return state;
  }

  /** @internal What steps change: the tensors themselves, as a captured step may ask for them. */
  deviceState(): OptimizerState {
    const state: OptimizerState = new Map();
    for (const group of this.groups) {
      for (const cohort of group.cohorts) {
        for (const parameter of cohort.members) {
          const at = `state.${this.all.indexOf(parameter)}`;
          state.set(`${at}.hyper`, cohort.hyper);
          for (const [name, own] of this.states.get(parameter) ?? []) {
            state.set(`${at}.${name}`, own);
          }
        }
      }
    }
    return state;
  }

  private optionNames(): string[] {
    return Object.keys(this.defaults);
  }

  /**
   * Takes over what {@link stateDict} gave, options too; the optimizer must be of the same kind, for
   * as many groups and parameters. Nothing is changed where that does not fit.
   */
  loadStateDict(state: OptimizerState): void {
    expectUncaptured(this.name, 'loadStateDict()');
    expectTensorMap(this.name, state);
    const names = this.optionNames();
    for (const name of state.keys()) {
      const [, kind, number, what = ''] = /^(state|group)\.(\d+)\.(.+)$/.exec(name) ?? [];
      const known =
        kind === 'group'
          ? this.groups[Number(number)] && names.includes(what)
          : kind === 'state' && this.all[Number(number)];
      if (!known) {
        throw new Error(`${this.name}: the state has no place for ${describe(name)}`);
      }
    }
    const saved = this.groups.map((group, at) => this.savedGroup(group, at, state));
    const inPlace = saved.map((found, at) => this.takeOver(this.group(at), found));
    // A new array where something is elsewhere: captured steps depend on which one it is.
    if (inPlace.includes(false)) this.groups = [...this.groups];
  }

  /** Reads and checks what a state says of a group. */
  private savedGroup(group: Group<Options>, at: number, state: OptimizerState) {
    const found = (name: string): Tensor => {
      const source = state.get(name);
      if (source) return source;
      throw new Error(`${this.name}: the state lacks ${name}`);
    };
    const options = { ...group.options };
    for (const name of this.optionNames() as (keyof Options & string)[]) {
      const saved = `group.${at}.${name}`;
      options[name] = unpackOption(this.name, saved, found(saved), options[name]);
    }
    this.validate(options);
    const values: SavedGroup<Options>['values'] = new Map();
    for (const parameter of group.parameters) {
      const place = `state.${this.all.indexOf(parameter)}`;
      const saved = state.get(`${place}.hyper`);
      if (!saved) continue;
      const numbers = saved.data();
      if (!(numbers instanceof Float64Array) || numbers.length !== hyper.size) {
        throw new Error(
          `${this.name}: ${place}.hyper must be float64[${hyper.size}], got ${describe(saved)}`,
        );
      }
      const own = Float64Array.from(this.hyperOf(options));
      own[hyper.step] = numbers[hyper.step] as number;
      const states = new Map<string, Tensor>();
      for (const name of this.stateNamesOf(parameter, options)) {
        const source = found(`${place}.${name}`);
        if (!sameShape(source.shape, parameter.shape)) {
          throw new RangeError(
            `${this.name}: ${place}.${name} must have the shape [${parameter.shape}], got [${source.shape}]`,
          );
        }
        states.set(name, source);
      }
      values.set(parameter, { hyper: own, states });
    }
    return { options, values } satisfies SavedGroup<Options>;
  }

  /** Puts saved values into a group; whether all of it was there to be written to. */
  private takeOver(group: Group<Options>, { options, values }: SavedGroup<Options>): boolean {
    const sameForm = this.formOf(options) === this.formOf(group.options);
    group.options = options;
    const byStep = new Map<string, { values: Float64Array; members: Set<Tensor> }>();
    for (const parameter of group.parameters) {
      const saved = values.get(parameter);
      if (!saved || !sameForm) {
        for (const own of this.states.get(parameter)?.values() ?? []) own.dispose();
        this.states.delete(parameter);
      }
      if (!saved) continue;
      for (const [name, own] of this.stateOf(parameter, options)) {
        own.copyFrom((saved.states.get(name) as Tensor).to(parameter.device));
      }
      const key = `${parameter.device.name} ${saved.hyper[hyper.step]}`;
      const cohort = byStep.get(key);
      if (cohort) cohort.members.add(parameter);
      else byStep.set(key, { values: saved.hyper, members: new Set([parameter]) });
    }
    const loaded = [...byStep.values()];
    const places = loaded.map(({ members }) =>
      group.cohorts.find((c) => equal(c.members, members)),
    );
    if (loaded.length === group.cohorts.length && !places.includes(undefined)) {
      // In place, so that captured steps find the values.
      for (const [i, cohort] of loaded.entries()) {
        native.writeBytes((places[i] as Cohort).hyper.h, cohort.values);
      }
      return sameForm;
    }
    group.cohorts = loaded.map(({ values: numbers, members }) => {
      const [first] = members as Set<Tensor>;
      const made = tensor(numbers, { dtype: 'float64', device: (first as Tensor).device });
      return { hyper: made.persist(), members };
    });
    return false;
  }
}

function equal(a: ReadonlySet<Tensor>, b: ReadonlySet<Tensor>): boolean {
  return a.size === b.size && [...a].every((item) => b.has(item));
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof (value as Partial<Iterable<unknown>> | null)?.[Symbol.iterator] === 'function';
}

/** Writes one hyper-parameter in stream order. */
function writeHyper(cohort: Cohort, at: number, value: number): void {
  const place = slice(cohort.hyper, 0, at, at + 1);
  native.writeBytes(place.h, Float64Array.of(value));
  place.dispose();
}

/** @internal */
export function isHalf(x: Tensor): boolean {
  return x.dtype === 'bfloat16' || x.dtype === 'float16';
}

/** Handles of the masters, any tensor where a parameter has none; empty where no one has. */
function masters(parameters: readonly Tensor[], states: readonly Map<string, Tensor>[]) {
  if (!parameters.some(isHalf)) return handles([]);
  return handles(parameters.map((p, i) => states[i]?.get('master') ?? p));
}

/** @internal */
export function handles(tensors: readonly Tensor[]): Float64Array {
  const list = new Float64Array(tensors.length);
  for (let i = 0; i < list.length; ++i) list[i] = (tensors[i] as Tensor).h;
  return list;
}

/** Whether each cohort is wholly active or not at all, as at every step but the first. */
function sorted(cohorts: readonly Cohort[], active: ReadonlyMap<Tensor, Tensor>): boolean {
  let found = 0;
  for (const { members } of cohorts) {
    let count = 0;
    for (const parameter of members) if (active.has(parameter)) ++count;
    if (count !== 0 && count !== members.size) return false;
    found += count;
  }
  return found === active.size;
}

/** @internal Tensors by where they are, in the order in which their devices come. */
export function byDevice(tensors: readonly Tensor[]): Map<Device, Tensor[]> {
  const found = new Map<Device, Tensor[]>();
  for (const t of tensors) {
    const list = found.get(t.device);
    if (list) list.push(t);
    else found.set(t.device, [t]);
  }
  return found;
}
