/** Writes the numbers of a run to files: CSV, pictures of curves, TensorBoard. */
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { describe, expectBoolean, expectOptions } from '../../check.js';
import { writing } from '../../io/writing.js';
import type { Callback, Run } from '../callback.js';
import { EventWriter } from '../events.js';
import type { Logs } from '../history.js';
import { linePlot } from '../plot.js';

function expectPath(op: string, file: unknown): string {
  if (typeof file === 'string' && file !== '') return file;
  throw new TypeError(`${op}: the file must be a path, got ${describe(file)}`);
}

const ended = (line: string): string => `${line}\n`;

/** A line per epoch in a file of comma-separated values, its names in the first line. */
export class CSVLogger implements Callback {
  readonly leavesLogs = true;
  private readonly file: string;
  private readonly append: boolean;
  private names: string[] | null = null;

  /**
   * @param options.append whether to add to what the file holds; false. A run that is resumed keeps
   * the lines of the epochs that it goes on from.
   */
  constructor(file: string, options: { append?: boolean } = {}) {
    this.file = expectPath('CSVLogger', file);
    const { append = false } = expectOptions('CSVLogger', options, ['append']);
    this.append = expectBoolean('CSVLogger', 'append', append);
  }

  async onTrainBegin(run: Run): Promise<void> {
    const kept = run.resumed || this.append ? await this.lines() : [];
    const done = run.history.epoch.length;
    const rest = this.append
      ? kept
      : kept.filter((line, i) => i === 0 || Number(line.split(',')[0]) < done);
    this.names = rest[0]?.split(',').slice(1) ?? null;
    if (!this.append) await this.write(() => writeFile(this.file, rest.map(ended).join('')));
  }

  async onEpochEnd(epoch: number, logs: Logs): Promise<void> {
    const lines: string[] = [];
    if (!this.names) {
      this.names = Object.keys(logs);
      lines.push(['epoch', ...this.names].join());
    }
    lines.push([epoch, ...this.names.map((name) => logs[name] ?? '')].join());
    await this.write(() => appendFile(this.file, lines.map(ended).join('')));
  }

  /** What the file holds; nothing where there is none. */
  private async lines(): Promise<string[]> {
    const text = await readFile(this.file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '';
      throw error;
    });
    return text.split(/\r?\n/).filter((line) => line !== '');
  }

  private write(work: () => Promise<void>): Promise<void> {
    return writing('CSVLogger', this.file, work);
  }
}

/** Draws the numbers of the run so far as curves over epochs, in an SVG file, after each epoch. */
export class LossCurves implements Callback {
  readonly leavesLogs = true;
  private readonly file: string;
  private readonly names: readonly string[] | null;

  /** @param options.names which numbers; losses where left out */
  constructor(file: string, options: { names?: readonly string[] } = {}) {
    this.file = expectPath('LossCurves', file);
    this.names = expectOptions('LossCurves', options, ['names']).names ?? null;
  }

  async onEpochEnd(_epoch: number, _logs: Logs, run: Run): Promise<void> {
    const { epoch, history } = run.history;
    const names = this.names ?? Object.keys(history).filter((name) => /loss/i.test(name));
    const series = names.map((name) => ({
      ...{ name, x: epoch.map((at) => at + 1), y: history[name] ?? [] },
    }));
    const picture = linePlot({ series, xLabel: 'epoch', yLabel: names.join(', ') });
    await writing('LossCurves', this.file, () => writeFile(this.file, picture));
  }
}

let writers = 0;

/**
 * Writes the numbers of each epoch, and the learning rate that it began with, where TensorBoard reads
 * them: `folder/train` and `folder/validation`, so that both draw in one chart.
 * @example new TensorBoard('logs/run1')
 */
export class TensorBoard implements Callback {
  readonly leavesLogs = true;
  private readonly folder: string;
  private readonly open = new Map<string, EventWriter>();
  /** The rate that the epoch began with. */
  private rate: number | null = null;

  constructor(folder: string) {
    this.folder = expectPath('TensorBoard', folder);
  }

  private async writer(part: string): Promise<EventWriter> {
    const found = this.open.get(part);
    if (found) return found;
    const now = Math.floor(Date.now() / 1000);
    const name = `events.out.tfevents.${now}.${hostname()}.${process.pid}.${writers++}`;
    const made = await EventWriter.create(path.join(this.folder, part, name));
    this.open.set(part, made);
    return made;
  }

  onTrainBegin(): void {
    this.rate = null;
  }

  onBatchBegin(_batch: number, run: Run): void {
    this.rate ??= run.optimizer.lr;
  }

  async onEpochEnd(epoch: number, logs: Logs, run: Run): Promise<void> {
    const [train, validation]: [Logs, Logs] = [{}, {}];
    for (const [name, value] of Object.entries(logs)) {
      const own = /^val[A-Z]/.test(name) ? `${name.charAt(3).toLowerCase()}${name.slice(4)}` : null;
      if (own === null) train[`epoch/${name}`] = value;
      else validation[`epoch/${own}`] = value;
    }
    train['epoch/learningRate'] = this.rate ?? run.optimizer.lr;
    this.rate = null;
    await (await this.writer('train')).scalars(epoch, train);
    if (Object.keys(validation).length > 0) {
      await (await this.writer('validation')).scalars(epoch, validation);
    }
  }

  async onTrainEnd(): Promise<void> {
    const writers = [...this.open.values()];
    this.open.clear();
    await Promise.all(writers.map((writer) => writer.close()));
  }
}
