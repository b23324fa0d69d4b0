// Builds the native code with the address and undefined-behaviour sanitizers, and runs the op tests
// and the fuzzer on it: `node scripts/test-sanitized.mjs [--calls 100000] [--seed N] [--no-build]
// [--no-tests] [--no-fuzz]`. The fuzzer runs on the CPU, and for a hundredth of the calls on the
// emulated device.
import { execFileSync, spawnSync } from 'node:child_process';
import path from 'node:path';
import { build, root } from './build.mjs';
import { parseFlags } from './flags.mjs';

const { values: options } = parseFlags('test-sanitized', {
  options: {
    calls: { type: 'string', default: '100000' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    'no-build': { type: 'boolean', default: false },
    'no-tests': { type: 'boolean', default: false },
    'no-fuzz': { type: 'boolean', default: false },
  },
});

function library(name) {
  const compiler = process.env.CXX ?? 'g++';
  return execFileSync(compiler, [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
}

const env = {
  ...process.env,
  NODEGRAD_BUILD: 'sanitized',
  // Before Node's own C++ library, whose exceptions the sanitizer must know.
  LD_PRELOAD: [library('libasan.so'), library('libstdc++.so.6')].join(':'),
  // Node does not free all it has at exit; the addon's memory is checked by tests of its own.
  ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1:allocator_may_return_null=1',
  UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
};

function run(what, args) {
  console.log(`sanitized: ${what}`);
  const result = spawnSync(process.execPath, args, { cwd: root, env, stdio: 'inherit' });
  if (result.status === 0) return true;
  console.error(`sanitized: ${what} failed (${result.signal ?? `exit ${result.status}`})`);
  return false;
}

const vitest = path.join(root, 'node_modules/vitest/vitest.mjs');
const fuzz = (device, calls) => [
  ...['--import', 'tsx', path.join(root, 'test/fuzz/run.ts')],
  ...['--device', device, '--calls', String(calls), '--seed', options.seed],
];

if (!options['no-build']) build('sanitized');
const calls = Number(options.calls);
const passed = [];
if (!options['no-tests']) {
  const args = [vitest, 'run', 'test/ops', '--testTimeout', '600000'];
  passed.push(run('op tests', args));
}
if (!options['no-fuzz']) {
  passed.push(run('fuzz on the CPU', fuzz('cpu', calls)));
  passed.push(run('fuzz on the emulated device', fuzz('emulated', Math.max(5000, calls / 100))));
}
process.exitCode = passed.every(Boolean) ? 0 : 1;
