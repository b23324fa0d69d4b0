/** What tests of training share: a small problem, a small network, printed text. */
import { Writable } from 'node:stream';
import { type Device, Generator, manualSeed, nn, type Tensor, uniform } from '../../lib/index.js';

/** Text that a run printed. */
export class Output extends Writable {
  text = '';
  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** 44 points of three classes. */
export function points(device: Device): [x: Tensor, y: Tensor] {
  const x = uniform([44, 4], -1, 1, { generator: new Generator(3), device });
  const y = x.slice(1, 0, 3).argmax(1);
  return [x, y];
}

/** A network for them, always with the same weights. */
export function net(device: Device): nn.Sequential {
  manualSeed(5);
  const place = { device };
  return new nn.Sequential(new nn.Linear(4, 8, place), new nn.ReLU(), new nn.Linear(8, 3, place));
}

/** All weights of a model, bit by bit. */
export function bits(model: nn.Module): string {
  return [...model.parameters()].map((p) => Buffer.from(p.data().buffer).toString('hex')).join();
}

export const logits = { name: 'sparseCategoricalCrossentropy', fromLogits: true } as const;
export const quiet = { verbose: 0 } as const;
