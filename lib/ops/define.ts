/** What a row of the op table holds, and how families add methods to Tensor. */
import type { Rule } from '../autograd.js';
import type { NativeOps } from '../native.js';
import { Tensor } from '../tensor.js';

/** Why an op has no gradient by its nature. */
export type NotDifferentiable = `no: ${string}`;

/** Written where an op has no gradient, with the reason, which docs/ops.md shows. */
export function notDifferentiable(reason: string): NotDifferentiable {
  return `no: ${reason}`;
}

export interface OpRow {
  readonly family: string;
  /** One line for docs/ops.md. */
  readonly summary: string;
  /**
   * `any`: all; `numeric`: all but bool; `converted`: integers and bool become float32 first;
   * `floating`: the floating ones, others are refused; `int64`.
   */
  readonly dtypes: 'any' | 'numeric' | 'converted' | 'floating' | 'int64';
  // biome-ignore lint/suspicious/noExplicitAny: each rule types its own attributes
  readonly gradient: Rule<any> | NotDifferentiable;
}

/** Ops by name; the form that takes a number instead of a tensor shares its op's row. */
export type OpName = Exclude<keyof NativeOps, `${string}Scalar`>;
export type OpRows<K extends OpName> = { readonly [Name in K]: OpRow };

/** The rule of a row, or null. */
// biome-ignore lint/suspicious/noExplicitAny: each rule types its own attributes
export function ruleOf(row: OpRow): Rule<any> | null {
  return typeof row.gradient === 'string' ? null : row.gradient;
}

/** Adds methods to Tensor; the family declares their types by merging with the class. */
export function addMethods(
  methods: Record<string, (this: Tensor, ...args: never[]) => unknown> & ThisType<Tensor>,
): void {
  for (const [name, value] of Object.entries(methods)) {
    Object.defineProperty(Tensor.prototype, name, { value, writable: true, configurable: true });
  }
}

/** Adds properties that are computed when read. */
export function addGetters(getters: Record<string, (this: Tensor) => unknown>): void {
  for (const [name, get] of Object.entries(getters)) {
    Object.defineProperty(Tensor.prototype, name, { get, configurable: true });
  }
}
