/** Arrays in plain JavaScript and float64: what ops are compared with. Clear rather than fast. */

export interface Nd {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export function count(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

export function nd(shape: readonly number[], values: ArrayLike<number>): Nd {
  if (values.length !== count(shape)) {
    throw new RangeError(`nd: [${shape}] takes ${count(shape)} values, got ${values.length}`);
  }
  return { shape: [...shape], data: Float64Array.from(values) };
}

/** An array of a shape from a function of the index. */
export function build(shape: readonly number[], f: (index: number[]) => number): Nd {
  const data = new Float64Array(count(shape));
  const index = shape.map(() => 0);
  for (let at = 0; at < data.length; ++at) {
    data[at] = f(index);
    for (let axis = shape.length - 1; axis >= 0; --axis) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      index[axis] = 0;
    }
  }
  return { shape: [...shape], data };
}

/** The element at an index; axes of size 1 stretch, missing leading axes are left out. */
export function at(x: Nd, index: readonly number[]): number {
  const lead = index.length - x.shape.length;
  let offset = 0;
  for (let axis = 0; axis < x.shape.length; ++axis) {
    const size = x.shape[axis] as number;
    offset = offset * size + (size === 1 ? 0 : (index[axis + lead] as number));
  }
  return x.data[offset] as number;
}

export function map(x: Nd, f: (value: number) => number): Nd {
  return { shape: x.shape, data: x.data.map((v) => f(v)) };
}

export function broadcastShape(...shapes: (readonly number[])[]): number[] {
  const rank = Math.max(0, ...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = shapes.map((shape) => shape[axis - (rank - shape.length)] ?? 1);
    return sizes.find((size) => size !== 1) ?? 1;
  });
}

/** f over broadcast arrays. */
export function zip(f: (...values: number[]) => number, ...arrays: Nd[]): Nd {
  const shape = broadcastShape(...arrays.map((x) => x.shape));
  return build(shape, (index) => f(...arrays.map((x) => at(x, index))));
}

export function normalAxes(axes: number | readonly number[] | undefined, rank: number): number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, axis) => axis);
  return (typeof axes === 'number' ? [axes] : [...axes]).map((a) => (a < 0 ? a + rank : a));
}

/** f of the values along `axes`, in order. */
export function reduce(
  x: Nd,
  axes: number | readonly number[] | undefined,
  keepdim: boolean,
  f: (values: number[]) => number,
): Nd {
  const gone = normalAxes(axes, x.shape.length);
  const kept = x.shape.map((size, axis) => (gone.includes(axis) ? 1 : size));
  const inner = x.shape.map((size, axis) => (gone.includes(axis) ? size : 1));
  const reduced = build(kept, (outer) => {
    const values: number[] = [];
    build(inner, (index) => {
      values.push(
        at(
          x,
          index.map((i, axis) => i + (outer[axis] as number)),
        ),
      );
      return 0;
    });
    return f(values);
  });
  return keepdim
    ? reduced
    : nd(
        x.shape.filter((_, axis) => !gone.includes(axis)),
        reduced.data,
      );
}

export function permute(x: Nd, axes: readonly number[]): Nd {
  const order = normalAxes(axes, x.shape.length);
  return build(
    order.map((axis) => x.shape[axis] as number),
    (index) => {
      const source = x.shape.map(() => 0);
      order.forEach((axis, i) => {
        source[axis] = index[i] as number;
      });
      return at(x, source);
    },
  );
}

/** Matrix product as NumPy has it: vectors as rows and columns, leading axes broadcast. */
export function matmul(a: Nd, b: Nd): Nd {
  const left = a.shape.length === 1 ? nd([1, ...a.shape], a.data) : a;
  const right = b.shape.length === 1 ? nd([...b.shape, 1], b.data) : b;
  const m = left.shape.at(-2) as number;
  const k = left.shape.at(-1) as number;
  const n = right.shape.at(-1) as number;
  const batch = broadcastShape(left.shape.slice(0, -2), right.shape.slice(0, -2));
  const product = build([...batch, m, n], (index) => {
    const lead = index.slice(0, -2);
    const [i, j] = index.slice(-2) as [number, number];
    let sum = 0;
    for (let p = 0; p < k; ++p) {
      sum +=
        (k === 1 ? at(left, [...lead, i, 0]) : at(left, [...lead, i, p])) *
        at(right, [...lead, p, j]);
    }
    return sum;
  });
  const shape = [...batch];
  if (a.shape.length > 1) shape.push(m);
  if (b.shape.length > 1) shape.push(n);
  return nd(shape, product.data);
}

/** The error function, to float64: a series of positive terms, e^(-x²)·2/√π·Σ 2ⁿx²ⁿ⁺¹/(2n+1)!!. */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; n < 300; ++n) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
    if (Math.abs(term) < 1e-18 * Math.abs(sum)) break;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** The nearest integer, halves to even. */
export function roundHalfEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}
