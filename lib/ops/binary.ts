/**
 * Elementwise functions of two tensors, or of a tensor and a number, with broadcasting; formulas
 * are in core/elementwise.h. Autograd undoes the broadcasting.
 */

import { forPrecision } from '../autocast.js';
import { type Gradient, type Rule, record } from '../autograd.js';
import { describe, expectTensor } from '../check.js';
import { type DType, isFloating } from '../dtype.js';
import { type BinaryName, type ComparisonName, native } from '../native.js';
import { Tensor, take } from '../tensor.js';
import { addMethods, notDifferentiable, type OpRow, type OpRows, ruleOf } from './define.js';
import { scalar } from './fill.js';
import { log, neg, round, sigmoid } from './unary.js';

declare module '../native.js' {
  interface NativeOps {
    where(condition: Handle, a: Handle, b: Handle): void;
  }
  interface NativeKernels {
    addInto(out: Handle, x: Handle): void;
    scaleInto(out: Handle, factor: number): void;
  }
}

/** A tensor, or a number that takes part with the tensor's dtype. */
export type TensorLike = Tensor | number;

/** What a rule needs to know: the number, where one operand was one. */
interface Attributes {
  scalar: number | null;
  reversed: boolean;
}

/** The two operands a and b of f(a, b), from what was saved. */
function operands(saved: readonly Tensor[], { scalar, reversed }: Attributes): TensorLike[] {
  if (scalar === null) return [...saved];
  const x = saved[0] as Tensor;
  return reversed ? [scalar, x] : [x, scalar];
}

/** Gradients in the order of the recorded inputs, from those of a and b. */
function byInput(
  { scalar, reversed }: Attributes,
  needs: readonly boolean[],
  da: () => Gradient,
  db: () => Gradient,
): Gradient[] {
  if (scalar !== null) return [reversed ? db() : da()];
  return [needs[0] ? da() : null, needs[1] ? db() : null];
}

type Derivative = (dout: Tensor, a: TensorLike, b: TensorLike) => Tensor;

function arithmetic(
  summary: string,
  dtypes: OpRow['dtypes'],
  saves: boolean,
  da: Derivative,
  db: Derivative,
): OpRow & { saves: boolean } {
  const gradient: Rule<Attributes> = (dout, saved, attributes, needs) => {
    const [a, b] = saves ? operands(saved, attributes) : [0, 0];
    return byInput(
      attributes,
      needs,
      () => da(dout, a as TensorLike, b as TensorLike),
      () => db(dout, a as TensorLike, b as TensorLike),
    );
  };
  return { family: 'binary', summary, dtypes, gradient, saves };
}

function comparison(summary: string): OpRow {
  return {
    family: 'binary',
    summary,
    dtypes: 'any',
    gradient: notDifferentiable('the result is bool'),
  };
}

// The larger operand takes the gradient; equal ones share it, as PyTorch has it.
const towards =
  (wins: (a: TensorLike, b: TensorLike) => Tensor): Derivative =>
  (dout, a, b) =>
    where(wins(a, b), dout, where(eq(a, b), mul(dout, 0.5), 0));

function squared(x: TensorLike): TensorLike {
  return typeof x === 'number' ? x * x : mul(x, x);
}

