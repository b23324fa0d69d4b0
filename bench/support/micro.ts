/**
 * Micro-benchmarks through benny: what one small thing costs, with the floor beside it. Whole
 * steps and rivals are not its business; bench/models has a runner of its own for them.
 */
import benny from 'benny';
import { getNumThreads } from 'nodegrad';
import type { Floor } from './floor.js';
import { digits, type Spread } from './statistics.js';
import { printTable } from './table.js';

export interface Case {
  name: string;
  /** Does what is measured `repeats` times. */
  run: () => void | Promise<void>;
  repeats: number;
  /** Bytes read and written, or float operations, of one repeat; neither where only time counts. */
  bytes?: number;
  flops?: number;
  /** The bandwidth to compare bytes with: `copy` where the op writes as much as it reads. */
  against?: 'copy' | 'read';
}

export interface Row {
  suite: string;
  name: string;
  threads: number;
  /** Nanoseconds of one repeat. */
  time: Spread;
  /** Bytes or float operations a second, from the median; and what the machine can do. */
  rate?: number;
  floor?: number;
}

const seconds = 0.5; // per case

function rowOf(suite: string, item: Case, time: Spread, floor: Floor | undefined): Row {
  const row: Row = { suite, name: item.name, threads: getNumThreads(), time };
  const work = item.bytes ?? item.flops;
  if (work === undefined) return row;
  row.rate = work / (time.median * 1e-9);
  if (floor) row.floor = item.flops ? floor.fma : floor[item.against ?? 'copy'];
  return row;
}

function print(rows: readonly Row[], unit: string): void {
  const rated = unit !== '';
  const head = ['', 'ns', 'min–max', ...(rated ? [unit, 'floor', 'share'] : [])];
  printTable(
    head,
    rows.map(({ name, time, rate, floor }) => [
      name,
      digits(time.median),
      `${digits(time.min)}–${digits(time.max)}`,
      rate ? digits(rate / 1e9) : '',
      floor ? digits(floor / 1e9) : '',
      rate && floor ? `${((100 * rate) / floor).toFixed(0)}%` : '',
    ]),
  );
}

/** Runs the cases one after another and prints a table; times are per repeat. */
export async function micro(suite: string, cases: readonly Case[], floor?: Floor): Promise<Row[]> {
  const options = { minSamples: 10, maxTime: seconds };
  const { results } = await benny.suite(
    suite,
    benny.configure({ cases: options }),
    ...cases.map((item) => benny.add(item.name, item.run)),
  );
  const rows = cases.map((item, at) => {
    const details = results[at]?.details;
    if (!details) throw new Error(`bench: ${suite}: ${item.name} gave no result`);
    const perRepeat = 1e9 / item.repeats;
    const time = {
      median: details.median * perRepeat,
      min: details.min * perRepeat,
      max: details.max * perRepeat,
    };
    return rowOf(suite, item, time, floor);
  });
  const first = cases.find((item) => item.bytes ?? item.flops);
  print(rows, first ? (first.flops ? 'GFLOP/s' : 'GB/s') : '');
  return rows;
}
