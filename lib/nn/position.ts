/** Positions: sinusoidal, learned and rotary. */
import { describe, expectInteger, expectOptions, expectRange, expectTensor } from '../check.js';
import type { TensorOptions } from '../ops/fill.js';
import { tensor, zeros } from '../ops/fill.js';
import { rotary } from '../ops/rotary.js';
import { slice } from '../ops/view.js';
import type { Tensor } from '../tensor.js';
import { normal } from './init.js';
import { buffer, Module, parameter } from './module.js';

const mostElements = 2 ** 26;

type Place = Pick<TensorOptions, 'dtype' | 'device'>;

export interface PositionOptions extends Place {
  /** Wavelengths go from 2π to 2π·base; 10000 where left out. */
  base?: number;
}

/** base^(-2i/width) for i = 0 … width/2 - 1: the angle of one step in each pair of columns. */
function frequencies(width: number, base: number): Float64Array {
  return Float64Array.from({ length: Math.ceil(width / 2) }, (_, i) => base ** ((-2 * i) / width));
}

function expectSequence(op: string, x: unknown, width: number, most: number): number {
  const { shape } = expectTensor(op, x, 'x');
  const length = shape.at(-2);
  if (length === undefined || shape.at(-1) !== width || length > most) {
    throw new RangeError(
      `${op}: x must be [...,T,${width}] with T up to ${most}, got ${describe(x)}`,
    );
  }
  return length;
}

/**
 * The table [length, width] of sines (even columns) and cosines (odd columns):
 * P[t, 2i] = sin(t / base^(2i/width)), P[t, 2i + 1] = cos of the same. Source: Vaswani et al., 2017.
 */
export function sinusoidalPositions(
  length: number,
  width: number,
  options: PositionOptions = {},
): Tensor {
  const name = 'sinusoidalPositions';
  expectInteger(name, 'length', length, 0);
  expectInteger(name, 'width', width, 1);
  if (length * width > mostElements) {
    throw new RangeError(
      `${name}: a table must have at most ${mostElements} elements, got [${length},${width}]`,
    );
  }
  const { base = 10000, ...place } = expectOptions(name, options, ['base', 'dtype', 'device']);
  const steps = frequencies(width, expectRange(name, 'base', base, 1));
  const values = new Float64Array(length * width);
  for (let t = 0; t < length; ++t) {
    for (let d = 0; d < width; ++d) {
      const angle = t * (steps[d >> 1] as number);
      values[t * width + d] = d % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
    }
  }
  return tensor(values, [length, width], { dtype: 'float32', ...place });
}

/** Adds {@link sinusoidalPositions} to [..., T, E], T up to maxLength. */
export class SinusoidalPositions extends Module {
  /** [maxLength, E], not trained */
  table: Tensor;

  constructor(
    readonly maxLength: number,
    readonly embedDim: number,
    options: PositionOptions = {},
  ) {
    super();
    this.table = buffer(sinusoidalPositions(maxLength, embedDim, options));
  }

  forward(x: Tensor): Tensor {
    const length = expectSequence('SinusoidalPositions', x, this.embedDim, this.maxLength);
    return x.add(slice(this.table, 0, 0, length));
  }
}

/** Adds a trained vector per position to [..., T, E], T up to maxLength; normal(0, 0.02) at first. */
export class LearnedPositions extends Module {
  /** [maxLength, E] */
  weight: Tensor;

  constructor(
    readonly maxLength: number,
    readonly embedDim: number,
    options: Place = {},
  ) {
    super();
    expectInteger('LearnedPositions', 'maxLength', maxLength, 1);
    expectInteger('LearnedPositions', 'embedDim', embedDim, 1);
    this.weight = parameter(
      zeros([maxLength, embedDim], expectOptions('LearnedPositions', options, ['dtype', 'device'])),
    );
    normal(this.weight, 0, 0.02);
  }

  forward(x: Tensor): Tensor {
    const length = expectSequence('LearnedPositions', x, this.embedDim, this.maxLength);
    return x.add(slice(this.weight, 0, 0, length));
  }
}

/**
 * Rotary positions: column i and i + D/2 of queries and keys turn by the angle t·base^(-2i/D), so
 * that their products depend on distances alone. Source: Su et al., "RoFormer", 2021; halves are
 * paired as in GPT-NeoX and Llama.
 * @example const rope = new nn.RotaryPositions(1024, 64); q = rope.forward(q); k = rope.forward(k);
 */
export class RotaryPositions extends Module {
  /** [maxLength, D/2], of the angles of each position; not trained */
  cosines: Tensor;
  sines: Tensor;

  constructor(
    readonly maxLength: number,
    readonly width: number,
    options: PositionOptions = {},
  ) {
    super();
    const name = 'RotaryPositions';
    expectInteger(name, 'maxLength', maxLength, 1);
    expectInteger(name, 'width', width, 2);
    if (maxLength * width > mostElements) {
      throw new RangeError(
        `${name}: a table must have at most ${mostElements} elements, got [${maxLength},${width}]`,
      );
    }
    if (width % 2 !== 0) throw new RangeError(`${name}: width must be even, got ${width}`);
    const { base = 10000, ...place } = expectOptions(name, options, ['base', 'dtype', 'device']);
    const steps = frequencies(width, expectRange(name, 'base', base, 1));
    const half = width / 2;
    const table = (f: (angle: number) => number): Tensor => {
      const values = Float64Array.from({ length: maxLength * half }, (_, i) =>
        f(Math.floor(i / half) * (steps[i % half] as number)),
      );
      return buffer(tensor(values, [maxLength, half], { dtype: 'float32', ...place }));
    };
    this.cosines = table(Math.cos);
    this.sines = table(Math.sin);
  }

  /**
   * One kernel, in float32 where x has 16 bits.
   * @param x [B, H, T, D] or [..., T, D]: queries or keys
   * @param offset the position of the first one; 0 where left out
   */
  forward(x: Tensor, offset = 0): Tensor {
    const name = 'RotaryPositions';
    expectInteger(name, 'offset', offset, 0, this.maxLength);
    expectSequence(name, x, this.width, this.maxLength - offset);
    return rotary(x, this.cosines, this.sines, offset);
  }
}
