/** What the fuzzer calls, and the few words in which catalogue/ says it. */
import * as ng from '../../lib/index.js';
import type { Maker } from './maker.js';

export type Call = (...args: never[]) => unknown;

export interface Entry {
  /** As a user writes it: `relu`, `Tensor.relu`, `nn.Linear`. */
  readonly name: string;
  /** The row of the op table that it reaches. */
  readonly op?: string;
  readonly call: Call;
  readonly args: (m: Maker) => unknown[];
  /** How many leading arguments are never replaced by garbage. */
  readonly pinned?: number;
  /** How often, relative to the others; 1 where left out. */
  readonly weight?: number;
}

export const entries: Entry[] = [];
// Its functions by name.
export const api = { ...ng } as unknown as Record<string, Call>;
export const init = { ...ng.nn.init } as unknown as Record<string, Call>;
export const layers = { ...ng.nn } as unknown as Record<string, Constructor>;
export const optimizers = { ...ng.optim };
export type Constructor = new (...args: never[]) => ng.nn.Layer;

/** A function of a tensor first, and the method of the same name. */
export function both(name: string, fn: Call, args: Entry['args'], op: string = name): void {
  entries.push({ name, op, call: fn, args });
  method(name, args, op);
}

export function method(name: string, args: Entry['args'], op?: string): void {
  const call = (self: Record<string, Call>, ...rest: never[]) => (self[name] as Call)(...rest);
  entries.push({
    name: `Tensor.${name}`,
    ...(op && { op }),
    call: call as unknown as Call,
    args,
    pinned: 1,
  });
}

export function getter(name: string): void {
  const call = (self: Record<string, unknown>) => self[name];
  entries.push({
    name: `Tensor.${name}`,
    call: call as Call,
    args: (m) => [m.tensor()],
    pinned: 1,
  });
}

export function plain(
  name: string,
  call: unknown,
  args: Entry['args'],
  more: Partial<Entry> = {},
): void {
  entries.push({ name, call: call as Call, args, ...more });
}

/** An op that is a function only. */
export function op(name: string, call: unknown, args: Entry['args']): void {
  plain(name, call, args, { op: name });
}

export const { nn } = ng;
export function layer(
  name: string,
  make: Constructor,
  args: Entry['args'],
  input: Entry['args'],
  more: Partial<Entry> = {},
): void {
  plain(`nn.${name}`, (...given: never[]) => String(new make(...given)), args);
  plain(
    `nn.${name}.forward`,
    (x: ng.Tensor, ...given: never[]) => new make(...given).forward(x),
    (m) => [...input(m), ...args(m)],
    more,
  );
}
export const module = (): ng.nn.Module =>
  new nn.Sequential(new nn.Linear(2, 2), new nn.Linear(2, 1));
export const weight = (m: Maker): ng.Tensor =>
  m.make([m.integer(1, 5), m.integer(1, 5)], 'float32');
