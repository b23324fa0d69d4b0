/** Numbers by formula, so that every rival starts from the same; rival.py has the same ones. */

/** First values of parameter number `at`: in ±bound, in row-major order. */
export function weights(at: number, count: number, bound: number): Float32Array {
  const values = new Float32Array(count);
  for (let i = 0; i < count; ++i) values[i] = (((i * 7919 + 13 * at) % 2001) / 1000 - 1) * bound;
  return values;
}

/**
 * First values of a transformer's parameter: of norms 1 and 0, of other biases 0, of weights ±bound.
 * @param place the parameter's place among the sorted names
 */
export function namedWeights(
  name: string,
  place: number,
  count: number,
  bound: number,
): Float32Array {
  const norm = name.includes('norm');
  if (!norm && !name.endsWith('bias')) return weights(place, count, bound);
  return new Float32Array(count).fill(norm && name.endsWith('weight') ? 1 : 0);
}

/** Classes 0 … kinds - 1 in turn. */
export function classes(count: number, kinds: number): number[] {
  return Array.from({ length: count }, (_, i) => i % kinds);
}
