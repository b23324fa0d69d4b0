/** Pooling layers. */
import { expectOptions } from '../check.js';
import {
  type AdaptivePoolOptions,
  type AvgPool1dOptions,
  type AvgPool2dOptions,
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  avgPool1d,
  avgPool2d,
  avgPoolNames,
  expectOutputSize,
  expectSingleOutput,
  type MaxPool1dOptions,
  type MaxPool2dOptions,
  maxPool1d,
  maxPool2d,
  maxPoolNames,
  type OutputSize,
} from '../ops/pool.js';
import { expectPair, expectSingle, type Pair } from '../ops/spatial.js';
import type { Tensor } from '../tensor.js';
import { Module } from './module.js';

/** The largest element of each window of [N, C, H, W]; the stride is the kernel's size by default. */
export class MaxPool2d extends Module {
  constructor(
    readonly kernelSize: Pair,
    readonly options: MaxPool2dOptions = {},
  ) {
    super();
    expectPair('MaxPool2d', 'kernelSize', kernelSize, 1);
    expectOptions('MaxPool2d', options, maxPoolNames);
  }
  forward(x: Tensor): Tensor {
    return maxPool2d(x, this.kernelSize, this.options);
  }

  /** Whether its windows are 2 by 2, side by side, and whole. */
  takesPairs(): boolean {
    const { kernelSize, options } = this;
    const { stride = 2, padding = 0, dilation = 1, ceilMode = false } = options;
    const is = (name: string, pair: Pair, n: number): boolean =>
      expectPair('maxPool2d', name, pair, 0).every((x) => x === n);
    if (!is('kernelSize', kernelSize, 2) || !is('stride', stride, 2)) return false;
    return is('padding', padding, 0) && is('dilation', dilation, 1) && ceilMode === false;
  }

  /** The layer followed by a ReLU, as one kernel. */
  forwardRelu(x: Tensor): Tensor {
    return maxPool2d(x, this.kernelSize, { ...this.options, relu: true });
  }
}

/** The largest element of each window of [N, C, L]; the stride is the kernel's size by default. */
export class MaxPool1d extends Module {
  constructor(
    readonly kernelSize: number,
    readonly options: MaxPool1dOptions = {},
  ) {
    super();
    expectSingle('MaxPool1d', 'kernelSize', kernelSize, 1);
    expectOptions('MaxPool1d', options, maxPoolNames);
  }
  forward(x: Tensor): Tensor {
    return maxPool1d(x, this.kernelSize, this.options);
  }

  /** The layer followed by a ReLU, as one kernel. */
  forwardRelu(x: Tensor): Tensor {
    return maxPool1d(x, this.kernelSize, { ...this.options, relu: true });
  }
}

/** The average of each window of [N, C, H, W]; the stride is the kernel's size by default. */
export class AvgPool2d extends Module {
  constructor(
    readonly kernelSize: Pair,
    readonly options: AvgPool2dOptions = {},
  ) {
    super();
    expectPair('AvgPool2d', 'kernelSize', kernelSize, 1);
    expectOptions('AvgPool2d', options, avgPoolNames);
  }
  forward(x: Tensor): Tensor {
    return avgPool2d(x, this.kernelSize, this.options);
  }
}

/** The average of each window of [N, C, L]; the stride is the kernel's size by default. */
export class AvgPool1d extends Module {
  constructor(
    readonly kernelSize: number,
    readonly options: AvgPool1dOptions = {},
  ) {
    super();
    expectSingle('AvgPool1d', 'kernelSize', kernelSize, 1);
    expectOptions('AvgPool1d', options, avgPoolNames);
  }
  forward(x: Tensor): Tensor {
    return avgPool1d(x, this.kernelSize, this.options);
  }
}

/** Averages of [N, C, L] over as many windows as asked for; null keeps the size. */
export class AdaptiveAvgPool1d extends Module {
  constructor(readonly outputSize: number | null) {
    super();
    expectSingleOutput('AdaptiveAvgPool1d', outputSize);
  }
  forward(x: Tensor): Tensor {
    return adaptiveAvgPool1d(x, this.outputSize);
  }
}

/** The largest elements of [N, C, L] over as many windows as asked for; null keeps the size. */
export class AdaptiveMaxPool1d extends Module {
  constructor(readonly outputSize: number | null) {
    super();
    expectSingleOutput('AdaptiveMaxPool1d', outputSize);
  }
  forward(x: Tensor): Tensor {
    return adaptiveMaxPool1d(x, this.outputSize);
  }
}

/** Averages of [N, C, H, W] over as many windows as asked for; null keeps an axis' size. */
export class AdaptiveAvgPool2d extends Module {
  constructor(
    readonly outputSize: OutputSize,
    readonly options: AdaptivePoolOptions = {},
  ) {
    super();
    expectOutputSize('AdaptiveAvgPool2d', outputSize);
    expectOptions('AdaptiveAvgPool2d', options, ['layout']);
  }
  forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, this.outputSize, this.options);
  }
}

/** The largest elements of [N, C, H, W] over as many windows as asked for; null keeps a size. */
export class AdaptiveMaxPool2d extends Module {
  constructor(
    readonly outputSize: OutputSize,
    readonly options: AdaptivePoolOptions = {},
  ) {
    super();
    expectOutputSize('AdaptiveMaxPool2d', outputSize);
    expectOptions('AdaptiveMaxPool2d', options, ['layout']);
  }
  forward(x: Tensor): Tensor {
    return adaptiveMaxPool2d(x, this.outputSize, this.options);
  }
}
