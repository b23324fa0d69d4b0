/**
 * Random tensors, by Philox4x32-10: the same seed gives the same bits on every device. A generator's
 * state (seed and offset) lives on the device, so that captured steps draw anew at each replay.
 */

import {
  describe,
  expectInteger,
  expectNumber,
  expectObject,
  expectOptions,
  expectRange,
  expectShape,
  expectTensor,
  expectTensorMap,
} from '../check.js';
import {
  cpu,
  type Device,
  type DeviceLike,
  type DeviceType,
  device,
  deviceCount,
} from '../device.js';
import { dtypeCode } from '../dtype.js';
import { native } from '../native.js';
import { type Shape, Tensor, take } from '../tensor.js';
import { add, mul } from './binary.js';
import { cast } from './copy.js';
import { notDifferentiable, type OpRow, type OpRows } from './define.js';
import { deviceIn, finish, type TensorOptions, tensorNames } from './fill.js';
import { bernoulliEach } from './sample.js';
import { floor } from './unary.js';

declare module '../native.js' {
  interface NativeOps {
    uniform(
      device: number,
      shape: Numbers,
      dtype: number,
      state: Handle,
      low: number,
      high: number,
    ): void;
    normal(
      device: number,
      shape: Numbers,
      dtype: number,
      state: Handle,
      mean: number,
      std: number,
    ): void;
    bernoulli(
      device: number,
      shape: Numbers,
      dtype: number,
      state: Handle,
      probability: number,
    ): void;
  }
}

function row(summary: string): OpRow {
  return {
    family: 'random',
    summary,
    dtypes: 'floating',
    gradient: notDifferentiable('it has no input'),
  };
}

export const randomOps: OpRows<'uniform' | 'normal' | 'bernoulli'> = {
  uniform: row('uniform in [low, high)'),
  normal: row('normal of a mean and a standard deviation'),
  bernoulli: row('1 with a probability, else 0'),
};

let drawn: ((state: Tensor) => void) | null = null;

/** @internal Runs synchronous code; `visit` sees the state of each generator before it is drawn from. */
export function onDraw<T>(visit: (state: Tensor) => void, fn: () => T): T {
  const before = drawn;
  drawn = (state) => {
    before?.(state);
    visit(state);
  };
  try {
    return fn();
  } finally {
    drawn = before;
  }
}

/** A stream of random numbers, with a state on each device that draws from it. */
export class Generator {
  private states = new Map<Device, Tensor>();

  /** @param seed a safe integer of 0 or more, or a bigint below 2⁶³ */
  constructor(private seed: number | bigint = 0) {
    this.manualSeed(seed);
  }

  /** The seed that was given last. */
  get initialSeed(): bigint {
    return BigInt(this.seed);
  }

  /** Starts again from a seed, on every device. */
  manualSeed(seed: number | bigint): this {
    const whole =
      typeof seed === 'bigint' ? seed : BigInt(expectInteger('manualSeed', 'seed', seed, 0));
    if (whole < 0n || whole >= 2n ** 63n) {
      throw new RangeError(`manualSeed: the seed must be in [0,2⁶³), got ${whole}`);
    }
    this.seed = whole;
    for (const state of this.states.values()) {
      native.writeBytes(state.h, BigInt64Array.of(whole, 0n));
    }
    return this;
  }

  /** @internal The state on a device: int64 [seed, offset]. */
  state(like: DeviceLike): Tensor {
    const on = device(like);
    let state = this.states.get(on);
    if (!state) {
      native.fromBytes(
        on.code,
        [2],
        dtypeCode('random', 'int64'),
        BigInt64Array.of(BigInt(this.seed), 0n),
      );
      state = take(0, on).persist();
      this.states.set(on, state);
    }
    drawn?.(state);
    return state;
  }

  /** Seed and offset, to go on from later with {@link setState}. */
  getState(on: DeviceLike = cpu): [bigint, bigint] {
    const [seed, offset] = this.state(on).data() as BigInt64Array;
    return [seed as bigint, offset as bigint];
  }

  /** Goes on from what {@link getState} gave. @throws where it is no two bigints of int64 */
  setState(state: readonly [bigint, bigint], on: DeviceLike = cpu): void {
    const words: unknown = state;
    if (!Array.isArray(words) || words.length !== 2 || !Array.from(words).every(isInt64)) {
      throw new TypeError(
        `setState: the state must be two bigints of int64, got ${describe(state)}`,
      );
    }
    native.writeBytes(this.state(on).h, BigInt64Array.from(state));
  }

  /** The states by device name, int64 [seed, offset] each: the tensors themselves, not copies. */
  stateDict(): Map<string, Tensor> {
    this.state(cpu);
    return new Map([...this.states].map(([on, state]) => [on.name, state]));
  }

  /** Takes over what {@link stateDict} gave, for the devices that this machine has. */
  loadStateDict(saved: ReadonlyMap<string, Tensor>): void {
    expectTensorMap('Generator', saved);
    const found = [...saved].map(([name, state]) => {
      const values = state.data();
      if (!(values instanceof BigInt64Array) || values.length !== 2) {
        throw new RangeError(
          `Generator: the state of ${name} must be int64[2], got ${describe(state)}`,
        );
      }
      return [name, [values[0], values[1]] as [bigint, bigint]] as const;
    });
    const first = found[0];
    if (!first) throw new RangeError('Generator: the saved state is empty');
    this.manualSeed(first[1][0]);
    for (const [name, state] of found) {
      const [type, index = '0'] = name.split(':') as [DeviceType, string?];
      if (Number(index) < deviceCount(type)) this.setState(state, device(name));
    }
  }
}

