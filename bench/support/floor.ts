/** What the machine can do at best, measured by bench/native/floor.cc. */
import { execFileSync } from 'node:child_process';
import { buildProgram } from './build.js';

export interface Floor {
  instructionSet: string;
  /** Float operations a second in multiply-adds. */
  fma: number;
  /** Bytes a second, read and written, copying arrays of 2²⁰ floats. */
  copy: number;
  /** Bytes a second, reading such an array. */
  read: number;
}

/** Measures the floor on a number of threads; `before` is kept where it was higher. */
export function measureFloor(threads: number, seconds: number, before?: Floor): Floor {
  const flags = ['-O3', '-march=native', '-Wall', '-Wextra'];
  const program = buildProgram('floor', [{ source: 'bench/native/floor.cc', flags }], []);
  const text = execFileSync(program, [String(threads), String(seconds)], { encoding: 'utf8' });
  const found = JSON.parse(text) as Floor;
  return {
    instructionSet: found.instructionSet,
    fma: Math.max(found.fma, before?.fma ?? 0),
    copy: Math.max(found.copy, before?.copy ?? 0),
    read: Math.max(found.read, before?.read ?? 0),
  };
}
