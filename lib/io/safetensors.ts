/**
 * The safetensors format: 8 bytes little-endian length of the header, the header as JSON (per
 * tensor its dtype, shape and data_offsets; texts under __metadata__), then the values, row-major
 * and little-endian, without gaps. Written with the widest elements first and the header padded
 * with spaces to 8 bytes, so that every tensor is aligned to its elements.
 * Source: https://github.com/huggingface/safetensors, README.md, "Format".
 */
import { type FileHandle, open } from 'node:fs/promises';
import { describe, expectOptions, expectTensor } from '../check.js';
import { type Device, type DeviceLike, device, getDefaultDevice } from '../device.js';
import { type DType, dtypeBytes, dtypeCode } from '../dtype.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';
import { writeAtomically } from './atomic.js';

const names: Readonly<Record<DType, string>> = {
  float32: 'F32',
  float64: 'F64',
  bfloat16: 'BF16',
  float16: 'F16',
  int32: 'I32',
  int64: 'I64',
  uint8: 'U8',
  bool: 'BOOL',
};
const dtypeOf = new Map(Object.entries(names).map(([dtype, name]) => [name, dtype as DType]));

const metadataKey = '__metadata__';
const longestHeader = 100_000_000; // as the reference implementation has it
const longestRead = 2 ** 30;
const mostAxes = 8;

/** Tensors by name, and texts by name. */
export interface SafetensorsFile {
  tensors: Map<string, Tensor>;
  metadata: Record<string, string>;
}

interface Entry {
  name: string;
  dtype: DType;
  shape: number[];
  begin: number;
  end: number;
}

function checkMetadata(metadata: unknown): Record<string, string> {
  const plain = metadata !== null && typeof metadata === 'object' && !Array.isArray(metadata);
  const texts = plain && Object.values(metadata).every((text) => typeof text === 'string');
  if (texts) return metadata as Record<string, string>;
  throw new TypeError('saveSafetensors: metadata must be an object of strings');
}

function headerBytes(header: Map<string, unknown>): Buffer {
  const text = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const padded = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
  padded.writeBigUInt64LE(BigInt(padded.length - 8));
  text.copy(padded, 8);
  return padded;
}

/**
 * Writes tensors to a file, in place of what was there, atomically: a killed process leaves the old
 * file or the new one. The values are those at the time of the call, whatever happens to the
 * tensors before the promise resolves; host memory holds a copy of them until then.
 * @param tensors by name; any dtype, device and strides
 * @param metadata texts to go with them
 * @example await saveSafetensors('model.safetensors', model.stateDict());
 */
export async function saveSafetensors(
  file: string,
  tensors: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  if (typeof file !== 'string' || file === '') {
    throw new TypeError(`saveSafetensors: the file must be a path, got ${describe(file)}`);
  }
  const given = [...(tensors instanceof Map ? tensors : Object.entries(tensors))] as [
    string,
    Tensor,
  ][];
  const header = new Map<string, unknown>();
  if (Object.keys(checkMetadata(metadata)).length > 0) header.set(metadataKey, metadata);
  for (const [name, tensor] of given) {
    if (typeof name !== 'string' || name === metadataKey) {
      throw new TypeError(`saveSafetensors: ${describe(name)} cannot be a tensor's name`);
    }
    expectTensor('saveSafetensors', tensor, name);
  }
  given.sort(([, a], [, b]) => dtypeBytes[b.dtype] - dtypeBytes[a.dtype]);
  const parts: Uint8Array[] = [];
  let begin = 0;
  for (const [name, tensor] of given) {
    const values = new Uint8Array(native.read(tensor.h));
    const end = begin + values.length;
    const { dtype, shape } = tensor;
    header.set(name, { dtype: names[dtype], shape, data_offsets: [begin, end] });
    parts.push(values);
    begin = end;
  }
  await writeAtomically(file, [headerBytes(header), ...parts]);
}

class Reader {
  constructor(
    private readonly handle: FileHandle,
    readonly file: string,
    readonly size: number,
  ) {}

  refuse(what: string): never {
    throw new Error(`loadSafetensors: ${this.file} ${what}`);
  }

