/**
 * What all optimizers share: parameters in groups, state that lives on the device, one kernel
 * launch over all tensors. Learning rate and step count are read by the kernels from device memory
 * (float64, as core/backend.h lays out), so a captured step sees every change.
 */
import { describe, expectOptions, expectRange, expectTensor, expectTensorMap } from '../check.js';
import { noGrad } from '../context.js';
import type { Device } from '../device.js';
import type { Gradients } from '../gradient.js';
import { observe } from '../guards.js';
import { native } from '../native.js';
import { tensor, zerosLike } from '../ops/fill.js';
import { slice } from '../ops/view.js';
import { Tensor } from '../tensor.js';

/** Places in the hyper-parameters, as core/backend.h numbers them. */
export const hyper = {
  learningRate: 0,
  momentum: 1,
  dampening: 2,
  eps: 3,
  weightDecay: 4,
  step: 5,
  size: 6,
} as const;
type HyperName = Exclude<keyof typeof hyper, 'size'>;

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

/** Tensors by name; what saving and loading works on. */
export type OptimizerState = Map<string, Tensor>;

export abstract class Optimizer<Options extends { lr: number }> {
  protected readonly groups: Group<Options>[];
  private readonly all: Tensor[];
  private readonly states = new Map<Tensor, Tensor[]>();

  constructor(
    protected readonly name: string,
    parameters: Parameters<Options>,
    options: Options,
  ) {
    if (!isIterable(parameters)) {
      throw new TypeError(
        `${name}: parameters must be tensors or groups of them, got ${describe(parameters)}`,
      );
    }
    const items = [...(parameters as Iterable<Tensor | ParameterGroup<Options>>)];
    const grouped = items.length > 0 && items.every((item) => !(item instanceof Tensor));
    const groups = (grouped ? items : [{ parameters: items }]) as ParameterGroup<Options>[];
    this.groups = groups.map((group) => {
      const { parameters: own, ...rest } = expectOptions(name, group);
      if (!isIterable(own)) {
        throw new TypeError(`${name}: a group needs parameters, got ${describe(own)}`);
      }
      const merged = { ...options, ...rest } as Options;
      this.validate(merged);
      return { options: merged, parameters: [...own], cohorts: [] };
    });
    this.all = this.groups.flatMap((group) => group.parameters);
    if (this.all.length === 0) throw new RangeError(`${name}: needs at least one parameter`);
    for (const parameter of this.all) {
      if (!(parameter instanceof Tensor) || !parameter.gradient) {
        throw new TypeError(
          `${name}: parameters must be leaf tensors that require gradients, got ${describe(parameter)}`,
        );
      }
    }
    if (new Set(this.all).size !== this.all.length) {
      throw new RangeError(`${name}: a parameter is given more than once`);
    }
  }

  /** Throws where an option is out of its range. */
  protected abstract validate(options: Options): void;
  /** The hyper-parameters in the order of `hyper`, step 0. */
  protected abstract hyperOf(options: Options): number[];
  /** Names of the state tensors that each parameter has. */
  protected abstract stateNames(options: Options): string[];
  /** One launch: handles of parameters, gradients and states. */
  protected abstract update(
    options: Options,
    hyperHandle: number,
    parameters: Float64Array,
    gradients: Float64Array,
    states: Float64Array[],
  ): void;

  /** Learning rate of the first group. Setting it sets all groups; it takes effect in stream order. */
  get lr(): number {
    return (this.groups[0] as Group<Options>).options.lr;
  }

  set lr(value: number) {
    expectRange(this.name, 'lr', value, 0);
    for (const [at] of this.groups.entries()) this.setLearningRate(at, value);
  }

  /** Sets the learning rate of one group. */
  setLearningRate(group: number, value: number): void {
    const found = this.groups[group];
    if (!found) throw new RangeError(`${this.name}: no group ${group}`);
    expectRange(this.name, 'lr', value, 0);
    for (const cohort of found.cohorts) this.writeHyper(cohort, 'learningRate', value);
    found.options.lr = value;
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
        this.update(
          group.options,
          cohort.hyper.h,
          handles(parameters),
          handles(parameters.map((p) => active.get(p) as Tensor)),
          names.map((_, i) => handles(states.map((state) => state[i] as Tensor))),
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
      sorted.push({ hyper: persistent(cohort.hyper.clone()), members: new Set(moving) });
    }
    if (unseen.size > 0) {
      const values = tensor(this.hyperOf(group.options), { dtype: 'float64', device });
      sorted.push({ hyper: persistent(values), members: unseen });
    }
    // A new array only where something changed: captured steps depend on which one it is.
    if (sorted.some((cohort, i) => cohort !== group.cohorts[i])) group.cohorts = sorted;
  }

