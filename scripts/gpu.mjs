// Runs the tests and benchmarks that need a GPU, in stages that each end within --minutes:
//
//   node scripts/gpu.mjs [stage …] [--minutes 9] [--total 9.5] [--out build/gpu] [--device cuda]
//                        [--python python3] [--again]
//
//   tests      the test suite in four parts (tests/1 …) on the release build: devices cpu and cuda
//   sanitizer  memcheck, racecheck, synccheck, initcheck of compute-sanitizer, over calls
//   code       that tensor-core instructions stand in the machine code of the kernels for them
//   kernels    gemm, attention, …: kernels beside PyTorch's (bench/kernels)
//   models     mlp, cnn, …: whole training steps beside PyTorch eager and compiled (bench/models)
//   table      the results of all GPUs as Markdown
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  writeSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { root } from './build.mjs';
import { parseFlags } from './flags.mjs';
import { checkAddon } from './gpu-code.mjs';
import { cudaTool, gpuState, torchOf } from './gpu-machine.mjs';
import { Record, runLimited } from './gpu-run.mjs';
import { tables } from './gpu-table.mjs';

const { values: options, positionals } = parseFlags('gpu', {
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '9' },
    total: { type: 'string', default: 'Infinity' },
    out: { type: 'string', default: path.join(root, 'build/gpu') },
    device: { type: 'string', default: 'cuda' },
    python: { type: 'string', default: 'python3' },
    again: { type: 'boolean', default: false },
  },
});

const rehearsal = !options.device.startsWith('cuda');
const [minutes, total] = [Number(options.minutes), Number(options.total)];
if (!(minutes > 0 && total > 0)) {
  console.error(`gpu: --minutes and --total must be above 0, got ${minutes} and ${total}`);
  process.exit(2);
}
const out = path.resolve(options.out);
const results = path.join(root, 'bench/results');
const addon = path.join(root, 'build', rehearsal ? 'emulated' : '', 'Release/nodegrad.node');
const node = process.execPath;
const tsx = [node, '--import', 'tsx'];
const env = {
  // Without what a test runner around this one tells its workers.
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^VITEST/.test(name))),
  NODEGRAD_BUILD: rehearsal ? 'emulated' : '', // empty: the addon that the package loads
  PYTHON: options.python,
  PYTHONDONTWRITEBYTECODE: '1',
};

/** One stage as it runs: how long it may take, and its record. */
let limit = minutes;
let record;
const run = (command, most = limit) =>
  runLimited(command, { minutes: most, record, cwd: root, env });

const testParts = 4;
/** What tests the emulated device or its build, not ours on a chip. */
const emulatedOnly = ['test/emulation/**', 'test/runtime/objects.test.ts', 'test/bench/**'];

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
 * initcheck reads of memory that nothing was written to. Under each run the calls of gpu-calls.ts and
 * random calls of every function.
 */
async function sanitizer(tool) {
  const under = rehearsal
    ? []
    : [
        ...[cudaTool('compute-sanitizer'), '--tool', tool, '--target-processes', 'all'],
        ...['--error-exitcode', '9', '--print-limit', '20'],
      ];
  if (rehearsal) record.print(`gpu: a rehearsal, without ${tool}`);
  const size = rehearsal ? ['--tiny'] : [];
  const calls = [...tsx, 'scripts/gpu-calls.ts', '--device', options.device, ...size];
  // Random calls in what is left, less a minute for the call that they end with.
  const began = performance.now();
  if (!(await run([...under, ...calls]))) return false;
  const left = limit - (performance.now() - began) / 60_000 - 1;
  if (left < 0.5) {
    record.print('gpu: no time left for random calls');
    return true;
  }
  const many = rehearsal ? '50' : '4000';
  const fuzz = ['--device', options.device, '--calls', many, '--seed', '1', '--slow'];
  return run(
    [...under, ...tsx, 'test/fuzz/run.ts', ...fuzz, '--minutes', left.toFixed(2)],
    left + 1,
  );
}

