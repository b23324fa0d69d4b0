/**
 * Coding of columns: classes as numbers or one-hot rows, numbers scaled. Each learns from the
 * training data by `fit`, changes any data by `transform`, and goes to a file and back as JSON.
 * Formulas and defaults are scikit-learn's.
 */
import { describe, expectBoolean, expectOptions } from '../check.js';
import { noGrad } from '../context.js';
import { cpu } from '../device.js';
import { isFloating } from '../dtype.js';
import { add, div, mul, sub } from '../ops/binary.js';
import { tensor } from '../ops/fill.js';
import { Tensor } from '../tensor.js';

/** What can be a class. */
export type Category = string | number;

/** What encoders are saved as. */
export interface EncoderState {
  kind: string;
  [name: string]: unknown;
}

function stateOf(op: string, kind: string, state: unknown, lists: readonly string[]): EncoderState {
  const found = state as EncoderState | null;
  const fits =
    typeof found === 'object' &&
    found?.kind === kind &&
    lists.every((name) => Array.isArray(found[name]));
  if (!fits)
    throw new TypeError(`${op}: needs the saved state of a ${kind}, got ${describe(state)}`);
  return found as EncoderState;
}

function categories(op: string, values: unknown): Category[] {
  const list = values instanceof Tensor ? Array.from(values.data(), Number) : values;
  if (
    typeof list === 'string' ||
    list === null ||
    typeof list !== 'object' ||
    !(Symbol.iterator in list)
  ) {
    throw new TypeError(
      `${op}: values must be an array of strings or numbers, got ${describe(values)}`,
    );
  }
  const found = [...(list as Iterable<unknown>)];
  for (const value of found) {
    if (typeof value !== 'string' && typeof value !== 'number') {
      throw new TypeError(`${op}: values must be strings or numbers, got ${describe(value)}`);
    }
  }
  return found as Category[];
}

function ordered(values: Iterable<Category>): Category[] {
  return [...new Set(values)].sort((a, b) => {
    if (typeof a === 'number' && typeof b === 'number') return a - b;
    return String(a) < String(b) ? -1 : 1;
  });
}

function known(values: readonly Category[]): string {
  const shown = values.slice(0, 8).map((value) => JSON.stringify(value));
  return `${shown.join(', ')}${values.length > 8 ? ` and ${values.length - 8} more` : ''}`;
}

/**
 * Classes as numbers 0, 1, …, in sorted order.
 * @example
 * const coder = new LabelEncoder().fit(['cat', 'dog', 'cat']);
 * coder.transform(['dog']); // int64 [1]
 */
export class LabelEncoder {
  /** The classes, in the order of their numbers. */
  readonly classes: readonly Category[] = [];
  private codes = new Map<Category, number>();

  /** @param classes the classes in order, instead of fitting */
  constructor(classes?: readonly Category[]) {
    if (classes !== undefined) this.use(categories('LabelEncoder', classes));
  }

  /** Takes the different values as classes, in order; returns the encoder. */
  fit(values: Iterable<Category> | Tensor): this {
    return this.use(ordered(categories('LabelEncoder.fit', values)));
  }

  /** The number of a class. */
  code(value: Category, op = 'LabelEncoder'): number {
    const code = this.codes.get(value);
    if (code !== undefined) return code;
    throw new RangeError(
      `${op}: a value must be one of ${known(this.classes)}, got ${describe(value)}`,
    );
  }

  /** The number of each value's class. @returns int64 [N] on the CPU */
  transform(values: Iterable<Category> | Tensor): Tensor {
    const op = 'LabelEncoder.transform';
    const codes = categories(op, values).map((value) => BigInt(this.code(value, op)));
    return tensor(BigInt64Array.from(codes), { device: cpu });
  }

  /** The classes of numbers. */
  inverse(codes: Tensor | readonly number[]): Category[] {
    const op = 'LabelEncoder.inverse';
    return categories(op, codes).map((code) => {
      const found = this.classes[code as number];
      if (found !== undefined) return found;
      throw new RangeError(`${op}: a code must be in [0,${this.classes.length}), got ${code}`);
    });
  }

  /** What was learnt, for `fromJSON`. */
  toJSON(): EncoderState {
    return { kind: 'LabelEncoder', classes: this.classes };
  }

  static fromJSON(state: unknown): LabelEncoder {
    const { classes } = stateOf('LabelEncoder.fromJSON', 'LabelEncoder', state, ['classes']);
    return new LabelEncoder(classes as Category[]);
  }

  private use(classes: readonly Category[]): this {
    (this as { classes: readonly Category[] }).classes = classes;
    this.codes = new Map(classes.map((value, code) => [value, code]));
    return this;
  }
}

export interface OneHotOptions {
  /** Whether a class that fitting did not see becomes zeros instead of an error; false where left out. */
  ignoreUnknown?: boolean;
}

