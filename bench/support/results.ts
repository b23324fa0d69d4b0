/** The machine as results name it, and the file that keeps them. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
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

/** Replaces the results of one group in the file of the CPU or GPU; those of other groups stay. */
export function saveResults(group: string, values: unknown, on: string): string {
  const onCpu = on === 'cpu';
  const name = (onCpu ? cpuModel() : (device(on).describe().split(',')[0] as string))
    .replace(/\([RT]M?\)|\bCPU\b|@.*$|\bProcessor\b/gi, ' ')
    .trim()
    .replace(/[^A-Za-z0-9]+/g, '-')
    .toLowerCase();
  const file = new URL(`${onCpu ? 'cpu-' : ''}${name}.json`, folder);
  mkdirSync(folder, { recursive: true });
  let all: Record<string, unknown> = {};
  try {
    all = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  all[group] = {
    date: new Date().toISOString(),
    machine: machine(),
    device: device(on).describe(),
    values,
  };
  writeFileSync(file, `${JSON.stringify(all, null, 2)}\n`);
  return file.pathname;
}
