/** Progress of training: a bar on a terminal, a plain line now and then in a pipe. */
import { SingleBar } from 'cli-progress';

const format = '{label} [{bar}] {percentage}% | loss {loss} | {rate} samples/s | {eta_formatted}';

export class Progress {
  private readonly bar: SingleBar | null;
  private readonly started = performance.now();
  private samples = 0;

  /**
   * @param label what runs, such as `epoch 1/2`
   * @param steps how many steps it has
   * @param done how many of them were done before
   */
  constructor(
    private readonly label: string,
    private readonly steps: number,
    public done = 0,
  ) {
    const terminal = process.stdout.isTTY === true;
    this.bar = terminal ? new SingleBar({ format, hideCursor: true, clearOnComplete: true }) : null;
    this.bar?.start(steps, done, { label, loss: '…', rate: '…' });
  }

  /** Counts a step. */
  step(samples: number): void {
    this.samples += samples;
    ++this.done;
    this.bar?.update(this.done);
  }

  /** Shows a loss; in a pipe, writes a line. */
  show(loss: number): void {
    this.bar?.update({ loss: loss.toFixed(4), rate: this.rate() });
    if (this.bar) return;
    const step = String(this.done).padStart(String(this.steps).length);
    console.log(`${this.label} step ${step}/${this.steps}: loss ${loss.toFixed(6)}`);
  }

  /** Takes the bar away and writes the mean loss of the whole. */
  finish(loss: number): void {
    this.bar?.stop();
    console.log(`${this.label}: mean loss ${loss.toFixed(6)}, ${this.rate()} samples/s`);
  }

  private rate(): number {
    return Math.round((1000 * this.samples) / (performance.now() - this.started));
  }
}