const arithmeticOps = {
  add: arithmetic(
    'a + b',
    'any',
    false,
    (dout) => dout,
    (dout) => dout,
  ),
  sub: arithmetic(
    'a - b',
    'numeric',
    false,
    (dout) => dout,
    (dout) => neg(dout),
  ),
  mul: arithmetic(
    'a · b',
    'any',
    true,
    (dout, _, b) => mul(dout, b),
    (dout, a) => mul(dout, a),
  ),
  div: arithmetic(
    'a / b, floating',
    'converted',
    true,
    (dout, _, b) => div(dout, b),
    // Neither product dout·a nor b·b, which leave the range long before the gradient does.
    (dout, a, b) => neg(div(mul(dout, div(a, b)), b)),
  ),
  pow: arithmetic(
    'aᵇ; integers wrap',
    'numeric',
    true,
    // An exponent of 0 has the derivative 0, also where a is 0.
    (dout, a, b) =>
      typeof b === 'number'
        ? mul(dout, b === 0 ? mul(a as Tensor, 0) : mul(pow(a, b - 1), b))
        : mul(dout, where(eq(b, 0), 0, mul(b, pow(a, sub(b, 1))))),
    // a = 0 adds nothing: 0ᵇ does not change with b there.
    (dout, a, b) =>
      typeof a === 'number'
        ? mul(dout, a === 0 ? mul(b as Tensor, 0) : mul(pow(a, b), Math.log(a)))
        : mul(dout, where(eq(a, 0), 0, mul(pow(a, b), log(a)))),
  ),
  maximum: arithmetic(
    'the larger; NaN wins',
    'any',
    true,
    towards((a, b) => gt(a, b)),
    towards((a, b) => lt(a, b)),
  ),
  minimum: arithmetic(
    'the smaller; NaN wins',
    'any',
    true,
    towards((a, b) => lt(a, b)),
    towards((a, b) => gt(a, b)),
  ),
  remainder: arithmetic(
    'a - b·⌊a/b⌋: the rest with the sign of b',
    'numeric',
    true,
    (dout) => dout,
    (dout, a, b) => neg(mul(dout, floorDivide(a, b))),
  ),
  fmod: arithmetic(
    'a - b·trunc(a/b): the rest with the sign of a',
    'numeric',
    true,
    (dout) => dout,
    // The quotient is rounded once more, since its own rounding may reach the next integer.
    (dout, a, b) => neg(mul(dout, round(div(sub(a, fmod(a, b)), b)))),
  ),
  floorDivide: arithmetic(
    '⌊a/b⌋; an integer divided by 0 gives 0',
    'numeric',
    false,
    (dout) => mul(dout, 0),
    (dout) => mul(dout, 0),
  ),
  atan2: arithmetic(
    'angle of the point (b, a), radians',
    'converted',
    true,
    (dout, a, b) => div(mul(dout, b), add(squared(a), squared(b) as Tensor)),
    (dout, a, b) => neg(div(mul(dout, a), add(squared(a), squared(b) as Tensor))),
  ),
  hypot: arithmetic(
    '√(a² + b²)',
    'converted',
    true,
    (dout, a, b) => mul(dout, div(a, hypot(a, b))),
    (dout, a, b) => mul(dout, div(b, hypot(a, b))),
  ),
  logaddexp: arithmetic(
    'ln(eᵃ + eᵇ)',
    'converted',
    true,
    (dout, a, b) => mul(dout, sigmoid(sub(a, b))),
    (dout, a, b) => mul(dout, sigmoid(sub(b, a))),
  ),
  clampMin: arithmetic(
    'the larger; of equal ones a takes the gradient',
    'any',
    true,
    (dout, a, b) => where(ge(a, b), dout, 0),
    (dout, a, b) => where(lt(a, b), dout, 0),
  ),
  clampMax: arithmetic(
    'the smaller; of equal ones a takes the gradient',
    'any',
    true,
    (dout, a, b) => where(le(a, b), dout, 0),
    (dout, a, b) => where(gt(a, b), dout, 0),
  ),
  leakyRelu: arithmetic(
    'a where positive, else a·b',
    'converted',
    true,
    (dout, a, b) => where(gt(a, 0), dout, mul(dout, b)),
    (dout, a) => mul(dout, typeof a === 'number' ? Math.min(a, 0) : minimum(a, 0)),
  ),
} as const satisfies OpRows<BinaryName>;

