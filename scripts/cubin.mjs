// Reads compiled CUDA code without CUDA's tools. An addon holds fat binaries: a header (magic number,
// version, size of the header, bytes that follow) and entries (kind 2: a cubin; size of the entry's
// header, bytes, architecture, flags). A cubin is an ELF file with a section .text.<kernel> each.
// From sm_70 on an instruction has 16 bytes, whose low 12 bits say what it does.

const opcodes = new Map([
  [0x23c, 'HMMA'], // mma.sync
  [0x9f0, 'HGMMA'], // wgmma, both operands in shared memory
  [0xdf0, 'HGMMA'], // wgmma, A in registers
]);

/** Kernels that are built around warpgroup products, by a part of their names. */
export const needsHgmma = /wgmma/;
/** The same for mma.sync, where the architecture has no better. */
export const needsHmma = /_mma_kernel/;

const number = (bytes, at) => Number(bytes.readBigUInt64LE(at));

/** For each kernel of a cubin the numbers of its tensor-core instructions, by name. */
export function tensorInstructions(cubin) {
  if (cubin.readUInt32BE(0) !== 0x7f454c46) throw new Error('cubin: no ELF file');
  const [headers, size] = [number(cubin, 0x28), cubin.readUInt16LE(0x3a)];
  const sections = Array.from({ length: cubin.readUInt16LE(0x3c) }, (_, i) => {
    const at = headers + i * size;
    const [begin, bytes] = [number(cubin, at + 24), number(cubin, at + 32)];
    return { name: cubin.readUInt32LE(at), begin, bytes };
  });
  const names = sections[cubin.readUInt16LE(0x3e)].begin;
  const found = new Map();
  for (const { name, begin, bytes } of sections) {
    const text = cubin.toString('latin1', names + name, cubin.indexOf(0, names + name));
    if (!text.startsWith('.text.')) continue;
    const counts = { HMMA: 0, HGMMA: 0 };
    for (let at = begin; at + 16 <= begin + bytes; at += 16) {
      const kind = opcodes.get(cubin.readUInt16LE(at) & 0xfff);
      if (kind) ++counts[kind];
    }
    found.set(text.slice('.text.'.length), counts);
  }
  return found;
}

const compressed = 0x2000 | 0x8000; // by LZ4, by zstd

/** The cubins of a file's fat binaries: [{ arch, cubin }], cubin null where it is compressed. */
export function cubinsOf(file) {
  const magic = Buffer.from([0x50, 0xed, 0x55, 0xba]);
  const found = [];
  for (let at = file.indexOf(magic); at >= 0; at = file.indexOf(magic, at + 4)) {
    if (file.readUInt16LE(at + 4) !== 1 || file.readUInt16LE(at + 6) !== 16) continue;
    const end = at + 16 + number(file, at + 8);
    for (let entry = at + 16; entry < end; ) {
      const data = entry + file.readUInt32LE(entry + 4);
      const next = data + number(file, entry + 8);
      if (file.readUInt16LE(entry) === 2) {
        const packed = (file.readUInt32LE(entry + 40) & compressed) !== 0;
        const arch = file.readUInt32LE(entry + 28);
        found.push({ arch, cubin: packed ? null : file.subarray(data, next) });
      }
      entry = next;
    }
  }
  return found;
}
