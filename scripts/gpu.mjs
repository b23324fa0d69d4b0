// Runs the tests and benchmarks that need a GPU, in stages that each end within --minutes:
//
//   node scripts/gpu.mjs [stage …] [--minutes 9] [--device cuda] [--python python3] [--again]
//
//   tests      the test suite in four parts (tests/1 …) on the release build: devices cpu and cuda
//   sanitizer  memcheck, racecheck, synccheck, initcheck: each runs the calls of gpu-calls.ts and
//              random calls of every function under that tool of compute-sanitizer
//   code       that tensor-core instructions stand in the machine code of the kernels for them
//   kernels    gemm, attention, …: kernels beside PyTorch's (bench/kernels)
//   models     whole training steps beside PyTorch eager and compiled (bench/models)
//   table      the results of all GPUs as Markdown
//
// All of them where none is named. bench/README.md says what it needs. --device emulated:1 rehearses
// the stages on the emulated build, each with a little of its work.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { root } from './build.mjs';
import { checkAddon } from './gpu-code.mjs';
import { printTables } from './gpu-table.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '9' },
    device: { type: 'string', default: 'cuda' },
    python: { type: 'string', default: 'python3' },
    again: { type: 'boolean', default: false },
  },
});

const rehearsal = !options.device.startsWith('cuda');
const minutes = Number(options.minutes);
const addon = path.join(root, 'build', rehearsal ? 'emulated' : '', 'Release/nodegrad.node');
const node = process.execPath;
const tsx = [node, '--import', 'tsx'];
const env = {
  // Without what a test runner around this one tells its workers.
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^VITEST/.test(name))),
  NODEGRAD_BUILD: rehearsal ? 'emulated' : '', // empty: the addon that the package loads
  PYTHON: options.python,
};

/** Runs a program to its end or to the limit; returns whether it ended well. */
function run([program, ...args], limit = minutes) {
  const { status, signal, error } = spawnSync(program, args, {
    cwd: root,
    env,
    stdio: 'inherit',
    timeout: Math.round(limit * 60_000),
    killSignal: 'SIGTERM',
  });
  if (error?.code === 'ENOENT') console.log(`gpu: ${program} is not on this machine`);
  if (error?.code === 'ETIMEDOUT') console.log(`gpu: stopped after ${limit.toFixed(1)} minutes`);
  return !error && status === 0 && !signal;
}

const testParts = 4;
/** What tests the emulated device or its build, not ours on a chip. */
const emulatedOnly = [
  'test/emulation/**',
  'test/runtime/objects.test.ts',
  'test/bench/kernels.test.ts',
];

function tests(part) {
  const vitest = [node, path.join(root, 'node_modules/vitest/vitest.mjs'), 'run'];
  const flags = ['--maxWorkers', '8', '--typecheck.enabled=false', '--passWithNoTests'];
  const left = emulatedOnly.flatMap((pattern) => ['--exclude', pattern]);
  const which = rehearsal
    ? [['test/ops/blend.test.ts', 'test/data/iterable.test.ts'][part - 1] ?? 'no such test']
    : ['--shard', `${part}/${testParts}`];
  return run([...vitest, ...which, ...flags, ...left]);
}

/**
 * memcheck finds bad accesses, racecheck races in shared memory, synccheck barriers not met by all,
 * initcheck reads of memory that nothing was written to.
 */
function sanitizer(tool) {
  const under = rehearsal
    ? []
    : ['compute-sanitizer', '--tool', tool, '--target-processes', 'all', '--error-exitcode', '9'];
  if (rehearsal) console.log(`gpu: a rehearsal, without ${tool}`);
  const size = rehearsal ? ['--tiny'] : [];
  const calls = [...tsx, 'scripts/gpu-calls.ts', '--device', options.device, ...size];
  // Random calls in what is left, less a minute for the call that they end with.
  const began = performance.now();
  if (!run([...under, ...calls])) return false;
  const left = minutes - (performance.now() - began) / 60_000 - 1;
  if (left < 0.5) {
    console.log('gpu: no time left for random calls');
    return true;
  }
  const many = rehearsal ? '50' : '4000';
  const fuzz = ['--device', options.device, '--calls', many, '--seed', '1', '--slow'];
  return run(
    [...under, ...tsx, 'test/fuzz/run.ts', ...fuzz, '--minutes', left.toFixed(2)],
    left + 1,
  );
}

/** Goes on where an earlier run of the same build was cut off, unless --again. */
function bench(group) {
  const flags = rehearsal
    ? ['--tiny', '--rounds', '1', '--seconds', '0.001']
    : ['--rounds', '9', '--save', ...(options.again ? [] : ['--resume'])];
  // The last case takes its time.
  const end = Math.max(0.1, minutes - (group.startsWith('models') ? 3 : 1));
  const given = ['--device', options.device, '--minutes', String(end), ...flags];
  return run([...tsx, 'bench/run.ts', group, ...given]);
}

const kernels = ['gemm', 'attention', 'recurrent', 'conv', 'memory'];
const models = rehearsal ? ['models/mlp'] : ['models'];
const tools = ['memcheck', 'racecheck', 'synccheck', 'initcheck'];
const parts = Array.from({ length: testParts }, (_, i) => i + 1);

/** By group and name, in the order in which they run. */
const stages = [
  ...parts.map((part) => ['tests', `tests/${part}`, () => tests(part)]),
  ...tools.map((tool) => ['sanitizer', tool, () => sanitizer(tool)]),
  ['code', 'code', () => checkAddon(addon, rehearsal)],
  ...kernels.map((name) => ['kernels', name, () => bench(`kernels/${name}`)]),
  ...models.map((name) => ['models', name, () => bench(name)]),
  ['table', 'table', printTables],
];

const names = new Set(stages.flatMap((stage) => stage.slice(0, 2)));
const unknown = positionals.filter((name) => !names.has(name));
if (unknown.length > 0) {
  console.error(`gpu: the stages are ${[...names].join(', ')}, got ${unknown.join(', ')}`);
  process.exit(2);
}
const wanted = stages.filter(
  ([group, name]) =>
    positionals.length === 0 || positionals.includes(group) || positionals.includes(name),
);
if (wanted.some(([, name]) => name !== 'table')) {
  if (!existsSync(addon)) {
    console.error(`gpu: there is no ${addon}: npm run build:${rehearsal ? 'emulated' : 'native'}`);
    process.exit(1);
  }
  const native = createRequire(import.meta.url)(addon); // or says why it cannot be loaded
  const missing = rehearsal ? '' : native.deviceMissing(2);
  if (missing) {
    console.error(`gpu: no GPU: ${missing}`);
    process.exit(1);
  }
}
const failed = [];
for (const [, name, stage] of wanted) {
  const start = performance.now();
  console.log(`\n== ${name}`);
  if (!stage()) failed.push(name);
  console.log(`== ${name}: ${((performance.now() - start) / 1e3).toFixed(0)} s`);
}
if (failed.length > 0) console.error(`gpu: failed: ${failed.join(', ')}`);
process.exitCode = failed.length > 0 ? 1 : 0;
