/** Copies of modules. */
import { noGrad } from '../context.js';
import { makeParameter } from '../gradient.js';
import { clone } from '../ops/copy.js';
import { Tensor } from '../tensor.js';
import { isPlainObject } from './members.js';
import { buffer, Module } from './module.js';

function copyTensor(tensor: Tensor): Tensor {
  const copy = noGrad(() => clone(tensor.detach()));
  if (!tensor.persistent) return copy.keep();
  if (!tensor.gradient) return buffer(copy);
  return makeParameter(copy).requireGrad(tensor.gradient.required);
}

/**
 * A copy of a module with all its tensors and sub-modules, also those in arrays, Maps and plain
 * objects. What is frozen stays frozen, what is shared within the module is shared within the copy.
 * Hooks and objects of other classes are not copied.
 */
export function copyOf<M extends Module>(module: M): M {
  const copies = new Map<object, unknown>();
  const copy = (value: unknown): unknown => {
    if (typeof value !== 'object' || value === null) return value;
    if (copies.has(value)) return copies.get(value);
    const keep = <T extends object>(made: T): T => {
      copies.set(value, made);
      return made;
    };
    if (value instanceof Tensor) return keep(copyTensor(value));
    if (value instanceof Map) {
      const made = keep(new Map<unknown, unknown>());
      for (const [key, item] of value) made.set(key, copy(item));
      return made;
    }
    if (Array.isArray(value)) {
      const made = keep<unknown[]>([]);
      for (const item of value) made.push(copy(item));
      return made;
    }
    if (!(value instanceof Module) && !isPlainObject(value)) return value;
    const made = keep(Object.create(Object.getPrototypeOf(value)) as Record<string, unknown>);
    for (const [name, item] of Object.entries(value)) made[name] = copy(item);
    return made;
  };
  return copy(module) as M;
}
