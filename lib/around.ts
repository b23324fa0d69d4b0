/**
 * Calls `fn`, which may be asynchronous, and then `end`, come what may.
 * @returns what `fn` returns; where that is a promise, one that settles after `end`
 */
export function around<T>(fn: () => T, end: () => void): T {
  let result: T;
  try {
    result = fn();
  } catch (error) {
    end();
    throw error;
  }
  if (result instanceof Promise) return result.finally(end) as T;
  end();
  return result;
}