const whereRow: OpRow = {
  family: 'binary',
  summary: 'condition ? a : b',
  dtypes: 'any',
  gradient: ((dout, [condition], _, needs) => [
    null,
    needs[1] ? where(condition as Tensor, dout, 0) : null,
    needs[2] ? where(condition as Tensor, 0, dout) : null,
  ]) satisfies Rule<null>,
};

export const binaryOps: OpRows<BinaryName | ComparisonName | 'where'> = {
  ...arithmeticOps,
  eq: comparison('a = b'),
  ne: comparison('a ≠ b'),
  lt: comparison('a < b'),
  le: comparison('a ≤ b'),
  gt: comparison('a > b'),
  ge: comparison('a ≥ b'),
  logicalAnd: comparison('both are non-zero'),
  logicalOr: comparison('one is non-zero'),
  logicalXor: comparison('just one is non-zero'),
  where: whereRow,
};

type BinaryFunction = (a: TensorLike, b: TensorLike) => Tensor;

const noScalar: Attributes = { scalar: null, reversed: false };

function binary(name: BinaryName | ComparisonName): BinaryFunction {
  const forward = native[name];
  const forwardScalar = native[`${name}Scalar`];
  const row = binaryOps[name] as OpRow & { saves?: boolean };
  const rule = ruleOf(row) as Rule<Attributes> | null;
  const saves = row.saves ?? false;

  const withNumber = (x: Tensor, scalar: number, reversed: boolean): Tensor => {
    forwardScalar(x.h, scalar, reversed);
    const out = take(0, x.device);
    return record(name, rule, out, [x], saves ? () => [x] : null, { scalar, reversed });
  };

  return (left, right) => {
    // A number divided by a tensor is a reciprocal.
    const precise = name === 'pow' || (name === 'div' && typeof left === 'number');
    const a = precise && left instanceof Tensor ? forPrecision(left) : left;
    const b = precise && right instanceof Tensor ? forPrecision(right) : right;
    if (typeof b === 'number') return withNumber(expectTensor(name, a, 'a'), b, false);
    if (typeof a === 'number') return withNumber(expectTensor(name, b, 'b'), a, true);
    if (!(a instanceof Tensor) || !(b instanceof Tensor)) {
      const wrong = a instanceof Tensor ? b : a;
      throw new TypeError(`${name}: operands must be tensors or numbers, got ${describe(wrong)}`);
    }
    forward(a.h, b.h);
    const out = take(0, a.device);
    return record(name, rule, out, [a, b], saves ? () => [a, b] : null, noScalar);
  };
}

/**
 * a + b; of bools whether one holds. Shapes broadcast, dtypes promote, as for all such functions;
 * one of the two may be a number.
 */
