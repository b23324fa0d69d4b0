/**
 * Random numbers for what changes batches: while a DataLoader runs its `transform`, those of the
 * batch's own place (seed, epoch, batch), so that they are the same however batches are prepared
 * ahead, and when a run resumes; otherwise one sequence after the other from `manualSeed`.
 */
import { RandomWords, seedFrom } from './shuffle.js';

let current: RandomWords | null = null;
let count = 0;

/** Runs `fn` (up to its first await) with the random numbers of a place. */
export function withDraws<T>(words: RandomWords, fn: () => T): T {
  const before = current;
  current = words;
  try {
    return fn();
  } finally {
    current = before;
  }
}

/** The random numbers that apply. */
export function draws(op: string): RandomWords {
  return current ?? new RandomWords(seedFrom(op), 2 ** 32 - 1, 'change', count++);
}
