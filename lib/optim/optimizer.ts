/**
 * What all optimizers share: parameters in groups, state that lives on the device, one kernel
 * launch over all tensors. Learning rate and step count are read by the kernels from device memory
 * (float64, as core/families/optim.h lays out), so a captured step sees every change.
 *
 * Parameters of 16 bits are updated in float32: their states are float32, and so is a copy of the
 * parameter itself (`master`), which follows where somebody else changes the parameter.
 */
import { describe, expectTensor, expectTensorMap } from '../check.js';
import type { Device } from '../device.js';
import type { Gradients } from '../gradient.js';
import { expectUncaptured, observe } from '../guards.js';
import { native } from '../native.js';
import { tensor } from '../ops/fill.js';
import { sameShape, type Tensor } from '../tensor.js';
import { arranged, type Cohort, equal, sorted } from './cohorts.js';
import { type Group, ParameterGroups, type Parameters } from './groups.js';
import { byDevice, handles, hyper, isHalf, rules, slots } from './rules.js';
import { packOption, unpackOption } from './saved.js';

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
export abstract class Optimizer<Options extends { lr: number }> extends ParameterGroups<Options> {
  /** Per device a flag; where it is set, the step changes nothing. */
  private found: ReadonlyMap<Device, Tensor> | null = null;

  constructor(
    name: string,
    private readonly rule: keyof typeof rules,
    parameters: Parameters<Options>,
    defaults: Options,
  ) {
    super(name, parameters, defaults);
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

  /** @internal A step that changes nothing where the flag of a parameter's device (int32) is set. */
  stepUnless(found: ReadonlyMap<Device, Tensor>): void {
    this.found = found;
    try {
      this.step();
    } finally {
      this.found = null;
    }
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
          observe(group, 'cohorts');
          group.cohorts = arranged(group.cohorts, new Set(parameters), () =>
            tensor(this.hyperOf(group.options), { dtype: 'float64', device }),
          );
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
          this.found?.get((parameters[0] as Tensor).device)?.h,
        );
        for (const parameter of parameters) ++parameter.version;
      }
    }
  }

  /**
   * The whole state by name: `state.<parameter number>.<what>`, states and the step count, and
   * `group.<number>.<option>`. Saving and loading it resumes to the same bits.
   */
  stateDict(): OptimizerState {
    const state: OptimizerState = new Map();
    for (const { cohorts } of this.groups) {
      for (const { hyper: own, members } of cohorts) {
        for (const parameter of members) {
          const place = `state.${this.all.indexOf(parameter)}`;
          state.set(`${place}.hyper`, own);
          for (const [name, value] of this.states.get(parameter) ?? []) {
            state.set(`${place}.${name}`, value);
          }
        }
      }
    }
    for (const [at, { options }] of this.groups.entries()) {
      for (const name of this.optionNames()) {
        state.set(`group.${at}.${name}`, packOption(options[name as keyof Options]));
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

/** Handles of the masters, any tensor where a parameter has none; empty where no one has. */
function masters(parameters: readonly Tensor[], states: readonly Map<string, Tensor>[]) {
  if (!parameters.some(isHalf)) return handles([]);
  return handles(parameters.map((p, i) => states[i]?.get('master') ?? p));
}
