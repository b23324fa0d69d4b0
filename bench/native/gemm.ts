/** Builds and runs gemm.cc: our matrix product against dnnl_sgemm and cblas_sgemm, without Node. */
import { spawnSync } from 'node:child_process';
import { buildProgram, type ObjectFile } from '../support/build.js';
import { openblasEnvironment } from '../support/openblas.js';

type InstructionSet = 'v2' | 'v3' | 'v4';

/** The sources as CMakeLists.txt compiles them. */
function objects(isa: InstructionSet): ObjectFile[] {
  const plain = ['-O2', '-fno-math-errno', '-fno-trapping-math'];
  const kernels = [
    ...plain,
    '-O3',
    '-ffp-contract=fast',
    `-march=x86-64-${isa}`,
    '-mprefer-vector-width=512',
    `-DNODEGRAD_ISA=${isa}`,
  ];
  return [
    { source: 'bench/native/gemm.cc', flags: [...plain, `-DNODEGRAD_ISA=${isa}`] },
    { source: 'native/cpp/core/executor.cc', flags: plain },
    { source: 'native/cpp/core/error.cc', flags: plain },
    { source: 'native/cpp/cpu/gemm.cc', flags: kernels },
    { source: 'native/cpp/cpu/gemm_micro.cc', flags: kernels },
  ];
}

/** Compares on the widest instruction set of the machine; returns the lines that were printed. */
export function compareGemm(
  isa: InstructionSet,
  threads: readonly number[],
  seconds: number,
): string[] {
  const program = buildProgram(`gemm-${isa}`, objects(isa), ['-ldl']);
  const args = [String(seconds), ...threads.map(String)];
  const { status, stdout, stderr } = spawnSync(program, args, {
    encoding: 'utf8',
    env: { ...process.env, ...openblasEnvironment() },
  });
  if (status !== 0) throw new Error(`bench: gemm failed: ${stderr}`);
  process.stdout.write(stdout);
  for (const rival of ['dnnl', 'openblas']) {
    if (!stdout.includes(rival)) console.log(`  missing: ${rival} is not installed`);
  }
  return stdout.trimEnd().split('\n');
}