function isInt64(value: unknown): boolean {
  return typeof value === 'bigint' && BigInt.asIntN(64, value) === value;
}

/** What random functions draw from where no generator is given. */
export const defaultGenerator = new Generator(0);

/** Seeds the default generator on every device; also what shuffles and initialises by default. */
export function manualSeed(seed: number | bigint): void {
  defaultGenerator.manualSeed(seed);
}

export interface RandomOptions extends TensorOptions {
  generator?: Generator;
}

type Draw = (device: number, shape: Shape, dtype: number, state: number) => void;

/** @internal The generator of the options. */
export function generatorIn(op: string, options: { generator?: Generator }): Generator {
  const { generator = defaultGenerator } = expectObject(op, options);
  if (generator instanceof Generator) return generator;
  throw new TypeError(`${op}: generator must be a Generator, got ${describe(generator)}`);
}

/** @internal The names of {@link RandomOptions}. */
export const randomNames = ['generator', ...tensorNames] as const;

function draw(op: string, shape: Shape, options: RandomOptions, call: Draw): Tensor {
  expectOptions(op, options, randomNames);
  const generator = generatorIn(op, options);
  const on = deviceIn(options);
  const state = generator.state(on);
  call(on.code, expectShape(op, shape), dtypeCode(op, options.dtype ?? 'float32'), state.h);
  return finish(op, take(0, on), options);
}

/** Uniform in [low, high). */
export function uniform(shape: Shape, low = 0, high = 1, options: RandomOptions = {}): Tensor {
  const from = expectNumber('uniform', 'low', low);
  const until = expectRange('uniform', 'high', high, from);
  return draw('uniform', shape, options, (device, sizes, dtype, state) =>
    native.uniform(device, sizes, dtype, state, from, until),
  );
}

/** Uniform in [0, 1). */
export function rand(shape: Shape, options: RandomOptions = {}): Tensor {
  return uniform(shape, 0, 1, options);
}

/**
 * Normally distributed, by the Box-Muller transform in float64. Devices agree to the last digit or
 * two; initialisers draw on the CPU and copy, so that a seed makes the same network everywhere.
 */
export function normal(shape: Shape, mean = 0, std = 1, options: RandomOptions = {}): Tensor {
  const centre = expectNumber('normal', 'mean', mean);
  const spread = expectRange('normal', 'std', std, 0);
  return draw('normal', shape, options, (device, sizes, dtype, state) =>
    native.normal(device, sizes, dtype, state, centre, spread),
  );
}

/** Normal with mean 0 and standard deviation 1. */
export function randn(shape: Shape, options: RandomOptions = {}): Tensor {
  return normal(shape, 0, 1, options);
}

function like(op: string, x: Tensor, options: RandomOptions): RandomOptions {
  const { dtype, device: on } = expectTensor(op, x);
  return { dtype, device: on, ...expectOptions(op, options, randomNames) };
}

/** {@link rand} in the shape, dtype and device of x. */
export function randLike(x: Tensor, options: RandomOptions = {}): Tensor {
  const given = like('randLike', x, options);
  return rand(x.shape, given);
}

/** {@link randn} in the shape, dtype and device of x. */
export function randnLike(x: Tensor, options: RandomOptions = {}): Tensor {
  const given = like('randnLike', x, options);
  return randn(x.shape, given);
}

/**
 * Integers in [low, high), each as likely; int64 where no dtype is given. One float64 uniform number
 * makes each, so that high - low may be 2⁵³ at most.
 */
export function randint(
  low: number,
  high: number,
  shape: Shape,
  options: RandomOptions = {},
): Tensor {
  const { dtype = 'int64', ...given } = expectOptions('randint', options, randomNames);
  const from = expectInteger('randint', 'low', low);
  const count = expectInteger('randint', 'high', high, from + 1) - from;
  if (count > 2 ** 53) {
    throw new RangeError(`randint: high - low must be at most 2⁵³, got ${count}`);
  }
  dtypeCode('randint', dtype);
  const place = draw(
    'randint',
    shape,
    { ...given, dtype: 'float64', requiresGrad: false },
    uniforms,
  );
  const whole = add(cast(floor(mul(place, count)), 'int64'), from);
  return finish('randint', dtype === 'int64' ? whole : cast(whole, dtype), options);
}

const uniforms: Draw = (on, shape, dtype, state) => native.uniform(on, shape, dtype, state, 0, 1);

/**
 * 1 with the given probability, else 0. Given a tensor of probabilities, each element has its own,
 * and the result that tensor's shape, device and dtype (unless `dtype` says otherwise).
 */
export function bernoulli(probabilities: Tensor, options?: RandomOptions): Tensor;
export function bernoulli(shape: Shape, probability: number, options?: RandomOptions): Tensor;
export function bernoulli(
  shape: Shape | Tensor,
  probability?: number | RandomOptions,
  options: RandomOptions = {},
): Tensor {
  if (shape instanceof Tensor) return bernoulliEach(shape, probability as RandomOptions);
  const p = expectRange('bernoulli', 'probability', probability, 0, 1);
  return draw('bernoulli', shape, options, (device, sizes, dtype, state) =>
    native.bernoulli(device, sizes, dtype, state, p),
  );
}
