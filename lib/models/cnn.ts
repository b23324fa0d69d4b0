/** The convolutional classifier: blocks of convolution, ReLU and pooling, then a small MLP. */
import { describe, expectInteger, expectOptions } from '../check.js';
import { Flatten, ReLU } from '../nn/activation.js';
import { Conv2d } from '../nn/conv.js';
import { Linear, type LinearOptions } from '../nn/linear.js';
import { MaxPool2d } from '../nn/pool.js';
import { type Layer, Sequential } from '../nn/sequential.js';

export interface CnnOptions extends Pick<LinearOptions, 'dtype' | 'device'> {
  /** Channels, height and width of the input; [3, 150, 150] where left out. */
  input?: readonly [number, number, number];
  /** Channels of each block; [32, 64, 128] where left out. */
  channels?: readonly number[];
  /** Features of the hidden layer; 512 where left out. */
  hidden?: number;
  /** Outputs; 1 where left out, the logit that tells two classes apart. */
  outputs?: number;
}

/**
 * Per block a 3 x 3 convolution without padding, ReLU and the maximum over 2 x 2; then a hidden
 * layer with ReLU and the outputs: [N, C, H, W] to [N, outputs]. The defaults are the network of
 * the cats and dogs exercise (Chollet, "Deep Learning with Python", chapter 5) with three blocks.
 * @example const model = models.cnn({ input: [1, 28, 28], channels: [16, 32], outputs: 10 });
 */
export function cnn(options: CnnOptions = {}): Sequential {
  const {
    input = [3, 150, 150],
    channels = [32, 64, 128],
    hidden = 512,
    outputs = 1,
    ...place
  } = expectOptions('cnn', options, ['input', 'channels', 'hidden', 'outputs', 'dtype', 'device']);
  if (!Array.isArray(input) || input.length !== 3) {
    throw new RangeError(`cnn: input must be channels, height and width, got ${describe(input)}`);
  }
  if (!Array.isArray(channels)) {
    throw new TypeError(`cnn: channels must be an array of numbers, got ${describe(channels)}`);
  }
  let [depth, height, width] = input.map((size) => expectInteger('cnn', 'input', size, 1)) as [
    number,
    number,
    number,
  ];
  const layers: Layer[] = [];
  for (const count of channels) {
    expectInteger('cnn', 'channels', count, 1);
    if (height < 4 || width < 4) {
      throw new RangeError(
        `cnn: the input must be large enough for ${channels.length} blocks, got ${describe(input)}`,
      );
    }
    layers.push(new Conv2d(depth, count, 3, place), new ReLU(), new MaxPool2d(2));
    depth = count;
    height = Math.floor((height - 2) / 2);
    width = Math.floor((width - 2) / 2);
  }
  return new Sequential(
    ...layers,
    new Flatten(),
    new Linear(depth * height * width, hidden, place),
    new ReLU(),
    new Linear(hidden, outputs, place),
  );
}
