// Compiles every CUDA kernel for every architecture that ships and prints registers, shared memory
// and spills of each: `npm run kernels:report -- [--archs 80,90a] [--files softmax,gemm] [--all]`.
// Without --all only the kernels of most registers per file are listed. Shared memory is what ptxas
// knows; "and dynamic" stands where the file's kernels also take some that their launch decides.
// Fails where a kernel spills, where ptxas complains of warpgroup products (C75xx: serialised, or
// registers touched before the wait), and where a kernel for sm_90a that is built around them has none.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { root } from './build.mjs';
import { needsHgmma, tensorInstructions } from './cubin.mjs';
import { parseFlags } from './flags.mjs';

const cuda = path.join(root, 'native/cuda');
const shipped = ['80', '86', '89', '90a', '100', '120'];
const { values: options } = parseFlags('kernels-report', {
  options: {
    archs: { type: 'string', default: shipped.join(',') },
    files: { type: 'string' },
    all: { type: 'boolean', default: false },
  },
});

/** The families that CMakeLists.txt compiles with contraction. */
const products = /set\(PRODUCT_FAMILIES ([a-z ]+)\)/
  .exec(readFileSync(path.join(root, 'CMakeLists.txt'), 'utf8'))?.[1]
  ?.split(' ');
if (!products) throw new Error('kernels:report: CMakeLists.txt sets no PRODUCT_FAMILIES any more');

/** A file is named after its family, or <family>_<part>. */
function flagsOf(file) {
  return products.includes(file.split('_')[0]) ? [] : ['-fmad=false'];
}

function compile(file, arch, folder) {
  const args = ['-std=c++20', `-I${cuda}`, `-I${path.join(root, 'native/cpp')}`, ...flagsOf(file)];
  args.push('-gencode', `arch=compute_${arch},code=sm_${arch}`, '-Xptxas', '-v', '-cubin');
  args.push('-o', path.join(folder, `${file}.${arch}.cubin`), path.join(cuda, `${file}.cu`));
  return new Promise((resolve) => {
    const child = spawn('nvcc', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    child.stderr.on('data', (part) => {
      text += part;
    });
    child.on('close', (code) => resolve({ code, text }));
  });
}

/** Whether a source, or a header that it includes, asks for shared memory of the launch. */
function takesDynamicShared(name) {
  const source = readFileSync(path.join(cuda, name), 'utf8');
  if (/shared_memory</.test(source)) return true;
  return [...source.matchAll(/#include "(\w+\.h)"/g)].some(
    ([, header]) => existsSync(path.join(cuda, header)) && takesDynamicShared(header),
  );
}

/** The kernels of ptxas' report: it names a function, its spills, then its registers. */
function kernelsOf(text) {
  const kernels = [];
  let name = '';
  let spill = 0;
  for (const line of text.split('\n')) {
    const entry = /Compiling entry function '(\S+)'/.exec(line);
    if (entry) [name, spill] = [entry[1], 0];
    const spills = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (spills) spill = Math.max(spill, Number(spills[1]), Number(spills[2]));
    const used = /Used (\d+) registers(?:.*?(\d+) bytes smem)?/.exec(line);
    if (used && name) {
      kernels.push({ name, registers: Number(used[1]), shared: Number(used[2] ?? 0), spill });
      name = '';
    }
  }
  return kernels;
}

/** What is wrong with the warpgroup products of a compiled file, or nothing. */
function productsFault(file, arch, folder, text) {
  const complaint = /^.*(\bC75\d\d\b|wgmma\S* instructions are serialized).*$/im.exec(text);
  if (complaint) return complaint[0].trim();
  if (arch !== '90a') return '';
  const cubin = readFileSync(path.join(folder, `${file}.${arch}.cubin`));
  const counts = [...tensorInstructions(cubin)].filter(([name]) => needsHgmma.test(name));
  if (counts.length === 0) return '';
  const all = counts.reduce((sum, [, { HGMMA }]) => sum + HGMMA, 0);
  console.log(`${file} sm_${arch}: ${all} HGMMA instructions`);
  const lacking = counts.filter(([, { HGMMA }]) => HGMMA === 0).map(([name]) => name);
  return lacking.length > 0 ? `no HGMMA instruction in ${readable(lacking).join(', ')}` : '';
}

function readable(names) {
  const { stdout, status } = spawnSync('c++filt', { input: names.join('\n'), encoding: 'utf8' });
  const plain = status === 0 ? stdout.split('\n') : names;
  return plain.map((name) =>
    name
      .replace(/^void /, '')
      .replace(/nodegrad::(cuda::)?(\(anonymous namespace\)::)?/g, '')
      .replace(/\(anonymous namespace\)::/g, '')
      .replace(/>\(.*$/, '>')
      .replace(/\([^)]*\)$/, ''),
  );
}

const files = readdirSync(cuda)
  .filter((file) => file.endsWith('.cu'))
  .map((file) => file.slice(0, -3))
  .filter((file) => !options.files || options.files.split(',').includes(file));
const folder = mkdtempSync(path.join(os.tmpdir(), 'nodegrad-kernels-'));
const jobs = files.flatMap((file) => options.archs.split(',').map((arch) => ({ file, arch })));
let failed = 0;
let spilled = 0;
let faulty = 0;

async function worker() {
  for (let job = jobs.shift(); job; job = jobs.shift()) {
    const { file, arch } = job;
    const { code, text } = await compile(file, arch, folder);
    if (code !== 0) {
      ++failed;
      console.error(`${file} sm_${arch}: nvcc failed\n${text}`);
      continue;
    }
    const fault = productsFault(file, arch, folder, text);
    if (fault) {
      ++faulty;
      console.error(`${file} sm_${arch}: ${fault}`);
    }
    const dynamic = takesDynamicShared(`${file}.cu`) ? ' and dynamic' : '';
    const kernels = kernelsOf(text).sort((a, b) => b.registers - a.registers);
    const names = readable(kernels.map(({ name }) => name));
    const spilling = kernels.filter(({ spill }) => spill > 0).length;
    spilled += spilling;
    console.log(`${file} sm_${arch}: ${kernels.length} kernels, ${spilling} spill`);
    kernels.forEach(({ registers, shared, spill }, at) => {
      if (!options.all && at > 0 && spill === 0) return;
      const use = `${registers} registers, ${shared} bytes${dynamic} shared, ${spill} bytes spilled`;
      console.log(`    ${use}  ${names[at].slice(0, 120)}`);
    });
  }
}

if (spawnSync('nvcc', ['--version'], { stdio: 'ignore' }).status !== 0) {
  console.error('kernels:report: needs nvcc on the path');
  process.exitCode = 1;
} else {
  await Promise.all(Array.from({ length: os.availableParallelism() }, worker));
  rmSync(folder, { recursive: true, force: true });
  console.log(
    `${spilled} kernels spill, ${failed} files failed to compile, ${faulty} have faulty products`,
  );
  if (spilled + failed + faulty > 0) process.exitCode = 1;
}
