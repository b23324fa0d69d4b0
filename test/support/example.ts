/** Runs an example as `npm run example` does (with dist/, which package.ts compiles). */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const command = ['--import', 'tsx', 'examples/run.ts'];

export function runExample(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [...command, ...args], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
}

/** The lines of a run that must end well and complain of nothing. */
export function linesOf(...args: string[]): string[] {
  const { stdout, stderr, status } = runExample(args);
  expect([stderr, status]).toEqual(['', 0]);
  return stdout.trimEnd().split('\n');
}