/** Classes as rows with a one at the class's place, in sorted order. */
export class OneHotEncoder {
  private coder = new LabelEncoder();
  private readonly ignoreUnknown: boolean;

  constructor(options: OneHotOptions = {}) {
    const { ignoreUnknown = false } = expectOptions('OneHotEncoder', options, ['ignoreUnknown']);
    this.ignoreUnknown = expectBoolean('OneHotEncoder', 'ignoreUnknown', ignoreUnknown);
  }

  get classes(): readonly Category[] {
    return this.coder.classes;
  }

  /** Takes the different values as classes, in order; returns the encoder. */
  fit(values: Iterable<Category> | Tensor): this {
    this.coder.fit(values);
    return this;
  }

  /** 1 in the column of each value's class, else 0. @returns float32 [N, classes] on the CPU */
  transform(values: Iterable<Category> | Tensor): Tensor {
    const op = 'OneHotEncoder.transform';
    const list = categories(op, values);
    const { length } = this.classes;
    const rows = new Float32Array(list.length * length);
    const seen = new Set(this.classes);
    list.forEach((value, row) => {
      if (this.ignoreUnknown && !seen.has(value)) return;
      rows[row * length + this.coder.code(value, op)] = 1;
    });
    return tensor(rows, [list.length, length], { device: cpu });
  }

  /** The class at the largest number of each row. */
  inverse(rows: Tensor): Category[] {
    const width = this.classes.length;
    if (!(rows instanceof Tensor) || rows.rank !== 2 || rows.shape[1] !== width) {
      throw new RangeError(`OneHotEncoder.inverse: needs rows [N,${width}], got ${describe(rows)}`);
    }
    return this.coder.inverse(Array.from(rows.argmax(1).data(), Number));
  }

  /** What was learnt, for `fromJSON`. */
  toJSON(): EncoderState {
    const { ignoreUnknown, classes } = this;
    return { kind: 'OneHotEncoder', classes, ignoreUnknown };
  }

  static fromJSON(state: unknown): OneHotEncoder {
    const found = stateOf('OneHotEncoder.fromJSON', 'OneHotEncoder', state, ['classes']);
    const made = new OneHotEncoder({ ignoreUnknown: found.ignoreUnknown === true });
    made.coder = new LabelEncoder(found.classes as Category[]);
    return made;
  }
}

/** Sums by column in float64, batch by batch. */
abstract class Scaler {
  /** Columns, once fitted. */
  protected abstract width(): number;

  protected rows(op: string, x: unknown): { x: Tensor; width: number } {
    const fits = x instanceof Tensor && x.rank === 2 && isFloating(x.dtype);
    const width = this.width();
    if (!fits || (width > 0 && x.shape[1] !== width)) {
      const form = width > 0 ? `[N,${width}]` : '[N,F]';
      throw new RangeError(`${op}: needs a float tensor ${form}, got ${describe(x)}`);
    }
    return { x, width: x.shape[1] as number };
  }

  /** (x − shift) / scale, or back, row by row. */
  protected apply(
    op: string,
    given: unknown,
    shift: readonly number[],
    scale: readonly number[],
    back: boolean,
  ): Tensor {
    if (shift.length === 0) throw new Error(`${op}: needs a call of fit first, got none`);
    const { x } = this.rows(op, given);
    const place = { dtype: x.dtype, device: x.device };
    const [a, b] = [tensor([...shift], place), tensor([...scale], place)];
    return back ? add(mul(x, b), a) : div(sub(x, a), b);
  }
}

/**
 * Columns to mean 0 and variance 1: (x − mean) / std, std with the divisor N; a constant column is
 * only shifted. `partialFit` learns batch by batch (Chan, Golub and LeVeque 1983), so the data may be
 * larger than memory.
 * @example
 * const scaler = new StandardScaler().fit(trainX);
 * const x = scaler.transform(testX);
 */
export class StandardScaler extends Scaler {
  /** Mean of each column. */
  mean: number[] = [];
  /** Standard deviation of each column; 1 where it is 0. */
  scale: number[] = [];
  private count = 0;
  private squares: number[] = [];

  /** Learns mean and deviation of each column. @param x float [N, F] */
  fit(x: Tensor): this {
    this.mean = [];
    this.squares = [];
    this.count = 0;
    return this.partialFit(x);
  }

  /** Adds the rows of x [N, F] to those seen so far; returns the scaler. */
  partialFit(x: Tensor): this {
    const { width } = this.rows('StandardScaler.fit', x);
    const values = noGrad(() => x.data());
    const rows = values.length / Math.max(1, width);
    if (rows === 0) throw new RangeError('StandardScaler.fit: needs one row or more, got none');
    if (this.count === 0) {
      this.mean = new Array(width).fill(0);
      this.squares = new Array(width).fill(0);
    }
    const all = this.count + rows;
    for (let column = 0; column < width; ++column) {
      let sum = 0;
      for (let i = column; i < values.length; i += width) sum += Number(values[i]);
      const mean = sum / rows;
      let squares = 0;
      for (let i = column; i < values.length; i += width)
        squares += (Number(values[i]) - mean) ** 2;
      const delta = mean - (this.mean[column] as number);
      this.mean[column] = (this.mean[column] as number) + (delta * rows) / all;
      this.squares[column] =
        (this.squares[column] as number) + squares + (delta * delta * this.count * rows) / all;
    }
    this.count = all;
    this.scale = this.squares.map((square) => Math.sqrt(square / all) || 1);
    return this;
  }

