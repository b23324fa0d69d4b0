/** How a tensor prints: `Tensor(float32[2,3]) [[1, 2, 3], [4, 5, 6]]`, long axes shortened. */
import type { DType, TypedArray } from './dtype.js';

interface Printable {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly device: { readonly name: string };
  data(): TypedArray;
}

const edge = 3;
const most = 1000;

function formatNumber(value: number | bigint, dtype: DType): string {
  if (dtype === 'bool') return value ? 'true' : 'false';
  if (typeof value === 'bigint' || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(5)));
}

/** The values with their brackets; axes longer than six are cut in the middle where there are many. */
function formatValues(values: TypedArray, shape: readonly number[], dtype: DType): string {
  const shorten = values.length > most;
  const strides = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
  const build = (axis: number, offset: number): string => {
    if (axis === shape.length) return formatNumber(values[offset] as number, dtype);
    const size = shape[axis] as number;
    const stride = strides[axis] as number;
    const parts: string[] = [];
    for (let i = 0; i < size; ++i) {
      if (shorten && size > 2 * edge && i === edge) {
        parts.push('…');
        i = size - edge;
      }
      parts.push(build(axis + 1, offset + i * stride));
    }
    const inner = axis + 1 < shape.length;
    return `[${parts.join(inner ? `,\n${' '.repeat(axis + 1)}` : ', ')}]`;
  };
  return build(0, 0);
}

export function formatTensor(tensor: Printable): string {
  const place = tensor.device.name === 'cpu' ? '' : `, ${tensor.device.name}`;
  const head = `Tensor(${tensor.dtype}[${tensor.shape.join(',')}]${place})`;
  const body = formatValues(tensor.data(), tensor.shape, tensor.dtype);
  return body.includes('\n') ? `${head}\n${body}` : `${head} ${body}`;
}
