// Runs the tests and benchmarks that need a GPU, in stages that each end within --minutes:
//
//   node scripts/gpu.mjs [stage …] [--minutes 9] [--device cuda] [--python python3]
//
//   tests      the whole test suite on the release build, whose devices are cpu and cuda
//   sanitizer  random calls of every function under compute-sanitizer: memory, races, barriers
//   code       that tensor-core instructions stand in the machine code of the chip
//   gemm attention lstm conv memory    kernels beside PyTorch's (bench/kernels)
//   models     whole training steps beside PyTorch eager and compiled (bench/models)
//   table      the results of all GPUs as Markdown
//
// All of them where none is named. It needs the release build of the addon with CUDA, Node.js, the
// packages of npm install, and for the benchmarks Python with PyTorch. Benchmarks write
// bench/results/<gpu>.json.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { root } from './build.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '9' },
    device: { type: 'string', default: 'cuda' },
    python: { type: 'string', default: 'python3' },
  },
});

const addon = path.join(root, 'build/Release/nodegrad.node');
const env = { ...process.env, NODEGRAD_BUILD: 'release', PYTHON: options.python };
const node = process.execPath;
const tsx = ['--import', 'tsx'];

/** Runs a program to its end or to the limit; returns whether it ended well. */
function run(program, args) {
  const { status, signal, error } = spawnSync(program, args, {
    cwd: root,
    env,
    stdio: 'inherit',
    timeout: Number(options.minutes) * 60_000,
    killSignal: 'SIGTERM',
  });
  if (error?.code === 'ENOENT') {
    console.log(`gpu: ${program} is not on this machine`);
    return false;
  }
  if (error?.code === 'ETIMEDOUT') console.log(`gpu: stopped after ${options.minutes} minutes`);
  return status === 0 && !signal;
}

const vitest = path.join(root, 'node_modules/vitest/vitest.mjs');

function tests() {
  return run(node, [vitest, 'run', '--maxWorkers', '8', '--typecheck.enabled=false']);
}

/** memcheck finds bad accesses, racecheck races in shared memory, synccheck barriers not met by all. */
function sanitizer() {
  const calls = { memcheck: 4000, racecheck: 800, synccheck: 800, initcheck: 800 };
  return Object.entries(calls).every(([tool, count]) => {
    console.log(`gpu: compute-sanitizer ${tool}, ${count} calls`);
    const fuzz = ['test/fuzz/run.ts', '--device', options.device, '--calls', String(count)];
    const args = ['--tool', tool, '--error-exitcode', '9', node, ...tsx, ...fuzz, '--seed', '1'];
    return run('compute-sanitizer', args);
  });
}

/** The instruction that only tensor cores of each architecture have, counted in the addon. */
function code() {
  const result = spawnSync('cuobjdump', ['-sass', addon], { encoding: 'utf8', maxBuffer: 2 ** 31 });
  if (result.error) {
    console.log(`gpu: cuobjdump: ${result.error.message}`);
    return false;
  }
  const counts = new Map();
  let arch = '';
  for (const line of result.stdout.split('\n')) {
    arch = /^arch = (\S+)/.exec(line)?.[1] ?? arch;
    const name = /\b(HGMMA|HMMA|QGMMA|UTMALDG|LDGSTS)\b/.exec(line)?.[1];
    if (name) counts.set(`${arch} ${name}`, (counts.get(`${arch} ${name}`) ?? 0) + 1);
  }
  for (const [name, count] of [...counts].sort()) console.log(`  ${name}: ${count}`);
  return [...counts.keys()].some((name) => name.endsWith('HMMA'));
}

function bench(group, rounds) {
  const flags = ['--device', options.device, '--rounds', String(rounds), '--save'];
  const minutes = ['--minutes', String(Number(options.minutes) - 1)]; // the last case takes its time
  return run(node, [...tsx, 'bench/run.ts', group, ...flags, ...minutes]);
}

/** The least median among the rivals that are not ours. */
function bestRival(times) {
  const found = Object.entries(times).filter(([name]) => !name.startsWith('nodegrad'));
  return found.sort(([, a], [, b]) => a - b)[0];
}

function markdown(title, head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  console.log(
    `\n${title}\n\n${[line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')}`,
  );
}

function kernelRow({ name, flops, bytes, rivals }) {
  const times = Object.fromEntries(
    Object.entries(rivals).flatMap(([who, found]) =>
      found.microseconds ? [[who, found.microseconds.median]] : [],
    ),
  );
  const { nodegrad: own } = times;
  if (own === undefined) return [name, rivals.nodegrad?.missing ?? 'missing', '', '', ''];
  const rate =
    flops / bytes > 100
      ? `${(flops / own / 1e6).toFixed(0)} TFLOP/s`
      : `${(bytes / own / 1e3).toFixed(0)} GB/s`;
  const [who = '', best = Number.NaN] = bestRival(times) ?? [];
  return [name, own.toFixed(1), rate, who, (best / own).toFixed(2)];
}

function modelRow({ title, precision, rivals }) {
  const times = Object.fromEntries(rivals.map((r) => [r.name, r.milliseconds.median]));
  const own = Math.min(times['nodegrad eager'], times['nodegrad captured']);
  const [who = '', best = Number.NaN] = bestRival(times) ?? [];
  return [`${title}, ${precision}`, own.toFixed(3), who, (best / own).toFixed(2)];
}

/** The saved results of GPUs as Markdown. */
function table() {
  const folder = path.join(root, 'bench/results');
  for (const file of readdirSync(folder).filter(
    (n) => n.endsWith('.json') && !n.startsWith('cpu-'),
  )) {
    const groups = Object.entries(JSON.parse(readFileSync(path.join(folder, file), 'utf8')));
    console.log(`\n## ${groups[0]?.[1].device ?? file}`);
    const of = (kind) => groups.filter(([name]) => name.startsWith(kind)).map(([, g]) => g.values);
    const kernels = of('kernels/').flatMap((values) => values.kernels.map(kernelRow));
    const head = ['µs', 'rate', 'best rival', 'its time over ours'];
    if (kernels.length > 0) markdown('Kernels', ['kernel', ...head], kernels);
    const models = of('models/').flat().map(modelRow);
    if (models.length > 0) {
      markdown('Training steps', ['step', 'ms', 'best rival', 'its time over ours'], models);
    }
  }
  return true;
}

const kernelFamilies = ['gemm', 'attention', 'lstm', 'conv', 'memory'];
const stages = {
  tests,
  sanitizer,
  code,
  ...Object.fromEntries(kernelFamilies.map((name) => [name, () => bench(`kernels/${name}`, 9)])),
  models: () => bench('models', 9),
  table,
};

const wanted = positionals.length > 0 ? positionals : Object.keys(stages);
const unknown = wanted.filter((name) => !(name in stages));
if (unknown.length > 0) {
  console.error(`gpu: the stages are ${Object.keys(stages).join(', ')}, got ${unknown.join(', ')}`);
  process.exit(2);
}
if (wanted.some((name) => name !== 'table')) createRequire(import.meta.url)(addon); // or says why not
const failed = [];
for (const name of wanted) {
  const start = performance.now();
  console.log(`\n== ${name}`);
  if (!stages[name]()) failed.push(name);
  console.log(`== ${name}: ${((performance.now() - start) / 1e3).toFixed(0)} s`);
}
if (failed.length > 0) console.error(`gpu: failed: ${failed.join(', ')}`);
process.exitCode = failed.length > 0 ? 1 : 0;