export const add = binary('add');
/** a − b, broadcast; bool is refused. */
export const sub = binary('sub');
/** a·b, broadcast; of bools whether both hold. */
export const mul = binary('mul');
/** a/b, broadcast; integers give float32. */
export const div = binary('div');
/** aᵇ, broadcast; integers give float32. NaN for a fraction of a negative number. */
export const pow = binary('pow');
/** The larger of a and b, broadcast; NaN wins. Equal ones share the gradient. */
export const maximum = binary('maximum');
/** The smaller of a and b, broadcast; NaN wins. Equal ones share the gradient. */
export const minimum = binary('minimum');
/** The rest of a division, with the sign of the divisor; an integer by 0 leaves 0. */
export const remainder = binary('remainder');
/** The rest of a division, with the sign of the dividend; an integer by 0 leaves 0. */
export const fmod = binary('fmod');
/** The quotient rounded down; an integer divided by 0 gives 0. */
export const floorDivide = binary('floorDivide');
/** The angle of the point (b, a), in radians, in [−π, π]; broadcast. */
export const atan2 = binary('atan2');
/** √(a² + b²), broadcast. */
export const hypot = binary('hypot');
/** ln(eᵃ + eᵇ) without overflow, broadcast. */
export const logaddexp = binary('logaddexp');
/** The larger of x and a bound; x takes the gradient where both are equal. */
export const clampMin = binary('clampMin');
/** The smaller of x and a bound; x takes the gradient where both are equal. */
export const clampMax = binary('clampMax');
const leaky = binary('leakyRelu');
/** x where positive, else x times the slope; a tensor of slopes broadcasts. */
export function leakyRelu(x: TensorLike, slope: TensorLike = 0.01): Tensor {
  return leaky(x, slope);
}
/** Whether a = b, per element: bool, broadcast. NaN equals nothing. */
export const eq = binary('eq');
/** Whether a ≠ b, per element: bool, broadcast. NaN differs from everything. */
export const ne = binary('ne');
/** Whether a < b, per element: bool, broadcast; false for NaN. */
export const lt = binary('lt');
/** Whether a ≤ b, per element: bool, broadcast; false for NaN. */
export const le = binary('le');
/** Whether a > b, per element: bool, broadcast; false for NaN. */
export const gt = binary('gt');
/** Whether a ≥ b, per element: bool, broadcast; false for NaN. */
export const ge = binary('ge');
/** Whether both are non-zero, per element: bool, broadcast. */
export const logicalAnd = binary('logicalAnd');
/** Whether a or b is non-zero, per element: bool, broadcast. */
export const logicalOr = binary('logicalOr');
/** Whether just one of the two is non-zero, per element: bool, broadcast. */
export const logicalXor = binary('logicalXor');

/** The dtype that a number takes part in: the other operand's, unless that cannot hold its kind. */
function dtypeBeside(value: number, other: TensorLike): DType {
  if (other instanceof Tensor && isFloating(other.dtype)) return other.dtype;
  if (!Number.isInteger(value)) return 'float32';
  return other instanceof Tensor && other.dtype !== 'bool' ? other.dtype : 'int64';
}

/**
 * Elements of `a` where `condition` (bool) holds, of `b` elsewhere; all three broadcast. a and b may
 * be numbers: beside integers a fraction makes the result float32, and two whole numbers int64.
 */
export function where(condition: Tensor, a: TensorLike, b: TensorLike): Tensor {
  const { device } = expectTensor('where', condition, 'condition');
  const operand = (name: string, value: TensorLike, other: TensorLike): Tensor => {
    if (typeof value !== 'number') return expectTensor('where', value, name);
    return scalar('where', value, dtypeBeside(value, other), device);
  };
  const left = operand('a', a, b);
  const right = operand('b', b, a);
  native.where(condition.h, left.h, right.h);
  return record(
    'where',
    ruleOf(whereRow),
    take(0, condition.device),
    [condition, left, right],
    () => [condition],
    null,
  );
}

const functions: Record<BinaryName | ComparisonName, BinaryFunction> = {
  add,
  sub,
  mul,
  div,
  pow,
  maximum,
  minimum,
  remainder,
  fmod,
  floorDivide,
  atan2,
  hypot,
  logaddexp,
  clampMin,
  clampMax,
  leakyRelu,
  eq,
  ne,
  lt,
  le,
  gt,
  ge,
  logicalAnd,
  logicalOr,
  logicalXor,
};

// Mapped from the functions, so that the methods have their docstrings.
type Functions = Pick<
  typeof import('./binary.js'),
  Exclude<BinaryName, 'leakyRelu'> | ComparisonName
>;
type BinaryMethods = { [Name in keyof Functions]: (other: TensorLike) => Tensor };

declare module '../tensor.js' {
  interface Tensor extends BinaryMethods {
    /** x where positive, else x·slope, 0.01 where left out; a tensor of slopes broadcasts. */
    leakyRelu(slope?: TensorLike): Tensor;
  }
}

addMethods(
  Object.fromEntries(
    Object.entries(functions).map(([name, fn]) => [
      name,
      function (this: Tensor, other: TensorLike) {
        return fn(this, other);
      },
    ]),
  ),
);
