/** What the benchmarks run: the package as it is shipped, and small native programs of our own. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const buildFolder = path.join(root, 'build', 'bench');

/** When the newest file below a folder was changed, 0 where there is none. */
function newest(folder: string, extension: string): number {
  let latest = 0;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith(extension)) continue;
    latest = Math.max(latest, statSync(path.join(entry.parentPath, entry.name)).mtimeMs);
  }
  return latest;
}

function changed(file: string): number {
  return existsSync(file) ? statSync(file).mtimeMs : 0;
}

function run(command: string, args: readonly string[]): void {
  const { status, error, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  if (error || status !== 0) {
    throw new Error(`bench: ${command} failed: ${error?.message ?? stderr.slice(-2000)}`);
  }
}

/**
 * Compiles lib/ to dist/ if it is older. The benchmarks import dist/, as users do: what tsx makes
 * of lib/ names every closure at run time, which costs as much as a small op.
 */
export function buildPackage(): void {
  if (changed(path.join(root, 'dist/index.js')) >= newest(path.join(root, 'lib'), '.ts')) return;
  console.log('bench: compiling lib/ to dist/');
  run(process.execPath, [
    path.join(root, 'node_modules/typescript/bin/tsc'),
    '-p',
    'tsconfig.build.json',
  ]);
}

/** One object file: a source below the root and the flags to compile it with. */
export interface ObjectFile {
  source: string;
  flags: readonly string[];
}

/** Builds a program from C++ sources with g++ into build/bench; returns its path. */
export function buildProgram(
  name: string,
  objects: readonly ObjectFile[],
  libraries: readonly string[],
): string {
  const program = path.join(buildFolder, name);
  const sources = Math.max(
    newest(path.join(root, 'native/cpp'), ''),
    newest(path.join(root, 'bench/native'), '.cc'),
  );
  if (changed(program) > sources) return program;
  mkdirSync(buildFolder, { recursive: true });
  const compiler = process.env.CXX ?? 'g++';
  const files = objects.map(({ source, flags }, at) => {
    const file = path.join(buildFolder, `${name}-${at}.o`);
    run(compiler, ['-std=gnu++20', '-Inative/cpp', ...flags, '-c', source, '-o', file]);
    return file;
  });
  run(compiler, [...files, '-o', program, '-pthread', ...libraries]);
  return program;
}