let torch;
/** Goes on where an earlier run of the same build was cut off, unless --again. */
function bench(group) {
  torch ??= torchOf(options.python, !rehearsal);
  if (torch === undefined) {
    const what = rehearsal ? 'PyTorch' : 'PyTorch with CUDA';
    record.print(`gpu: missing: ${options.python} has no ${what}; --python names another`);
    return false;
  }
  record.print(`${options.python}: ${torch}`);
  const { busy } = rehearsal ? {} : gpuState(gpuIndex);
  if (busy) record.print(`gpu: WRONG times: the GPU is ${busy}`);
  const flags = rehearsal
    ? ['--tiny', '--rounds', '1', '--seconds', '0.001']
    : ['--rounds', '9', '--save', ...(options.again ? [] : ['--resume'])];
  // The last case takes its time.
  const end = Math.max(0.1, limit - 1.5);
  const given = ['--device', options.device, '--minutes', String(end), ...flags];
  return run([...tsx, 'bench/run.ts', group, ...given]);
}

function table() {
  const text = tables(results);
  for (const line of text.split('\n')) record.print(line);
  return true;
}

const kernels = [
  ...['gemm', 'linear', 'attention', 'recurrent', 'conv'],
  ...['memory', 'pointwise', 'norm', 'index', 'random', 'optim'],
];
const models = rehearsal
  ? ['mlp']
  : ['mlp', 'cnn', 'lstm', 'keras-lstm', 'gpt-char', 'bert-base', 'gpt2-124m', 'bert-base-32'];
const tools = ['memcheck', 'racecheck', 'synccheck', 'initcheck'];
const parts = Array.from({ length: testParts }, (_, i) => i + 1);

/** By group and name, in the order in which they run. */
const stages = [
  ...parts.map((part) => ['tests', `tests/${part}`, () => tests(part)]),
  ...tools.map((tool) => ['sanitizer', tool, () => sanitizer(tool)]),
  ['code', 'code', () => checkAddon(addon, rehearsal, (line) => record.print(line))],
  ...kernels.map((name) => ['kernels', name, () => bench(`kernels/${name}`)]),
  ...models.map((name) => ['models', name, () => bench(`models/${name}`)]),
  ['table', 'table', table],
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
const gpuIndex = Number(options.device.split(':')[1] ?? 0);
let machine = 'a rehearsal on the emulated device';
if (wanted.some(([, name]) => name !== 'table')) {
  if (!existsSync(addon)) {
    console.error(`gpu: there is no ${addon}: npm run build:${rehearsal ? 'emulated' : 'native'}`);
    process.exit(1);
  }
  const native = createRequire(import.meta.url)(addon); // or says why it cannot be loaded
  const missing = native.deviceMissing(rehearsal ? 1 : 2);
  if (missing) {
    console.error(`gpu: no ${rehearsal ? 'emulated device' : 'GPU'}: ${missing}`);
    process.exit(1);
  }
  if (!rehearsal) {
    const { text, busy } = gpuState(gpuIndex);
    machine = busy ? `${text}, ${busy}` : text;
  }
  console.log(machine);
}

mkdirSync(out, { recursive: true });
const began = performance.now();
const rows = [];
for (const [, name, stage] of wanted) {
  const start = performance.now();
  const left = total - (start - began) / 60_000;
  limit = Math.min(minutes, left);
  if (left < 0.25) {
    rows.push({ name, how: 'not reached', seconds: 0, lines: [] });
    continue;
  }
  const file = openSync(path.join(out, `${name.replace('/', '-')}.log`), 'w');
  record = new Record((text) => writeSync(file, text));
  console.log(`\n== ${name}`);
  const fine = await stage();
  closeSync(file);
  const seconds = (performance.now() - start) / 1e3;
  console.log(`== ${name}: ${seconds.toFixed(0)} s`);
  const { bad, good } = record;
  const lines = name === 'table' ? [] : [...good.slice(-3), ...bad];
  rows.push({ name, how: fine ? 'ok' : 'FAILED', seconds, lines });
  // After each stage, for what comes later may be cut off from outside.
  for (const found of readdirSync(results).filter((n) => /^(?!cpu-).*\.json$/.test(n))) {
    cpSync(path.join(results, found), path.join(out, found));
  }
}

// Last, and short, for callers that see the end of what was printed.
console.log(`\n== summary: ${machine}; logs and results in ${options.out}`);
for (const { name, how, seconds, lines } of rows) {
  console.log(`${how.padEnd(12)}${name.padEnd(16)}${seconds.toFixed(0).padStart(5)} s`);
  const shown = how === 'ok' ? lines.slice(0, 6) : lines;
  for (const line of shown) console.log(`      ${line.slice(0, 160)}`);
}
process.exitCode = rows.every(({ how }) => how === 'ok') ? 0 : 1;
