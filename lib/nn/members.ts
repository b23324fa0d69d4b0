/** What a module holds, directly or in arrays, Maps and plain objects, however deep. */

/** One thing that a module holds; its name is dotted, as in `blocks.0.1` or `heads.left`. */
export interface Member {
  readonly name: string;
  readonly value: object;
  /** Puts another in its place. */
  replace(value: object): void;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Whether a value is made by `{ … }`: no instance of a class. */
export function isPlainObject(value: object): value is Record<string, unknown> {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function* within(member: Member, path: readonly object[]): Generator<Member> {
  const { name, value } = member;
  // A container that holds itself ends here.
  if (path.includes(value)) return;
  const inner = [...path, value];
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) {
      if (!isObject(item)) continue;
      const replace = (other: object): void => {
        value[i] = other;
      };
      yield* within({ name: `${name}.${i}`, value: item, replace }, inner);
    }
  } else if (value instanceof Map) {
    for (const [key, item] of value) {
      if (!isObject(item) || isObject(key)) continue;
      const replace = (other: object): void => void value.set(key, other);
      yield* within({ name: `${name}.${String(key)}`, value: item, replace }, inner);
    }
  } else if (isPlainObject(value)) {
    yield* properties(value, `${name}.`, inner);
  } else {
    yield member;
  }
}

function* properties(holder: object, prefix: string, path: readonly object[]): Generator<Member> {
  for (const [key, value] of Object.entries(holder)) {
    if (!isObject(value)) continue;
    const replace = (other: object): void => {
      (holder as Record<string, unknown>)[key] = other;
    };
    yield* within({ name: prefix + key, value, replace }, path);
  }
}

/** The objects that a module holds, containers apart, in the order in which they were assigned. */
export function membersOf(module: object): Generator<Member> {
  return properties(module, '', [module]);
}
