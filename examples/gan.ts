/**
 * Digits from noise: a generator and a discriminator trained in turn on MNIST, judged by a classifier.
 *
 * The discriminator scores how real an image is as a 0, a 1 …, of which the digit asked for counts.
 * After each epoch a picture is written, a column for each digit, and a network that reads real digits
 * tells how far the generated ones are from them (Fréchet distance of its features).
 */
import {
  capture,
  cat,
  DataLoader,
  gather,
  grad,
  loadCheckpoint,
  manualSeed,
  nn,
  noGrad,
  normalize,
  oneHot,
  optim,
  ProgressBar,
  randn,
  saveCheckpoint,
  saveImages,
  type Tensor,
  TensorDataset,
} from 'nodegrad';
import { digitsFlag, openDigits } from './support/digits.js';
import { count, parseFlags, positive, text } from './support/flags.js';
import { Judge } from './support/judge.js';
import { leaveIfStopped, stopSignal } from './support/stop.js';

const flags = parseFlags('gan', {
  device: text('cpu', 'cpu, cuda, cuda:1 …'),
  epochs: count(3, 'times through the training images'),
  images: positive(16_000, 'images to learn from, of 60,000'),
  batch: positive(64, 'images per step'),
  noise: positive(64, 'random numbers that a digit is made of'),
  width: positive(32, 'channels of the networks'),
  judged: positive(2000, 'digits to be judged after each epoch, beside as many real ones'),
  seed: count(0, 'seed of the initial weights, of shuffling and of noise'),
  data: digitsFlag,
  out: text('runs/gan', 'folder for the pictures'),
  classifier: text(undefined, 'checkpoint of the judge: read if it is there, else written'),
  save: text(undefined, 'write a checkpoint at the end and on Ctrl-C'),
  resume: text(undefined, 'go on from a checkpoint'),
});
const { device, width, batch: batchSize, save: file, out } = flags;
manualSeed(flags.seed);
const { train, test } = await openDigits(flags.data);
const stop = stopSignal();
const pixels = (x: Tensor) => normalize(x.unsqueeze(1), 0.5, 0.5); // in [-1, 1]
const digits = ({ images, labels }: typeof train, n: number) =>
  new TensorDataset(pixels(images.slice(0, 0, n)), labels.slice(0, 0, n));
const [real, unseen] = [digits(train, flags.images), digits(test, flags.judged)];
console.log(`${real.length} digits to learn from; first, the judge learns to read them`);
const judge = new Judge(real, unseen, device);
await judge.learn(stop, flags.classifier);
leaveIfStopped(stop, flags.resume);
const halved = { stride: 2, padding: 1, device }; // of a convolution; doubled, of a transposed one
const normed = (channels: number) => [new nn.BatchNorm2d(channels, { device }), new nn.ReLU()];
const generator = new nn.Sequential(
  new nn.Linear(flags.noise + 10, 2 * width * 7 * 7, { device }),
  new nn.Unflatten(1, [2 * width, 7, 7]),
  ...normed(2 * width),
  new nn.ConvTranspose2d(2 * width, width, 4, halved),
  ...normed(width),
  new nn.ConvTranspose2d(width, 1, 4, halved),
  new nn.Tanh(),
);
const discriminator = new nn.Sequential(
  new nn.Conv2d(1, width, 4, halved),
  new nn.LeakyReLU(0.2),
  new nn.Conv2d(width, 2 * width, 4, halved),
  new nn.LeakyReLU(0.2),
  new nn.Flatten(),
  new nn.Linear(2 * width * 7 * 7, 10, { device }),
);
const generate = (noise: Tensor, digit: Tensor) =>
  generator.forward(cat([noise, oneHot(digit, 10).to('float32')], 1));
const score = (x: Tensor, digit: Tensor) => gather(discriminator.forward(x), 1, digit.unsqueeze(1));
const options = { lr: 0.0005, betas: [0.5, 0.999] } as const;
const forger = new optim.Adam(generator.parameters(), options);
const detective = new optim.Adam(discriminator.parameters(), options);
const average = new optim.EMA(generator, { decay: 0.99 }); // what is judged and painted

// The losses are -ln of the probability of being right: softplus(-score) where the answer is "real".
const step = capture((x: Tensor, digit: Tensor) => {
  const fake = generate(randn([digit.size, flags.noise], { device }), digit);
  const found = score(x, digit).neg().softplus().mean();
  const missed = score(fake.detach(), digit).softplus().mean();
  detective.apply(grad(found.add(missed), [...discriminator.parameters()]));
  const caught = score(fake, digit).neg().softplus().mean();
  forger.apply(grad(caught, [...generator.parameters()]));
  average.update();
  return caught;
});
const noise = randn([judge.asked.size, flags.noise], { device });
const loader = new DataLoader(real, { batchSize, shuffle: true, device });
const more = { discriminator, detective, average };
const run = { model: generator, optimizer: forger, loader, more };
if (flags.resume) await loadCheckpoint(flags.resume, run);
while (loader.epoch < flags.epochs && !stop.aborted) {
  const name = `epoch-${loader.epoch + 1}`;
  const progress = new ProgressBar(name, loader); // with the generator's losses
  for await (const [x, digit] of loader) {
    progress.step(digit.size, await step(x, digit));
    if (stop.aborted) break;
  }
  progress.finish();
  if (stop.aborted) break;
  const made = noGrad(() => average.with(() => generate(noise, judge.asked)));
  judge.look(name, made);
  await saveImages(`${out}/${name}.png`, made.slice(0, 0, 100), { columns: 10, range: [-1, 1] });
}
if (file) await saveCheckpoint(file, run);
leaveIfStopped(stop, file);