  /** (x − mean)/scale per column, [N, F]. */
  transform(x: Tensor): Tensor {
    return this.apply('StandardScaler.transform', x, this.mean, this.scale, false);
  }

  /** x·scale + mean per column: the opposite of {@link transform}. */
  inverse(x: Tensor): Tensor {
    return this.apply('StandardScaler.inverse', x, this.mean, this.scale, true);
  }

  /** What was learnt, for `fromJSON`. */
  toJSON(): EncoderState {
    const { mean, scale, count, squares } = this;
    return { kind: 'StandardScaler', mean, scale, count, squares };
  }

  static fromJSON(state: unknown): StandardScaler {
    const lists = ['mean', 'scale', 'squares'];
    const found = stateOf('StandardScaler.fromJSON', 'StandardScaler', state, lists);
    const made = new StandardScaler();
    made.mean = [...(found.mean as number[])];
    made.scale = [...(found.scale as number[])];
    made.squares = [...(found.squares as number[])];
    made.count = Number(found.count);
    return made;
  }

  protected override width(): number {
    return this.mean.length;
  }
}

export interface MinMaxOptions {
  /** What the smallest and the largest number of a column become; [0, 1] where left out. */
  range?: readonly [low: number, high: number];
}

/** Columns to a range, [0, 1] where left out: low + (x − min) / (max − min) · (high − low). */
export class MinMaxScaler extends Scaler {
  /** Smallest number of each column. */
  min: number[] = [];
  /** Largest number of each column. */
  max: number[] = [];
  private readonly range: readonly [number, number];

  constructor(options: MinMaxOptions = {}) {
    super();
    const { range = [0, 1] } = expectOptions('MinMaxScaler', options, ['range']);
    const fits = Array.isArray(range) && range.length === 2 && range.every(Number.isFinite);
    if (!fits || !(range[0] < range[1])) {
      throw new RangeError(`MinMaxScaler: range must be [low,high], got ${describe(range)}`);
    }
    this.range = [range[0], range[1]];
  }

  /** Learns the extremes of each column. @param x float [N, F] */
  fit(x: Tensor): this {
    this.min = [];
    this.max = [];
    return this.partialFit(x);
  }

  /** Adds the rows of x [N, F] to those seen so far; returns the scaler. */
  partialFit(x: Tensor): this {
    const { width } = this.rows('MinMaxScaler.fit', x);
    const values = noGrad(() => x.data());
    if (values.length < 1)
      throw new RangeError('MinMaxScaler.fit: needs one row or more, got none');
    if (this.min.length === 0) {
      this.min = new Array(width).fill(Number.POSITIVE_INFINITY);
      this.max = new Array(width).fill(Number.NEGATIVE_INFINITY);
    }
    for (let i = 0; i < values.length; ++i) {
      const value = Number(values[i]);
      const column = i % width;
      if (value < (this.min[column] as number)) this.min[column] = value;
      if (value > (this.max[column] as number)) this.max[column] = value;
    }
    return this;
  }

  /** Columns moved and scaled so that the extremes become those of `range`, [N, F]. */
  transform(x: Tensor): Tensor {
    return this.apply('MinMaxScaler.transform', x, ...this.linear(), false);
  }

  /** Columns of `range` moved back: the opposite of {@link transform}. */
  inverse(x: Tensor): Tensor {
    return this.apply('MinMaxScaler.inverse', x, ...this.linear(), true);
  }

  /** What was learnt, for `fromJSON`. */
  toJSON(): EncoderState {
    const { min, max, range } = this;
    return { kind: 'MinMaxScaler', min, max, range };
  }

  static fromJSON(state: unknown): MinMaxScaler {
    const lists = ['min', 'max', 'range'];
    const found = stateOf('MinMaxScaler.fromJSON', 'MinMaxScaler', state, lists);
    const made = new MinMaxScaler({ range: found.range as [number, number] });
    made.min = [...(found.min as number[])];
    made.max = [...(found.max as number[])];
    return made;
  }

  protected override width(): number {
    return this.min.length;
  }

  /** Shift and scale of (x − shift) / scale. */
  private linear(): [shift: number[], scale: number[]] {
    const [low, high] = this.range;
    const scale = this.min.map((min, i) => ((this.max[i] as number) - min || 1) / (high - low));
    return [this.min.map((min, i) => min - low * (scale[i] as number)), scale];
  }
}
