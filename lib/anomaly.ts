/**
 * Anomaly detection: stops at the first op whose result, or whose gradient, is NaN or infinite.
 * Every op is checked by reading a flag from the device, so it is slow; captured steps run eagerly
 * meanwhile. Off, it costs one comparison per op.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { around } from './around.js';
import { type Gradient, type Node, setWatcher } from './autograd.js';
import { setBackwardWatcher, walking } from './backward.js';
import { expectBoolean, expectFunction, expectOptions } from './check.js';
import { isFloating } from './dtype.js';
import { native } from './native.js';
import { Tensor, take } from './tensor.js';

export interface AnomalyOptions {
  /** Whether infinities count, too; true where left out. */
  infinite?: boolean;
}

type Wild = 'NaN' | 'Inf' | null;

let everywhere = false;
// Blocks of detectAnomaly that run now, and whether each minds infinities.
const blocks: boolean[] = [];
const calls = new WeakMap<Node, string>();
const known = new WeakMap<Tensor, Wild>();

function anyOf(x: Tensor, name: 'isnan' | 'isfinite'): boolean {
  native[name](x.h);
  const flags = take(0, x.device);
  native[name === 'isnan' ? 'max' : 'min'](flags.h, 2 ** flags.rank - 1, false);
  const one = take(0, x.device);
  const found = Number(one.item()) === (name === 'isnan' ? 1 : 0);
  flags.dispose();
  one.dispose();
  return found;
}

function wildness(x: Tensor): Wild {
  if (!isFloating(x.dtype) || x.size === 0 || x.released || !anyOf(x, 'isfinite')) return null;
  return anyOf(x, 'isnan') ? 'NaN' : 'Inf';
}

const minded = (wild: Wild): boolean =>
  wild === 'NaN' || (wild === 'Inf' && (everywhere || blocks.includes(true)));

/** Where the user's code called an op: the stack without this library's own frames. */
function callStack(): string {
  const own = path.dirname(fileURLToPath(import.meta.url)) + path.sep;
  const lines = (new Error().stack ?? '').split('\n').slice(1);
  return lines.filter((line) => !line.includes(own)).join('\n');
}

/** Throws with the stack of the op's call in forward, which the one of backward() would hide. */
function fail(sentence: string, stack: string): never {
  const error = new Error(`detectAnomaly: ${sentence}`);
  error.stack = `Error: ${error.message}\n${stack}`;
  throw error;
}

function watchForward(name: string, output: Tensor, inputs: readonly Tensor[]): void {
  if (walking()) return;
  const stack = callStack();
  if (output.node) calls.set(output.node, stack);
  const wild = wildness(output);
  known.set(output, wild);
  if (!minded(wild) || inputs.length === 0) return;
  const given = inputs.map((input) => known.get(input) ?? wildness(input));
  const nan = given.indexOf('NaN');
  if (nan >= 0) fail(`${name} was given NaN as input ${nan}, shape [${inputs[nan]?.shape}]`, stack);
  // Infinities may be meant, as in masks: only the op that makes one of finite numbers is at fault.
  if (wild === 'Inf' && given.includes('Inf')) return;
  fail(`${name} gave ${wild}, shape [${output.shape}]`, stack);
}

function watchBackward(node: Node, gradients: readonly Gradient[]): readonly Gradient[] {
  return gradients.map((gradient, i) => {
    if (!gradient || !node.parents[i]) return gradient;
    const found = gradient instanceof Tensor ? gradient : gradient.compute();
    const wild = wildness(found);
    if (minded(wild)) {
      fail(
        `the gradient of input ${i} of ${node.name} is ${wild}, shape [${found.shape}]`,
        calls.get(node) ?? '    before detection was on',
      );
    }
    return found;
  });
}

function update(): void {
  const on = everywhere || blocks.length > 0;
  setWatcher(on ? watchForward : null);
  setBackwardWatcher(on ? watchBackward : null);
}

/** Switches the detection of {@link detectAnomaly} on or off for all code that follows. */
export function setAnomalyDetection(on: boolean): void {
  everywhere = expectBoolean('setAnomalyDetection', 'on', on);
  update();
}

/**
 * Runs `fn`, which may be asynchronous, and throws at the first op that makes NaN or infinity of
 * finite numbers, forward or backward: the error names the op and its shape, and its stack is that
 * of the op's call, also where the gradient is at fault. An op that is given NaN from outside is
 * named, too.
 * @example detectAnomaly(() => criterion.forward(model.forward(x), y).backward());
 */
export function detectAnomaly<T>(fn: () => T, options: AnomalyOptions = {}): T {
  expectFunction('detectAnomaly', 'its first argument', fn);
  const { infinite = true } = expectOptions('detectAnomaly', options, ['infinite']);
  blocks.push(expectBoolean('detectAnomaly', 'infinite', infinite));
  update();
  return around(fn, () => {
    blocks.splice(blocks.lastIndexOf(infinite), 1);
    update();
  });
}