  private stateOf(parameter: Tensor, options: Options): Tensor[] {
    let state = this.states.get(parameter);
    if (!state) {
      state = this.stateNames(options).map(() => noGrad(() => persistent(zerosLike(parameter))));
      this.states.set(parameter, state);
    }
    return state;
  }

  private writeHyper(cohort: Cohort, name: HyperName, value: number): void {
    const place = slice(cohort.hyper, 0, hyper[name], hyper[name] + 1);
    native.writeBytes(place.h, Float64Array.of(value));
    place.dispose();
  }

  /**
   * The whole state by name, `state.<parameter number>.<what>`: states, and hyper-parameters with
   * the step count. Saving and loading it resumes to the same bits.
   */
  stateDict(): OptimizerState {
    const state: OptimizerState = new Map();
    for (const group of this.groups) {
      const names = this.stateNames(group.options);
      for (const cohort of group.cohorts) {
        for (const parameter of cohort.members) {
          const at = `state.${this.all.indexOf(parameter)}`;
          state.set(`${at}.hyper`, cohort.hyper);
          const own = this.states.get(parameter) ?? [];
          for (const [i, name] of names.entries()) {
            if (own[i]) state.set(`${at}.${name}`, own[i]);
          }
        }
      }
    }
    return state;
  }

  /** Takes over what {@link stateDict} gave; the optimizer must be made alike. */
  loadStateDict(state: OptimizerState): void {
    expectTensorMap(this.name, state);
    for (const name of state.keys()) {
      const number = /^state\.(\d+)\./.exec(name)?.[1];
      if (number === undefined || !this.all[Number(number)]) {
        throw new Error(`${this.name}: the state has no place for ${describe(name)}`);
      }
    }
    for (const group of this.groups) this.loadGroup(group, state);
  }

  private loadGroup(group: Group<Options>, state: OptimizerState): void {
    const byStep = new Map<string, { values: Float64Array; members: Set<Tensor> }>();
    for (const parameter of group.parameters) {
      const at = `state.${this.all.indexOf(parameter)}`;
      const saved = state.get(`${at}.hyper`);
      if (!saved) {
        for (const own of this.states.get(parameter) ?? []) native.fillInto(own.h, 0);
        continue;
      }
      const values = saved.data() as Float64Array;
      if (!(values instanceof Float64Array) || values.length !== hyper.size) {
        throw new Error(`${this.name}: ${at}.hyper must be float64[${hyper.size}], got ${saved}`);
      }
      const own = this.stateOf(parameter, group.options);
      for (const [i, name] of this.stateNames(group.options).entries()) {
        const source = state.get(`${at}.${name}`);
        if (!source) throw new Error(`${this.name}: the state lacks ${at}.${name}`);
        (own[i] as Tensor).copyFrom(source.to(parameter.device));
      }
      const key = `${parameter.device.name} ${values.join()}`;
      const cohort = byStep.get(key);
      if (cohort) cohort.members.add(parameter);
      else byStep.set(key, { values, members: new Set([parameter]) });
      group.options.lr = values[hyper.learningRate] as number;
    }
    const loaded = [...byStep.values()];
    const places = loaded.map(({ members }) =>
      group.cohorts.find((c) => equal(c.members, members)),
    );
    if (loaded.length === group.cohorts.length && !places.includes(undefined)) {
      // In place, so that captured steps find the values.
      for (const [i, { values }] of loaded.entries()) {
        native.writeBytes((places[i] as Cohort).hyper.h, values);
      }
      return;
    }
    group.cohorts = loaded.map(({ values, members }) => {
      const [first] = members as Set<Tensor>;
      const made = tensor(values, { dtype: 'float64', device: (first as Tensor).device });
      return { hyper: persistent(made), members };
    });
  }
}

function equal(a: ReadonlySet<Tensor>, b: ReadonlySet<Tensor>): boolean {
  return a.size === b.size && [...a].every((item) => b.has(item));
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof (value as Partial<Iterable<unknown>> | null)?.[Symbol.iterator] === 'function';
}

function persistent(made: Tensor): Tensor {
  made.keep();
  made.persistent = true;
  return made;
}

function handles(tensors: readonly Tensor[]): Float64Array {
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

function byDevice(tensors: readonly Tensor[]): Map<Device, Tensor[]> {
  const found = new Map<Device, Tensor[]>();
  for (const t of tensors) {
    const list = found.get(t.device);
    if (list) list.push(t);
    else found.set(t.device, [t]);
  }
  return found;
}