  async read(begin: number, end: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(end - begin);
    for (let at = 0; at < bytes.length; ) {
      const wanted = Math.min(longestRead, bytes.length - at);
      const { bytesRead } = await this.handle.read(bytes, at, wanted, begin + at);
      if (bytesRead === 0) this.refuse('was cut short while it was read');
      at += bytesRead;
    }
    return bytes;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Checks one entry of the header by itself. */
function entryOf(reader: Reader, name: string, value: unknown, dataBytes: number): Entry {
  const fields: Record<string, unknown> = isObject(value) ? value : {};
  const { dtype: dtypeName, shape, data_offsets: offsets } = fields;
  const dtype = dtypeOf.get(dtypeName as string);
  if (!dtype) {
    const known = [...dtypeOf.keys()].join(', ');
    reader.refuse(`: the dtype of ${name} must be one of ${known}, got ${describe(dtypeName)}`);
  }
  if (!Array.isArray(shape) || shape.length > mostAxes || !shape.every(isCount)) {
    reader.refuse(`: the shape of ${name} must be at most 8 sizes, got ${describe(shape)}`);
  }
  const [begin, end] = Array.isArray(offsets) ? offsets : [];
  if (!isCount(begin) || !isCount(end) || begin > end || end > dataBytes) {
    const got = describe(offsets);
    reader.refuse(`: the data of ${name} must lie within its ${dataBytes} bytes, got ${got}`);
  }
  const bytes = shape.reduce((a, b) => a * b, 1) * dtypeBytes[dtype];
  if (end - begin !== bytes) {
    reader.refuse(`: ${name} of [${shape}] takes ${bytes} bytes, got ${end - begin}`);
  }
  return { name, dtype, shape, begin, end };
}

/** The entries in the order of their data, which must fill the file without gap or overlap. */
function entriesOf(reader: Reader, header: Map<string, unknown>, dataBytes: number): Entry[] {
  const entries = [...header].map(([name, value]) => entryOf(reader, name, value, dataBytes));
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== at) {
      const what = begin < at ? 'overlaps' : 'leaves a gap after';
      reader.refuse(
        `: the data of ${name} ${what} the tensor before: begins at ${begin}, not ${at}`,
      );
    }
    at = end;
  }
  if (at !== dataBytes) reader.refuse(`must have ${at} bytes of data, got ${dataBytes}`);
  return entries;
}

async function readHeader(
  reader: Reader,
): Promise<{ entries: Entry[]; metadata: Record<string, string>; start: number }> {
  if (reader.size < 8) reader.refuse(`is cut short: 8 bytes or more, got ${reader.size}`);
  const length = Number((await reader.read(0, 8)).readBigUInt64LE());
  const start = 8 + length;
  if (length > longestHeader || start > reader.size) {
    reader.refuse(`is cut short or no safetensors file: ${reader.size} bytes, header ${length}`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(
      new TextDecoder('utf-8', { fatal: true }).decode(await reader.read(8, start)),
    );
  } catch (error) {
    reader.refuse(`must have a header of JSON: ${(error as Error).message}`);
  }
  if (!isObject(parsed))
    reader.refuse(`must have an object as its header, got ${describe(parsed)}`);
  const header = new Map(Object.entries(parsed));
  const metadata = header.get(metadataKey) ?? {};
  header.delete(metadataKey);
  if (!isObject(metadata) || !Object.values(metadata).every((text) => typeof text === 'string')) {
    reader.refuse(`: ${metadataKey} must be an object of strings`);
  }
  const entries = entriesOf(reader, header, reader.size - start);
  return { entries, metadata: metadata as Record<string, string>, start };
}

async function readTensor(reader: Reader, entry: Entry, start: number, on: Device) {
  const bytes = await reader.read(start + entry.begin, start + entry.end);
  if (entry.dtype === 'bool' && bytes.some((value) => value > 1)) {
    reader.refuse(`: ${entry.name} is BOOL and must hold 0 and 1 only`);
  }
  native.fromBytes(on.code, entry.shape, dtypeCode('loadSafetensors', entry.dtype), bytes);
  return take(0, on);
}

/**
 * Reads a safetensors file.
 * @param options.device where the tensors are put; the default device where left out
 * @throws Error naming the file where it is missing, cut short, damaged or of an unknown dtype
 * @example model.loadStateDict((await loadSafetensors('model.safetensors')).tensors);
 */
export async function loadSafetensors(
  file: string,
  options: { device?: DeviceLike } = {},
): Promise<SafetensorsFile> {
  const { device: place } = expectOptions('loadSafetensors', options, ['device']);
  const on = place === undefined ? getDefaultDevice() : device(place);
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (error) {
    throw new Error(`loadSafetensors: cannot open ${file}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const tensors = new Map<string, Tensor>();
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new Error(`loadSafetensors: ${file} is not a file`);
    const reader = new Reader(handle, file, stat.size);
    const { entries, metadata, start } = await readHeader(reader);
    for (const entry of entries) {
      tensors.set(entry.name, await readTensor(reader, entry, start, on));
    }
    return { tensors, metadata };
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  } finally {
    await handle.close();
  }
}
