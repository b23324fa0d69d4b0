/**
 * TensorBoard's event files: records of a length (uint64), its masked CRC-32C, a protobuf `Event` and
 * its masked CRC-32C, all little-endian. The mask turns a sum c into (c >>> 15 | c << 17) + 0xa282ead8.
 * Sources: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto and
 * framework/summary.proto, of whose fields these are the ones that scalars and pictures need.
 */
import { type FileHandle, open } from 'node:fs/promises';
import protobuf from 'protobufjs';
import { writing } from '../io/writing.js';

const field = (type: string, id: number) => ({ type, id });
const root = protobuf.Root.fromJSON({
  nested: {
    Image: {
      fields: {
        height: field('int32', 1),
        width: field('int32', 2),
        colorspace: field('int32', 3),
        encodedImageString: field('bytes', 4),
      },
    },
    Value: {
      oneofs: { value: { oneof: ['simpleValue', 'image'] } },
      fields: {
        tag: field('string', 1),
        simpleValue: field('float', 2),
        image: field('Image', 4),
      },
    },
    Summary: { fields: { value: { rule: 'repeated', ...field('Value', 1) } } },
    Event: {
      oneofs: { what: { oneof: ['fileVersion', 'summary'] } },
      fields: {
        wallTime: field('double', 1),
        step: field('int64', 2),
        fileVersion: field('string', 3),
        summary: field('Summary', 5),
      },
    },
  },
});
const eventType = root.lookupType('Event');

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; ++bit) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

/** CRC-32C (Castagnoli), as TensorBoard masks it. */
export function maskedCrc(bytes: Uint8Array): number {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = (sum >>> 8) ^ (table[(sum ^ byte) & 0xff] as number);
  sum = ~sum >>> 0;
  return (((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0;
}

function recordOf(data: Uint8Array): Buffer {
  const record = Buffer.alloc(16 + data.length);
  record.writeBigUInt64LE(BigInt(data.length), 0);
  record.writeUInt32LE(maskedCrc(record.subarray(0, 8)), 8);
  record.set(data, 12);
  record.writeUInt32LE(maskedCrc(data), 12 + data.length);
  return record;
}

/** A picture: the bytes of a PNG file and its size. */
export interface PngImage {
  png: Uint8Array;
  width: number;
  height: number;
}

/** Appends events to a file. */
export class EventWriter {
  private constructor(
    private readonly file: string,
    private readonly handle: FileHandle,
  ) {}

  static async create(file: string): Promise<EventWriter> {
    const handle = await writing('EventWriter', file, () => open(file, 'wx'));
    const writer = new EventWriter(file, handle);
    try {
      await writer.write({ fileVersion: 'brain.Event:2' });
      return writer;
    } catch (error) {
      await writer.close();
      throw error;
    }
  }

  /** Numbers by tag, at a step. */
  async scalars(step: number, values: Readonly<Record<string, number>>): Promise<void> {
    const value = Object.entries(values).map(([tag, simpleValue]) => ({ tag, simpleValue }));
    await this.write({ step, summary: { value } });
  }

  /** A picture, at a step. */
  async image(step: number, tag: string, { png, width, height }: PngImage): Promise<void> {
    const image = { height, width, colorspace: 3, encodedImageString: png };
    await this.write({ step, summary: { value: [{ tag, image }] } });
  }

  private async write(event: Record<string, unknown>): Promise<void> {
    const whole = { wallTime: Date.now() / 1000, ...event };
    const record = recordOf(eventType.encode(eventType.create(whole)).finish());
    await writing('EventWriter', this.file, () => this.handle.appendFile(record));
  }

  /** Resolves when everything is in the file, which then takes no more. */
  close(): Promise<void> {
    return this.handle.close();
  }
}
