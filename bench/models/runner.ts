/**
 * Times whole steps of several rivals. Each is a process of its own that is warmed up and then
 * waits; the rivals take turns, round by round (A B C A B C …), so that whatever else the machine
 * does meets them alike, and ratios are taken within a round.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type Floor, measureFloor } from '../support/floor.js';
import { digits, type Spread, spread, spreadText } from '../support/statistics.js';
import { printTable } from '../support/table.js';
import type { About, Answer } from './rival.js';

export interface Rival {
  name: string;
  threads: number;
  /** Which of ours it is. */
  ours?: 'eager' | 'captured';
  command: readonly string[];
  env?: Readonly<Record<string, string>>;
}

/** What rivals run on. `tf32` and `bfloat16` are for GPUs: products alone take that precision. */
export interface Setting {
  device: string;
  precision: 'float32' | 'tf32' | 'bfloat16';
  threads: number;
}

export interface Workload {
  name: string;
  title: string;
  /** Float operations of one step. */
  operations: number;
  /** How many steps tell how many a turn takes; 5 where left out. */
  probe?: number;
  rivals(setting: Setting): readonly Rival[];
}

export interface Options {
  rounds: number;
  /** Length of one turn. */
  seconds: number;
  threads: readonly number[];
  device: string;
  precision: Setting['precision'];
  /** Few steps, to try the programs themselves. */
  tiny: boolean;
}

interface Contestant {
  rival: Rival;
  about: About;
  process: ChildProcess;
  ask(steps: number): Promise<Answer>;
  /** Steps of one turn. */
  steps: number;
  /** Milliseconds of one step, per round. */
  times: number[];
  cpuTimes: number[];
}

