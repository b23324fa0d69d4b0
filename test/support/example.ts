/** Runs an example as `npm run example` does, and gives what it printed. */
import { execFileSync, type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect } from 'vitest';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const command = ['--import', 'tsx', 'examples/run.ts'];

/** The examples import the package by its name, which is what was built into dist. */
export function usePackage(): void {
  beforeAll(() => {
    execFileSync('npx', ['tsc', '-p', 'tsconfig.build.json'], { cwd: root });
  }, 120_000);
}

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
