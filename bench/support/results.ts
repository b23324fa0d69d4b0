/** The machine as results name it, and the file that keeps them. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { device } from 'nodegrad';

const folder = new URL('../results/', import.meta.url);

export function cpuModel(): string {
  return os.cpus()[0]?.model.trim() ?? os.arch();
}

/** What a reader must know to judge a figure; the load tells whether the machine was quiet. */
export function machine() {
  return {
    cpu: cpuModel(),
    cores: os.availableParallelism(),
    node: process.version,
    kernel: `${os.type()} ${os.release()}`,
    load: os.loadavg().map((load) => Number(load.toFixed(2))),
  };
}

interface Entry {
  date: string;
  machine: ReturnType<typeof machine>;
  device: string;
  /** Of a GPU's results: the first digits of the addon's SHA-256. */
  build?: string;
  values: unknown;
}

function fileOf(on: string): URL {
  const onCpu = on === 'cpu';
  const name = (onCpu ? cpuModel() : (device(on).describe().split(',')[0] as string))
    .replace(/\([RT]M?\)|\bCPU\b|@.*$|\bProcessor\b/gi, ' ')
    .trim()
    .replace(/[^A-Za-z0-9]+/g, '-')
    .toLowerCase();
  return new URL(`${onCpu ? 'cpu-' : ''}${name}.json`, folder);
}

function readResults(file: URL): Record<string, Entry> {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return {};
  }
}

function buildOf(): string {
  const flavor = process.env.NODEGRAD_BUILD || '.';
  const addon = new URL(`../../build/${flavor}/Release/nodegrad.node`, import.meta.url);
  return createHash('sha256').update(readFileSync(addon)).digest('hex').slice(0, 12);
}

/** What was saved of a group on a GPU, if it was measured with the addon of today. */
export function savedValues<T>(group: string, on: string): T | undefined {
  const entry = readResults(fileOf(on))[group];
  return entry?.build === buildOf() ? (entry.values as T) : undefined;
}

/** Replaces the results of one group in the file of the CPU or GPU; those of other groups stay. */
export function saveResults(group: string, values: unknown, on: string): string {
  const file = fileOf(on);
  mkdirSync(folder, { recursive: true });
  const all = readResults(file);
  all[group] = {
    date: new Date().toISOString(),
    machine: machine(),
    device: device(on).describe(),
    ...(on !== 'cpu' && { build: buildOf() }),
    values,
  };
  // Whole or not at all: a run may be cut off at any moment.
  const draft = new URL(`${file.href}.draft`);
  writeFileSync(draft, `${JSON.stringify(all, null, 2)}\n`);
  renameSync(draft, file);
  return file.pathname;
}
