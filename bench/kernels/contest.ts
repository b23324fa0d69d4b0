/**
 * Times single kernels of several rivals. Each rival is a process that is warm and waits; for each
 * case all of them get the same inputs (through safetensors files), their results are compared with
 * PyTorch's float32, and then they take turns, round by round. Beside the medians stand the two
 * numbers: operations and bytes a second.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { digits, type Spread, spread } from '../support/statistics.js';
import { printTable } from '../support/table.js';
import type { KernelCase } from './case.js';
import { type Answer, Rival } from './process.js';

export interface Measured {
  name: string;
  flops: number;
  bytes: number;
  /** Relative error of the results, against float32, and how much of it is allowed. */
  error?: number;
  tolerance: number;
  rivalError?: number;
  rivals: Record<string, { microseconds: Spread; ratio: Spread } | { missing: string }>;
}

const cacheBytes = 128 * 2 ** 20; // more than an L2 cache holds
const mostSets = 16;
const pause = 20; // ms

/** The first use of a case: inputs are written by ours, read by the others, results compared. */
async function prepare(rivals: readonly Rival[], item: KernelCase, folder: string, onGpu: boolean) {
  const needed = Math.max(1, Math.min(mostSets, Math.ceil(cacheBytes / item.bytes)));
  const sets = onGpu ? needed : 1;
  const [ours, ...others] = rivals as [Rival, ...Rival[]];
  const first = await ours.ask({ item, sets, folder, compare: false });
  const answers: Answer[] = [first];
  let compared = false;
  for (const rival of others) {
    const { checked = false, wanted = [], sets: own = sets } = first;
    if (first.missing !== undefined) {
      answers.push({ missing: 'not run' });
      continue;
    }
    const compare: boolean = checked && !compared;
    const found = await rival.ask({ item, sets: own, folder, compare, checked, wanted });
    if (found.missing === undefined) compared ||= compare;
    answers.push(found);
  }
  return answers;
}

async function measure(
  rivals: readonly Rival[],
  item: KernelCase,
  folder: string,
  { device, rounds, seconds }: KernelOptions,
): Promise<Measured> {
  const onGpu = device.startsWith('cuda');
  const answers = await prepare(rivals, item, folder, onGpu);
  const result: Measured = {
    name: item.name,
    flops: item.flops,
    bytes: item.bytes,
    tolerance: item.tolerance,
    rivals: {},
  };
  for (const { errors } of answers) {
    if (errors?.ours !== undefined) result.error = errors.ours;
    if (errors?.rival !== undefined) result.rivalError = errors.rival;
  }
  const running: { rival: Rival; sets: number; steps: number; times: number[] }[] = [];
  for (const [at, rival] of rivals.entries()) {
    const { missing, sets = 1 } = answers[at] as Answer;
    if (missing !== undefined) {
      result.rivals[rival.name] = { missing };
      continue;
    }
    const probe = await rival.ask({ steps: 2 });
    if (probe.seconds === undefined) {
      result.rivals[rival.name] = { missing: probe.missing ?? '' };
      continue;
    }
    const steps = Math.max(1, Math.ceil((2 * seconds) / probe.seconds));
    running.push({ rival, sets, steps, times: [] });
  }
  for (let round = 0; round < rounds; ++round) {
    for (const entry of [...running]) {
      if (onGpu) await new Promise((resolve) => setTimeout(resolve, pause));
      const { seconds: taken, missing = '' } = await entry.rival.ask({ steps: entry.steps });
      if (taken === undefined) {
        result.rivals[entry.rival.name] = { missing };
        running.splice(running.indexOf(entry), 1);
      } else {
        entry.times.push((taken / entry.steps / entry.sets) * 1e6);
      }
    }
  }
  const own = running.find(({ rival }) => rival === rivals[0]);
  for (const { rival, times } of running) {
    const ratios = times.map((time, round) => time / (own?.times[round] ?? Number.NaN));
    result.rivals[rival.name] = { microseconds: spread(times), ratio: spread(ratios) };
  }
  return result;
}

/** Whether our results are beyond what the dtype allows. */
function isWrong({ error, tolerance }: Measured): boolean {
  return error !== undefined && error > tolerance;
}

/** Whether ours gave no time, or wrong results. */
export function isDefect(found: Measured): boolean {
  return isWrong(found) || 'missing' in (found.rivals.nodegrad ?? { missing: '' });
}

