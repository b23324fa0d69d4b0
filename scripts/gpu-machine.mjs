// What gpu.mjs must know of a machine: whether its GPU is free, and where its tools are.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';

function output(program, args) {
  const { status, stdout } = spawnSync(program, args, { encoding: 'utf8', timeout: 120_000 });
  return status === 0 ? stdout.trim() : undefined;
}

/** A line of what the driver says of GPU `index`, and why times taken now are worth little. */
export function gpuState(index) {
  const ask = (what) =>
    output('nvidia-smi', ['-i', String(index), `--query-${what}`, '--format=csv,noheader,nounits']);
  const line = ask('gpu=name,driver_version,power.limit,clocks.max.sm,memory.used,utilization.gpu');
  if (line === undefined) return { text: 'nvidia-smi does not answer: nothing known of the GPU' };
  const [name, driver, watts, clock, used, busy] = line.split(/\s*,\s*/);
  const others = (ask('compute-apps=pid') ?? '').split('\n').filter(Boolean).length;
  const text = `${name}, driver ${driver}, ${watts} W, ${clock} MHz at most`;
  // Containers hide the processes of others, but not what they use.
  const inUse = others > 0 || Number(busy) > 5 || Number(used) > 2048;
  return inUse
    ? { text, busy: `in use by others: ${others} processes, ${used} MiB, ${busy}% busy` }
    : { text };
}

/** A tool of CUDA: by its name where it is on the path, else where CUDA is installed. */
export function cudaTool(name) {
  const folders = [
    ...(process.env.PATH ?? '').split(':').filter(Boolean),
    ...[process.env.CUDA_HOME, process.env.CUDA_PATH, '/usr/local/cuda']
      .filter(Boolean)
      .flatMap((folder) => [path.join(folder, 'bin'), path.join(folder, name)]),
  ];
  return folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file)) ?? name;
}

/** The PyTorch of a Python, or undefined: one that has CUDA where `cuda`. */
export function torchOf(python, cuda) {
  const program = [
    'import torch',
    `assert ${cuda ? 'torch.cuda.is_available()' : 'True'}`,
    'print(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}")',
  ].join('\n');
  return output(python, ['-c', program]);
}