const pause = 40; // ms; threads that wait for work spin so long before they sleep
// Relative, of losses after the first steps.
const mostDisagreement = { float32: 1e-3, tf32: 5e-3, bfloat16: 3e-2 };

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Starts a rival and waits until it is warm; a sentence if it is not there, or cannot run. */
async function start(rival: Rival, tiny: boolean): Promise<Contestant | string> {
  const [program, ...args] = rival.command;
  const child = spawn(program as string, args, {
    env: { ...process.env, ...rival.env, ...(tiny && { BENCH_TINY: '1' }) },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let complaint = '';
  child.stderr.on('data', (text) => {
    complaint = `${complaint}${text}`.slice(-2000);
  });
  const failed = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (): Promise<unknown> => {
    const line = await Promise.race([lines.next(), failed]);
    if (typeof line === 'string') return { missing: line };
    if (line.done) throw new Error(`bench: ${rival.name} ended: ${complaint}`);
    return JSON.parse(line.value);
  };
  const about = await answer().then(
    (found) => found as About | { missing: string },
    (error: Error) => {
      if (rival.ours) throw error;
      return { missing: error.message };
    },
  );
  if ('missing' in about) return about.missing;
  return {
    rival,
    about,
    process: child,
    ask: async (steps) => {
      child.stdin.write(`${steps}\n`);
      return (await answer()) as Answer;
    },
    steps: 1,
    times: [],
    cpuTimes: [],
  };
}

/** Refuses rivals that do not compute the same thing. */
function checkLosses(contestants: readonly Contestant[], precision: Setting['precision']): void {
  const expected = contestants[0]?.about.loss ?? 0;
  for (const { rival, about } of contestants) {
    if (!(Math.abs(about.loss - expected) <= mostDisagreement[precision] * Math.abs(expected))) {
      throw new Error(
        `bench: ${rival.name} has the loss ${about.loss} after the first steps, ` +
          `${contestants[0]?.rival.name} ${expected}: they do not compute the same`,
      );
    }
  }
}

/** Per round, how many times as long as `of` the other took: by the clock, or in CPU time. */
function ratios(of: Contestant, other: Contestant, what: 'times' | 'cpuTimes' = 'times'): Spread {
  return spread(other[what].map((time, round) => time / (of[what][round] as number)));
}

function fastest(contestants: readonly Contestant[]): Contestant | undefined {
  const median = ({ times }: Contestant): number => spread(times).median;
  return [...contestants].sort((a, b) => median(a) - median(b))[0];
}

function print(
  workload: Workload,
  contestants: readonly Contestant[],
  floors: ReadonlyMap<number, Floor>,
): void {
  for (const [threads, floor] of floors) {
    const least = (workload.operations / floor.fma) * 1e3;
    const own = contestants.filter(({ rival }) => rival.threads === threads);
    const eager = own.find(({ rival }) => rival.ours === 'eager');
    console.log(
      `\n${workload.title}, ${threads} thread${threads > 1 ? 's' : ''}\n` +
        `  floor ${digits(least)} ms: ${digits(workload.operations / 1e6)} MFLOP at the measured ` +
        `peak of ${digits(floor.fma / 1e9)} GFLOP/s (${floor.instructionSet})`,
    );
    printTable(
      ['', 'ms a step (min–max)', 'CPU ms', 'times the floor', 'times ours eager, by round'],
      own.map((found) => [
        found.rival.name,
        spreadText(spread(found.times)),
        digits(spread(found.cpuTimes).median),
        digits(spread(found.times).median / least),
        eager ? spreadText(ratios(eager, found)) : '',
      ]),
    );
  }
  const rival = fastest(contestants.filter((found) => !found.rival.ours));
  if (!rival) return;
  console.log(`\n  against the fastest rival, ${rival.rival.name} on ${rival.rival.threads}:`);
  for (const mode of ['eager', 'captured'] as const) {
    const ours = fastest(contestants.filter((found) => found.rival.ours === mode));
    if (!ours) continue;
    console.log(
      `  ours ${mode}, on ${ours.rival.threads}, takes ` +
        `${spreadText(ratios(rival, ours))} of its time, ` +
        `${spreadText(ratios(rival, ours, 'cpuTimes'))} of its CPU time`,
    );
  }
}

function printGpu(
  workload: Workload,
  contestants: readonly Contestant[],
  precision: Setting['precision'],
): void {
  console.log(`\n${workload.title}, ${precision}: ${digits(workload.operations / 1e9)} GFLOP`);
  const captured = contestants.find(({ rival }) => rival.ours === 'captured');
  printTable(
    ['', 'ms a step (min–max)', 'TFLOP/s', 'times ours captured, by round'],
    contestants.map((found) => [
      found.rival.name,
      spreadText(spread(found.times)),
      digits(workload.operations / spread(found.times).median / 1e9),
      captured ? spreadText(ratios(captured, found)) : '',
    ]),
  );
}

/** Runs the contest and prints it; returns what `--save` keeps. */
export async function contest(workload: Workload, options: Options): Promise<unknown> {
  const { device, precision } = options;
  // On a GPU the host's threads matter little, and what the chip can do at best is not measured.
  const onCpu = device === 'cpu';
  const missing = new Set<string>();
  const contestants: Contestant[] = [];
  const floors = new Map<number, Floor>();
  try {
    for (const threads of onCpu ? options.threads : [1]) {
      if (onCpu) floors.set(threads, measureFloor(threads, 0.3));
      for (const rival of workload.rivals({ device, precision, threads })) {
        const started = await start(rival, options.tiny);
        if (typeof started === 'string') missing.add(started);
        else contestants.push(started);
      }
    }
    checkLosses(contestants, precision);
    for (const found of contestants) {
      const probe = options.tiny ? 1 : (workload.probe ?? 5);
      const { seconds } = await found.ask(probe);
      found.steps = Math.max(1, Math.round((options.seconds * probe) / seconds));
    }
    for (let round = 0; round < options.rounds; ++round) {
      for (const [threads, before] of floors) {
        floors.set(threads, measureFloor(threads, 0.03, before));
      }
      for (const found of contestants) {
        await sleep(pause);
        const { seconds, cpuSeconds } = await found.ask(found.steps);
        found.times.push((seconds / found.steps) * 1e3);
        found.cpuTimes.push((cpuSeconds / found.steps) * 1e3);
      }
    }
  } finally {
    for (const found of contestants) found.process.stdin?.end();
  }
  for (const { rival, about } of contestants) {
    const threads = `${rival.threads} thread${rival.threads > 1 ? 's' : ''}`;
    console.log(`  ${rival.name}, ${threads}: ${about.version}, ${about.details}`);
  }
  for (const what of missing) console.log(`  missing: ${what}`);
  if (onCpu) print(workload, contestants, floors);
  else printGpu(workload, contestants, precision);
  return {
    title: workload.title,
    device,
    precision,
    operations: workload.operations,
    rounds: options.rounds,
    secondsPerTurn: options.seconds,
    floors: Object.fromEntries(floors),
    missing: [...missing],
    rivals: contestants.map(({ rival, about, times, cpuTimes }) => ({
      name: rival.name,
      threads: rival.threads,
      ...about,
      milliseconds: spread(times),
      cpuMilliseconds: spread(cpuTimes),
      rounds: times.map((time) => Number(time.toFixed(4))),
    })),
  };
}
