/**
 * The MLP step by TensorFlow.js on its wasm backend. The packages are no dependency of ours: npm
 * puts them into build/bench when the benchmark first runs.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { buildFolder } from '../support/build.js';
import { batch, learningRate, momentum, pixels, sizes } from './mlp.js';
import { serve } from './rival.js';
import { classes, weights } from './values.js';

const release = '4.22.0';
const packages = ['@tensorflow/tfjs', '@tensorflow/tfjs-backend-wasm'];
const folder = path.join(buildFolder, 'tfjs');

/** What is used of the library. */
interface Value {
  dispose(): void;
  data(): Promise<Float32Array>;
}
interface TensorFlow {
  setBackend(name: string): Promise<boolean>;
  env(): { get(flag: string): unknown };
  tensor(values: Float32Array | number[], shape?: readonly number[], dtype?: string): Value;
  variable(initial: Value): Value;
  matMul(a: Value, b: Value, transposeA: boolean, transposeB: boolean): Value;
  add(a: Value, b: Value): Value;
  relu(x: Value): Value;
  zeros(shape: readonly number[]): Value;
  oneHot(indices: Value, depth: number): Value;
  losses: { softmaxCrossEntropy(labels: Value, logits: Value): Value };
  train: {
    momentum(
      learningRate: number,
      momentum: number,
    ): { minimize(fn: () => Value, returnCost: true): Value };
  };
}

function install(): void {
  if (packages.every((name) => existsSync(path.join(folder, 'node_modules', name)))) return;
  const wanted = packages.map((name) => `${name}@${release}`);
  const { status, stderr } = spawnSync(
    'npm',
    ['install', '--no-save', '--no-package-lock', '--prefix', folder, ...wanted],
    { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] },
  );
  if (status === 0) return;
  const missing = `TensorFlow.js: npm could not fetch it (${stderr.trim().split('\n').at(-1)})`;
  console.log(JSON.stringify({ missing }));
  process.exit(0);
}

install();
const require = createRequire(path.join(folder, 'package.json'));
console.warn = () => {}; // it advises a rival of its own on every start
const tf = require(packages[0] as string) as TensorFlow;
const { version_wasm: version } = require(packages[1] as string) as { version_wasm: string };
await tf.setBackend('wasm');

const layers = sizes.slice(1).map((outputs, layer) => {
  const inputs = sizes[layer] as number;
  const values = weights(layer, outputs * inputs, 1 / Math.sqrt(inputs));
  return {
    weight: tf.variable(tf.tensor(values, [outputs, inputs])),
    bias: tf.variable(tf.zeros([outputs])),
  };
});
const x = tf.tensor(pixels(), [batch, sizes[0]]);
const labels = tf.oneHot(tf.tensor(classes(batch, 10), [batch], 'int32'), 10);
const optimizer = tf.train.momentum(learningRate, momentum);

function loss(): Value {
  let y = x;
  for (const [at, { weight, bias }] of layers.entries()) {
    y = tf.add(tf.matMul(y, weight, false, true), bias);
    if (at + 1 < layers.length) y = tf.relu(y);
  }
  return tf.losses.softmaxCrossEntropy(labels, y);
}

async function run(count: number): Promise<number> {
  for (let i = 0; i + 1 < count; ++i) optimizer.minimize(loss, true).dispose();
  const last = optimizer.minimize(loss, true);
  const [value] = await last.data();
  last.dispose();
  return value ?? Number.NaN;
}

const simd = tf.env().get('WASM_HAS_SIMD_SUPPORT') ? 'SIMD' : 'no SIMD';
const threaded = tf.env().get('WASM_HAS_MULTITHREAD_SUPPORT') ? 'threads' : 'no threads';
await serve(
  {
    version: `TensorFlow.js ${version}`,
    details: `wasm (XNNPACK), ${simd}, ${threaded}, Node.js ${process.version}`,
  },
  run,
);