function row(names: readonly string[], item: KernelCase, found: Measured): string[] {
  const own = found.rivals[names[0] as string];
  const time = own && 'microseconds' in own ? own.microseconds.median * 1e-6 : Number.NaN;
  const bound = item.flops / item.bytes > 100;
  const rate = bound
    ? `${digits(item.flops / time / 1e12)} T`
    : `${digits(item.bytes / time / 1e9)} G`;
  return [
    item.name,
    own && 'missing' in own ? 'missing' : digits(time * 1e6),
    rate,
    found.error === undefined
      ? ''
      : `${found.error.toExponential(1)}${isWrong(found) ? ' WRONG' : ''}`,
    ...names.slice(1).map((name) => {
      const rival = found.rivals[name];
      return rival && 'ratio' in rival ? digits(rival.ratio.median) : '';
    }),
  ];
}

/** The figures of a family. */
export interface Contest {
  rivals: Record<string, string>;
  kernels: Measured[];
  /** Cases that the time was too short for. */
  left: string[];
}

export interface KernelOptions {
  device: string;
  rounds: number;
  seconds: number;
  /** What was measured before: it goes on with the cases that were left. */
  before?: Contest;
  /** Stops before a case that would start later; what was measured is kept. */
  deadline?: number;
  /** Called after each case, for a run that is cut off. */
  keep?: (found: Contest) => void;
}

/** By their commands: the groups of a run share them. */
const started = new Map<string, Rival>();

/** Ends the processes that contests have started. */
export function endRivals(): void {
  for (const rival of started.values()) rival.end();
  started.clear();
}

/** Runs the cases; prints a table and returns the figures. */
export async function compareKernels(
  cases: readonly KernelCase[],
  options: KernelOptions,
): Promise<Contest> {
  const { device, before, deadline = Number.POSITIVE_INFINITY, keep } = options;
  const file = (name: string): string => new URL(name, import.meta.url).pathname;
  const python = process.env.PYTHON ?? 'python3';
  const node = [process.execPath, '--import', 'tsx'];
  const ops = new Set(cases.map(({ op }) => op));
  const onGpu = device.startsWith('cuda');
  const fusing = ['attention', 'gelu', 'rotary', 'groupNorm'].some((op) => ops.has(op));
  const forms = [
    'default',
    ...(onGpu && fusing ? ['compiled'] : []),
    ...(onGpu && ops.has('attention') ? ['flash', 'cudnn'] : []),
    ...(ops.has('conv') ? ['channels_last'] : []),
  ];
  const commands: [string, string[]][] = [
    ['nodegrad', [...node, file('nodegrad.ts'), device, 'own']],
    ...forms.map((form): [string, string[]] => [
      form === 'default' ? 'PyTorch' : `PyTorch ${form}`,
      [python, file('torch_kernels.py'), device, form],
    ]),
  ];
  if (onGpu && ops.has('gemm')) {
    commands.push(['cuBLASLt', [...node, file('nodegrad.ts'), device, 'cublas']]);
  }
  const rivals: Rival[] = [];
  const kernels: Measured[] = [...(before?.kernels ?? [])];
  const open = cases.filter(({ name }) => !before || before.left.includes(name));
  const left = new Set(open.map(({ name }) => name));
  const soFar = (): Contest => ({
    rivals: Object.fromEntries(rivals.map(({ name, details }) => [name, details])),
    kernels,
    left: [...left],
  });
  // Some inputs take hundreds of megabytes: the variable may name a folder in memory.
  const folder = mkdtempSync(path.join(process.env.NODEGRAD_BENCH_TMP ?? os.tmpdir(), 'kernels-'));
  try {
    for (const [name, command] of commands) {
      const key = command.join(' ');
      const rival = started.get(key) ?? new Rival(name, command);
      const missing = started.has(key) ? null : await rival.start();
      if (missing !== null) {
        console.log(`  missing: ${name}: ${missing}`);
        continue;
      }
      started.set(key, rival);
      rivals.push(rival);
    }
    const names = rivals.map(({ name }) => name);
    for (const { name, details } of rivals) console.log(`  ${name}: ${details}`);
    const table: string[][] = [];
    for (const item of open) {
      if (performance.now() > deadline) break;
      const found = await measure(rivals, item, folder, options);
      kernels.push(found);
      left.delete(item.name);
      table.push(row(names, item, found));
      keep?.(soFar());
      // Ours, and the one that they are compared with; other forms need not have every op.
      for (const name of names.slice(0, 2)) {
        const rival = found.rivals[name];
        if (rival && 'missing' in rival) console.log(`  missing: ${item.name}: ${rival.missing}`);
      }
    }
    const head = [
      '',
      'µs',
      'FLOP/s or B/s',
      'error',
      ...names.slice(1).map((n) => `${n}, times ours`),
    ];
    printTable(head, table);
    if (left.size > 0) console.log(`  not reached in the time given: ${[...left].join('; ')}`);
    return soFar();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
