/**
 * npm run bench -- [group …] [--device d] [--rounds n] [--seconds s] [--threads 1,2] [--save]
 *
 * Groups: `ops` (micro-benchmarks; one family: `ops/gemm`), `native` (the matrix product against
 * other libraries, in C++), `kernels` (kernels against PyTorch's on a GPU; one family:
 * `kernels/attention`), `models` (whole steps against other frameworks; one: `models/mlp`). All that
 * fit the device where none is named. bench/README.md says what is measured and how to read it.
 */
import { readdirSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { device as deviceOf } from 'nodegrad';
import { gpuCases, tinyCases } from './kernels/cases.js';
import type { Contest } from './kernels/contest.js';
import type { Setting, Workload } from './models/runner.js';
import { buildPackage } from './support/build.js';
import { measureFloor } from './support/floor.js';
import { machine, savedValues, saveResults } from './support/results.js';

interface Flags {
  rounds: number;
  seconds: number;
  threads: number[];
  save: boolean;
  resume: boolean;
  device: string;
  precision: Setting['precision'][];
  tiny: boolean;
  minutes: number;
}

const opsFolder = new URL('./ops/', import.meta.url);
const families = readdirSync(opsFolder)
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => file.slice(0, -'.bench.ts'.length))
  .sort((a, b) => Number(b === 'host') - Number(a === 'host'));

const models: Record<string, () => Promise<Workload>> = {
  mlp: async () => (await import('./models/mlp.js')).mlp,
  cnn: async () => (await import('./models/cnn.js')).cnn,
  lstm: async () => (await import('./models/lstm.js')).lstmWorkload('lstm'),
  'keras-lstm': async () => (await import('./models/lstm.js')).lstmWorkload('keras-lstm'),
  'gpt-char': async () => (await import('./models/gpt.js')).gptWorkload('gpt-char'),
  'bert-base': async () => (await import('./models/bert.js')).bertWorkload('bert-base'),
  'gpt2-124m': async () => (await import('./models/gpt.js')).gptWorkload('gpt2-124m'),
  'bert-base-32': async () => (await import('./models/bert.js')).bertWorkload('bert-base-32'),
};

/** Whose steps take a CPU minutes: run there only where named. */
const forGpus = new Set(['models/gpt2-124m', 'models/bert-base-32']);

const groups = [
  ...families.map((family) => `ops/${family}`),
  'native/gemm',
  ...Object.keys(gpuCases).map((family) => `kernels/${family}`),
  ...Object.keys(models).map((model) => `models/${model}`),
];

async function run(group: string, flags: Flags): Promise<unknown> {
  const { device, rounds, seconds, threads } = flags;
  if (group === 'native/gemm') {
    const { compareGemm } = await import('./native/gemm.js');
    const isa = { 'AVX-512': 'v4', AVX2: 'v3', SSE: 'v2' } as const;
    const { instructionSet } = measureFloor(1, 0.05);
    if (instructionSet in isa) {
      return compareGemm(isa[instructionSet as keyof typeof isa], threads, seconds);
    }
    throw new Error(`bench: native/gemm compares x86-64 kernels, got ${instructionSet}`);
  }
  const workload = models[group.slice('models/'.length)];
  if (group.startsWith('models/') && workload) {
    const { contest } = await import('./models/runner.js');
    const found = [];
    for (const precision of flags.precision) {
      const options = { device, precision, rounds, seconds, threads, tiny: flags.tiny };
      found.push(await contest(await workload(), options));
    }
    return found.length === 1 ? found[0] : found;
  }
  const kernels = (flags.tiny ? tinyCases : gpuCases)[group.slice('kernels/'.length)];
  if (group.startsWith('kernels/') && kernels) {
    const { compareKernels, isDefect } = await import('./kernels/contest.js');
    const before = flags.resume ? savedValues<Contest>(group, device) : undefined;
    const found = await compareKernels(kernels, {
      ...{ device, rounds, seconds: seconds / 10, deadline },
      ...(before && { before }),
      ...(flags.save && { keep: (values) => void saveResults(group, values, device) }),
    });
    if (found.kernels.some(isDefect)) process.exitCode = 1;
    return found;
  }
  const { default: bench } = await import(`./ops/${group.slice('ops/'.length)}.bench.ts`);
  return bench(threads);
}

function positive(text: string): number {
  const value = Number(text);
  if (value > 0) return value;
  throw new InvalidArgumentError('It must be a number above 0.');
}

function whole(text: string): number {
  const value = positive(text);
  if (Number.isInteger(value)) return value;
  throw new InvalidArgumentError('It must be a whole number above 0.');
}

function precisions(text: string): Setting['precision'][] {
  return text.split(',').map((word) => {
    if (word === 'float32' || word === 'tf32' || word === 'bfloat16') return word;
    throw new InvalidArgumentError('It must be of float32, tf32 and bfloat16.');
  });
}

const program = new Command('bench')
  .argument('[group...]', `what to run: ops, native, models, ${groups.join(', ')}; all if left out`)
  .option('--rounds <n>', 'rounds that the rivals of a model take turns in', whole, 20)
  .option('--seconds <s>', 'length of a turn, and of each product in native', positive, 0.3)
  .option('--threads <list>', 'numbers of threads', (text) => text.split(',').map(whole), [1, 2])
  .option('--device <name>', 'cpu, cuda, cuda:1 …', 'cpu')
  .option('--precision <list>', 'of models on a GPU: float32, tf32, bfloat16', precisions)
  .option('--tiny', 'small kernels and few steps, which any device runs in seconds', false)
  .option('--minutes <n>', 'start no kernel or model later than that', positive)
  .option('--resume', 'on a GPU: leave out what this build was measured at before', false)
  .option('--save', 'keep the results in bench/results/', false)
  .addHelpText('after', '\nnpm run bench -- models --rounds 20')
  .parse();

const wanted = program.args;
for (const name of wanted) {
  if (!groups.some((group) => group === name || group.startsWith(`${name}/`))) {
    program.error(
      `bench: there is no group ${JSON.stringify(name)}; there are ${groups.join(', ')}`,
    );
  }
}
const flags = program.opts<Flags>();
flags.precision ??= flags.device === 'cpu' ? ['float32'] : ['tf32', 'bfloat16'];
const deadline = performance.now() + (flags.minutes ?? Number.POSITIVE_INFINITY) * 60_000;
const onCpu = flags.device === 'cpu';
buildPackage();
const { cpu, cores, node, load } = machine();
console.log(`${cpu}, ${cores} cores, Node.js ${node}, load ${load.join(' ')}`);
if (!onCpu) console.log(deviceOf(flags.device).describe());
try {
  for (const group of groups) {
    const heavy = onCpu && forGpus.has(group);
    const named = wanted.some((n) => group === n || (group.startsWith(`${n}/`) && !heavy));
    // Kernels are timed on a GPU alone, ops and products beside libraries on the CPU.
    const fits = !heavy && (group.startsWith('models/') || group.startsWith('kernels/') === !onCpu);
    if (wanted.length > 0 ? !named : !fits) continue;
    if (performance.now() > deadline) {
      console.log(`\n# ${group}: not reached in the time given`);
      continue;
    }
    const before = flags.resume ? savedValues<Partial<Contest>>(group, flags.device) : undefined;
    if (before && !before.left?.length) {
      console.log(`\n# ${group}: measured before`);
      continue;
    }
    console.log(`\n# ${group}`);
    const values = await run(group, flags);
    if (flags.save) console.log(`saved to ${saveResults(group, values, flags.device)}`);
  }
} finally {
  const { endRivals } = await import('./kernels/contest.js');
  endRivals();
}
