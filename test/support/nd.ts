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

/** Per element of `shape`, the offset in an array of another shape that broadcasts to it. */
function offsets(x: Nd, shape: readonly number[]): Int32Array {
  const lead = shape.length - x.shape.length;
  const strides = shape.map(() => 0);
  let stride = 1;
  for (let axis = x.shape.length - 1; axis >= 0; --axis) {
    const size = x.shape[axis] as number;
    strides[axis + lead] = size === 1 ? 0 : stride;
    stride *= size;
  }
  const found = new Int32Array(count(shape));
  const index = shape.map(() => 0);
  let offset = 0;
  for (let i = 0; i < found.length; ++i) {
    found[i] = offset;
    for (let axis = shape.length - 1; axis >= 0; --axis) {
      offset += strides[axis] as number;
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      offset -= (index[axis] as number) * (strides[axis] as number);
      index[axis] = 0;
    }
  }
  return found;
}

/** f over broadcast arrays. */
export function zip(f: (...values: number[]) => number, ...arrays: Nd[]): Nd {
  const shape = broadcastShape(...arrays.map((x) => x.shape));
  const places = arrays.map((x) => offsets(x, shape));
  const values = arrays.map(() => 0);
  const data = new Float64Array(count(shape));
  for (let i = 0; i < data.length; ++i) {
    for (let k = 0; k < arrays.length; ++k) {
      values[k] = (arrays[k] as Nd).data[(places[k] as Int32Array)[i] as number] as number;
    }
    data[i] = f(...values);
  }
  return { shape, data };
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
  const groups = Array.from({ length: count(kept) }, (): number[] => []);
  offsets(
    nd(
      kept,
      groups.map(() => 0),
    ),
    x.shape,
  ).forEach((group, i) => {
    groups[group]?.push(x.data[i] as number);
  });
  const shape = keepdim ? kept : x.shape.filter((_, axis) => !gone.includes(axis));
  return nd(shape, groups.map(f));
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
  // The first element of each matrix of the batch.
  const firsts = (of: Nd, rows: number, columns: number): Int32Array =>
    offsets(nd(of.shape.slice(0, -2), new Float64Array(count(of.shape.slice(0, -2)))), batch).map(
      (place) => place * rows * columns,
    );
  const [lefts, rights] = [firsts(left, m, k), firsts(right, k, n)];
  const product = new Float64Array(count(batch) * m * n);
  for (let at = 0, q = 0; q < lefts.length; ++q) {
    for (let i = 0; i < m; ++i) {
      for (let j = 0; j < n; ++j) {
        let sum = 0;
        for (let p = 0; p < k; ++p) {
          const l = left.data[(lefts[q] as number) + i * k + p] as number;
          sum += l * (right.data[(rights[q] as number) + p * n + j] as number);
        }
        product[at++] = sum;
      }
    }
  }
  const shape = [...batch];
  if (a.shape.length > 1) shape.push(m);
  if (b.shape.length > 1) shape.push(n);
  return nd(shape, product);
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
