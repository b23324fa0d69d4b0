/** The progress of loops written by hand: a bar on a terminal, a plain line now and then elsewhere. */
import type { Writable } from 'node:stream';
import { SingleBar } from 'cli-progress';
import { describe, expectInteger, expectNumber, expectObject, expectOptions } from '../check.js';
import { noGrad, outsideScopes } from '../context.js';
import { add } from '../ops/binary.js';
import { to } from '../ops/copy.js';
import { scope } from '../scope.js';
import { Tensor } from '../tensor.js';

export interface ProgressBarOptions {
  /** Steps from one shown loss to the next, for which the device is waited; 50 where left out. */
  every?: number;
  /** The sum of the losses of the steps that were done before, as after a checkpoint. */
  total?: number;
  /** Where to write; the standard output where left out. */
  output?: Writable & { isTTY?: boolean };
}

const format = '{label} [{bar}] {percentage}% | loss {loss} | {rate} samples/s | {eta_formatted}';
const endless = '{label} {value} steps | loss {loss} | {rate} samples/s';

/**
 * Tells how far a loop is. Losses are added up on their device, in float64, and read only where they
 * are shown.
 * @example
 * const progress = new ProgressBar('epoch 1/3', loader);
 * for await (const [x, y] of loader) progress.step(y.size, await step(x, y));
 * progress.finish();
 */
export class ProgressBar {
  /** Steps that are done, those before a checkpoint among them. */
  done: number;
  private readonly steps: number;
  private readonly every: number;
  private readonly output: Writable & { isTTY?: boolean };
  private readonly bar: SingleBar | null;
  private readonly started = performance.now();
  private samples = 0;
  private losses = 0;
  private known: number;
  private onDevice: Tensor | null = null;

  /**
   * @param label what runs, such as `epoch 1/2`
   * @param source how many steps it has, or a loader, in the midst of an epoch or without an end, too
   */
  constructor(
    private readonly label: string,
    source: number | { readonly length: number; readonly position: number },
    options: ProgressBarOptions = {},
  ) {
    const given = expectOptions('ProgressBar', options, ['every', 'total', 'output']);
    const { length, position } =
      typeof source === 'number'
        ? { length: source, position: 0 }
        : expectObject('ProgressBar', source);
    const steps = 'the number of steps';
    this.steps = length === Infinity ? length : expectInteger('ProgressBar', steps, length, 0);
    this.done = expectInteger('ProgressBar', 'position', position, 0);
    this.every = expectInteger('ProgressBar', 'every', given.every ?? 50, 1);
    this.losses = expectNumber('ProgressBar', 'total', given.total ?? 0);
    if (this.losses !== 0 && position === 0) {
      throw new RangeError(
        `ProgressBar: total must be 0 before the first step, got ${given.total}`,
      );
    }
    this.known = given.total === undefined ? 0 : position;
    this.output = given.output ?? process.stdout;
    this.bar = this.output.isTTY ? this.open() : null;
  }

  /**
   * Counts a step.
   * @param samples how many it learned from
   * @param loss its loss: a tensor of one element, which is read later, or a number
   */
  step(samples: number, loss?: Tensor | number): void {
    this.samples += samples;
    ++this.done;
    if (loss !== undefined) this.add(loss);
    this.bar?.update(this.done);
    if (this.known > 0 && this.done % this.every === 0) this.show();
  }

  /** The sum of the losses; waits for the device. */
  get total(): number {
    return this.losses + Number(this.onDevice?.item() ?? 0);
  }

  /** The mean loss of the steps, NaN where there was none; waits for the device. */
  get mean(): number {
    return this.total / this.known;
  }

  /** Takes the bar away and writes the mean loss of all steps. */
  finish(): void {
    this.bar?.stop();
    this.losses = this.total;
    this.onDevice?.dispose();
    this.onDevice = null;
    const loss = this.known > 0 ? ` mean loss ${this.mean.toFixed(6)},` : '';
    this.write(`${this.label}:${loss} ${this.rate()} samples/s`);
  }

  private open(): SingleBar {
    const stream = this.output as NodeJS.WriteStream;
    const { steps } = this;
    const shown = steps === Infinity ? endless : format;
    const bar = new SingleBar({ format: shown, stream, hideCursor: true, clearOnComplete: true });
    bar.start(steps === Infinity ? 0 : steps, this.done, {
      label: this.label,
      loss: '…',
      rate: '…',
    });
    return bar;
  }

  private add(loss: Tensor | number): void {
    ++this.known;
    if (typeof loss === 'number') {
      this.losses += loss;
      return;
    }
    if (!(loss instanceof Tensor) || loss.size !== 1) {
      throw new TypeError(
        `ProgressBar: the loss must be a number or a tensor of one element, got ${describe(loss)}`,
      );
    }
    const before = this.onDevice;
    const sum = (): Tensor => add(to(loss, 'float64'), before ?? this.losses);
    this.onDevice = outsideScopes(() => noGrad(() => scope(sum)));
    if (!before) this.losses = 0;
    before?.dispose();
  }

  private show(): void {
    const loss = this.mean;
    if (this.bar) {
      this.bar.update({ loss: loss.toFixed(4), rate: this.rate() });
      return;
    }
    const { steps } = this;
    const step =
      steps === Infinity
        ? this.done
        : `${String(this.done).padStart(String(steps).length)}/${steps}`;
    this.write(`${this.label} step ${step}: loss ${loss.toFixed(6)}`);
  }

  private write(line: string): void {
    this.output.write(`${line}\n`);
  }

  private rate(): number {
    return Math.round((1000 * this.samples) / (performance.now() - this.started));
  }
}
