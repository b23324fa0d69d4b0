/** Files inside archives: zip by yauzl, tar (plain, .gz) by tar-stream. Both are read as streams. */
import { createReadStream } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline, type Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import tar from 'tar-stream';
import yauzl from 'yauzl';

/**
 * One file of a zip as a stream of bytes.
 * @param member its name or the end of it; the only file where left out
 */
export function openInZip(op: string, file: string, member?: string): Promise<Readable> {
  return new Promise((resolve, reject) => {
    const refuse = (why: string, cause?: unknown) => {
      reject(new Error(`${op}: ${file} ${why}`, { cause }));
    };
    yauzl.open(file, { lazyEntries: true, autoClose: false }, (failed, zip) => {
      if (failed) {
        refuse(`is damaged: ${failed.message}`, failed);
        return;
      }
      const entries: yauzl.Entry[] = [];
      zip.on('error', (error) => {
        zip.close();
        refuse(`is damaged: ${error.message}`, error);
      });
      zip.on('entry', (entry: yauzl.Entry) => {
        if (!entry.fileName.endsWith('/')) entries.push(entry);
        zip.readEntry();
      });
      zip.on('end', () => {
        const fits = entries.filter(({ fileName }) => !member || fileName.endsWith(member));
        const [entry] = fits;
        if (!entry || fits.length > 1) {
          zip.close();
          const names = entries.map(({ fileName }) => fileName).join(', ');
          refuse(`must hold one file${member ? ` ${member}` : ''}, it has ${names || 'none'}`);
          return;
        }
        zip.openReadStream(entry, (error, stream) => {
          if (error) {
            zip.close();
            refuse(`is damaged: ${error.message}`, error);
            return;
          }
          stream.once('close', () => zip.close());
          resolve(stream);
        });
      });
      zip.readEntry();
    });
  });
}

/** The files of a tar archive, gzipped or not: name and content, in the archive's order. */
export async function* readTar(
  op: string,
  file: string,
): AsyncGenerator<{ name: string; bytes: Buffer }> {
  const extract = tar.extract();
  const source = createReadStream(file);
  const done = () => {};
  if (/gz$/i.test(file)) pipeline(source, createGunzip(), extract, done);
  else pipeline(source, extract, done);
  try {
    for await (const entry of extract) {
      const chunks: Buffer[] = [];
      for await (const chunk of entry) chunks.push(chunk as Buffer);
      if (entry.header.type === 'file') {
        yield { name: entry.header.name, bytes: Buffer.concat(chunks) };
      }
    }
  } catch (error) {
    throw new Error(`${op}: ${file} is damaged: ${(error as Error).message}`, { cause: error });
  } finally {
    source.destroy();
    extract.destroy();
  }
}

/**
 * Unpacks files of a tar archive into a folder, which takes its name only when all are there.
 * @param place where an archive's file goes in the folder, or null for files that are not wanted
 */
export async function unpackTar(
  op: string,
  file: string,
  folder: string,
  place: (name: string) => string | null,
): Promise<void> {
  const temporary = `${folder}.${process.pid}.tmp`;
  const made = new Set<string>();
  try {
    for await (const { name, bytes } of readTar(op, file)) {
      const inside = place(name);
      if (inside === null) continue;
      const at = path.join(temporary, inside);
      const parent = path.dirname(at);
      if (!made.has(parent)) await mkdir(parent, { recursive: true });
      made.add(parent);
      await writeFile(at, bytes);
    }
    if (made.size === 0) throw new Error(`${op}: ${file} has none of the files that are needed`);
    await rename(temporary, folder);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
