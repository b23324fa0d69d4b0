/**
 * IDX files, as MNIST comes in: two zero bytes, one for the type, one for the number of axes, the
 * sizes as big-endian uint32, then the values, big-endian and row-major; gzipped or plain.
 * Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format".
 */
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { expectOptions } from '../check.js';
import { type DeviceLike, device, getDefaultDevice } from '../device.js';
import { type DType, dtypeCode } from '../dtype.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';

interface ValueType {
  bytes: number;
  dtype: DType;
  /** The values as native code takes them; may swap bytes in place. */
  unpack(values: Buffer): ArrayBufferView;
}

const plain = (values: Buffer) => values;

// There are no 8 and 16-bit signed tensors, so these widen.
const valueTypes = new Map<number, ValueType>([
  [0x08, { bytes: 1, dtype: 'uint8', unpack: plain }],
  [0x09, { bytes: 1, dtype: 'int32', unpack: (v) => Int32Array.from(v, (b) => (b << 24) >> 24) }],
  [
    0x0b,
    {
      bytes: 2,
      dtype: 'int32',
      unpack: (v) => Int32Array.from({ length: v.length / 2 }, (_, i) => v.readInt16BE(2 * i)),
    },
  ],
  [0x0c, { bytes: 4, dtype: 'int32', unpack: (v) => v.swap32() }],
  [0x0d, { bytes: 4, dtype: 'float32', unpack: (v) => v.swap32() }],
  [0x0e, { bytes: 8, dtype: 'float64', unpack: (v) => v.swap64() }],
]);

const mostAxes = 8;

async function readWhole(file: string): Promise<Buffer> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    throw new Error(`readIdx: cannot read ${file}: ${(error as Error).message}`, { cause: error });
  }
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return await promisify(gunzip)(bytes);
  } catch (error) {
    throw new Error(`readIdx: ${file} is damaged: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * Reads an IDX file, gzipped or not.
 * @returns a tensor of the file's shape: uint8, int32 (for signed integers of up to 32 bits),
 * float32 or float64
 * @throws Error naming the file where it is missing, cut short or not IDX
 */
export async function readIdx(
  file: string,
  options: { device?: DeviceLike } = {},
): Promise<Tensor> {
  const { device: place } = expectOptions('readIdx', options, ['device']);
  const on = place === undefined ? getDefaultDevice() : device(place);
  const bytes = await readWhole(file);
  const refuse = (what: string): never => {
    throw new Error(`readIdx: ${file} ${what}`);
  };
  const type = valueTypes.get(bytes[2] ?? 0);
  const rank = bytes[3] ?? 0;
  if (bytes.length < 4 || bytes[0] !== 0 || bytes[1] !== 0 || !type) {
    return refuse(`must begin with an IDX magic, got ${bytes.subarray(0, 4).toString('hex')}`);
  }
  if (rank < 1 || rank > mostAxes) return refuse(`must have 1 to ${mostAxes} axes, got ${rank}`);
  const start = 4 + 4 * rank;
  if (bytes.length < start) return refuse(`must have ${start} bytes or more, got ${bytes.length}`);
  const shape = Array.from({ length: rank }, (_, i) => bytes.readUInt32BE(4 + 4 * i));
  const expected = start + shape.reduce((a, b) => a * b, 1) * type.bytes;
  if (bytes.length !== expected) {
    return refuse(`of shape [${shape}] must have ${expected} bytes, got ${bytes.length}`);
  }
  const values = type.unpack(bytes.subarray(start));
  native.fromBytes(on.code, shape, dtypeCode('readIdx', type.dtype), values);
  return take(0, on);
}
