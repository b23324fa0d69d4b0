import { spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import tar from 'tar-stream';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { cacheFolder, download } from '../../lib/data/download.js';
import { DataLoader, datasets, TextFolder, tokenize, Vocabulary } from '../../lib/index.js';

let server: Server;
let base = '';
let folder = '';
const files = new Map<string, Buffer>();
let requests: { url: string; range: string | undefined; sent: number }[] = [];
/** How many bytes an answer may send before the server hangs up; Infinity for none. */
let dieAfter: () => number = () => Number.POSITIVE_INFINITY;
let etag = '"one"';
let ranges = true;

function answer(request: IncomingMessage, response: ServerResponse): void {
  const url = request.url ?? '';
  const range = request.headers.range;
  const file = files.get(url);
  const entry = { url, range, sent: 0 };
  requests.push(entry);
  if (!file) {
    response.writeHead(404).end('no such file');
    return;
  }
  const from = /^bytes=(\d+)-$/.exec(range ?? '');
  const same = request.headers['if-range'] === etag;
  let body = file;
  if (ranges && from && same && Number(from[1]) >= file.length) {
    response.writeHead(416, { 'content-range': `bytes */${file.length}` }).end();
    return;
  }
  if (ranges && from && same) {
    body = file.subarray(Number(from[1]));
    response.writeHead(206, {
      etag,
      'content-length': body.length,
      'content-range': `bytes ${from[1]}-${file.length - 1}/${file.length}`,
    });
  } else response.writeHead(200, { etag, 'content-length': file.length });
  const most = dieAfter();
  entry.sent = Math.min(most, body.length);
  response.write(body.subarray(0, most), () => {
    // A moment later: what arrives together with the end of a connection is lost.
    if (most < body.length) setTimeout(() => response.socket?.destroy(), 50);
    else response.end();
  });
}

beforeAll(async () => {
  server = createServer(answer).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nodegrad-download-'));
  process.env.NODEGRAD_CACHE = folder;
  requests = [];
  files.clear();
  dieAfter = () => Number.POSITIVE_INFINITY;
  etag = '"one"';
  ranges = true;
});
afterEach(async () => {
  delete process.env.NODEGRAD_CACHE;
  await rm(folder, { recursive: true });
});

const big = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => (i * 31) >> 3));
const plan = { op: 'test', instead: 'give `dir`' };
const get = (more: object = {}) =>
  download(`${base}/big`, path.join(folder, 'deep/big'), { ...plan, ...more });

describe('download', () => {
  it('writes a whole file once, and tells how it goes', async () => {
    files.set('/big', big);
    const seen: [number, number | null][] = [];
    const progress = (done: number, total: number | null) => seen.push([done, total]);
    const file = await get({ progress });
    expect((await readFile(file)).equals(big)).toBe(true);
    expect(seen.at(-1)).toEqual([300_000, 300_000]);
    expect(await get()).toBe(file);
    expect(requests).toHaveLength(1);
    expect(await readdir(path.dirname(file))).toEqual(['big']);
  });

  it('goes on where a connection broke off', async () => {
    files.set('/big', big);
    dieAfter = () => (requests.length < 3 ? 100_000 : Number.POSITIVE_INFINITY);
    const file = await get();
    expect((await readFile(file)).equals(big)).toBe(true);
    const starts = requests.map(({ range }) => Number(/\d+/.exec(range ?? '0')?.[0]));
    expect(starts[0]).toBe(0);
    expect(starts[1]).toBeGreaterThan(0);
    expect(starts[2]).toBeGreaterThan(starts[1] as number);
  });

  it('goes on in a later run, but not with another file', async () => {
    files.set('/big', big);
    const control = new AbortController();
    dieAfter = () => 50_000;
    const progress = (done: number) => done >= 30_000 && control.abort();
    await expect(get({ signal: control.signal, progress })).rejects.toThrow(/abort/i);
    const part = path.join(folder, 'deep/big.part');
    expect((await stat(part)).size).toBeGreaterThan(0);
    dieAfter = () => Number.POSITIVE_INFINITY;
    etag = '"two"';
    const other = Buffer.alloc(200_000, 9);
    files.set('/big', other);
    expect((await readFile(await get())).equals(other)).toBe(true);
    expect(requests.at(-1)?.range).toMatch(/bytes=[1-9]/);

    await rm(path.join(folder, 'deep'), { recursive: true });
    await mkdir(path.join(folder, 'deep'));
    await writeFile(part, other.subarray(0, 70_000));
    await writeFile(`${part}.tag`, etag);
    expect((await readFile(await get())).equals(other)).toBe(true);
    expect(requests.at(-1)?.sent).toBe(130_000);
  });

  it('starts anew where the server knows no ranges or the part is too long', async () => {
    files.set('/big', big);
    await mkdir(path.join(folder, 'deep'));
    const part = path.join(folder, 'deep/big.part');
    await writeFile(part, 'some other start');
    await writeFile(`${part}.tag`, etag);
    ranges = false;
    expect((await readFile(await get())).equals(big)).toBe(true);
    await rm(path.join(folder, 'deep/big'));
    await writeFile(part, Buffer.alloc(400_000));
    await writeFile(`${part}.tag`, etag);
    ranges = true;
    expect((await readFile(await get())).equals(big)).toBe(true);
  });

  it('says in one sentence what is wrong and what to do', async () => {
    await expect(get()).rejects.toThrow(
      /^test: http.*\/big is refused by its server \(404 Not Found\): give `dir`$/,
    );
    expect(requests).toHaveLength(1);
    await expect(download('http://127.0.0.1:9/x', path.join(folder, 'x'), plan)).rejects.toThrow(
      /^test: http:\/\/127.0.0.1:9\/x cannot be reached \(.+\): give `dir`$/,
    );
    files.set('/big', big);
    dieAfter = () => 0;
    ranges = false;
    await expect(get()).rejects.toThrow(/cannot be reached|broke off/);
    dieAfter = () => Number.POSITIVE_INFINITY;
    const check = async () => {
      throw new Error('test: not the file');
    };
    await expect(get({ check })).rejects.toThrow('test: not the file');
    expect(await readdir(path.join(folder, 'deep'))).not.toContain('big');
  });

  it('gives up on a server that keeps dying, and keeps what is there', async () => {
    files.set('/big', big);
    let answers = 0;
    dieAfter = () => (answers++ === 0 ? 10_000 : 0);
    await expect(get()).rejects.toThrow(
      /broke off after \d+ bytes \(.*\): run it again to go on from there, or give `dir`$/,
    );
    expect((await stat(path.join(folder, 'deep/big.part'))).size).toBeGreaterThan(0);
  });

  it('waits for another that fetches the same file', async () => {
    files.set('/big', big);
    const deep = path.join(folder, 'deep');
    await mkdir(deep);
    await writeFile(path.join(deep, 'big.part'), big.subarray(0, 70_000));
    await writeFile(path.join(deep, 'big.part.tag'), etag);
    const found = await Promise.all([get(), get(), get()]);
    for (const file of found) expect((await readFile(file)).equals(big)).toBe(true);
    expect(requests.map(({ sent }) => sent)).toEqual([230_000]);
    expect(await readdir(deep)).toEqual(['big']);
  });

  it('waits for another process, until that has ended', async () => {
    files.set('/big', big);
    const deep = path.join(folder, 'deep');
    await mkdir(deep);
    const other = spawn('sleep', ['60']);
    const ended = new Promise((resolve) => other.once('exit', resolve));
    await writeFile(path.join(deep, 'big.lock'), `${hostname()} ${other.pid} 0 1`);
    const signal = AbortSignal.timeout(300);
    await expect(get({ signal })).rejects.toThrow(/abort/i);
    expect(requests).toEqual([]);
    const waiting = [get(), get()];
    other.kill();
    await ended;
    for (const file of await Promise.all(waiting)) {
      expect((await readFile(file)).equals(big)).toBe(true);
    }
    expect(requests).toHaveLength(1);
    expect(await readdir(deep)).toEqual(['big']);
  });

  it('takes away a lock of another machine that nobody touched for a minute', async () => {
    files.set('/big', big);
    const deep = path.join(folder, 'deep');
    await mkdir(deep);
    const lock = path.join(deep, 'big.lock');
    await writeFile(lock, 'elsewhere 1 0 1');
    await expect(get({ signal: AbortSignal.timeout(300) })).rejects.toThrow(/abort/i);
    const before = Date.now() / 1000 - 61;
    await utimes(lock, before, before);
    expect((await readFile(await get())).equals(big)).toBe(true);
    expect(await readdir(deep)).toEqual(['big']);
  });

  it('names a file that cannot be written', async () => {
    const instead = 'put it there yourself';
    await expect(
      download(`${base}/big`, '/proc/self/big', { op: 'datasets.big', instead }),
    ).rejects.toThrow(/^datasets.big: cannot write \/proc\/self\/big: ENOENT/);
    expect(requests).toEqual([]);
  });

  it('does not take a part for whole to which another has written', async () => {
    files.set('/big', big);
    const deep = path.join(folder, 'deep');
    let spoilt = false;
    const progress = (done: number) => {
      if (spoilt || done < big.length) return;
      appendFileSync(path.join(deep, 'big.part'), Buffer.alloc(100_000));
      spoilt = true;
    };
    expect((await readFile(await get({ progress }))).equals(big)).toBe(true);
  });

  it('takes its cache from the environment', () => {
    expect(cacheFolder()).toBe(folder);
    delete process.env.NODEGRAD_CACHE;
    const before = process.env.XDG_CACHE_HOME;
    process.env.XDG_CACHE_HOME = '/some/where';
    expect(cacheFolder()).toBe('/some/where/nodegrad');
    delete process.env.XDG_CACHE_HOME;
    expect(cacheFolder()).toMatch(/\/\.cache\/nodegrad$/);
    if (before !== undefined) process.env.XDG_CACHE_HOME = before;
  });
});

function idx(shape: number[], values: number[]): Buffer {
  const header = Buffer.alloc(4 + 4 * shape.length);
  header.set([0, 0, 8, shape.length]);
  for (const [i, size] of shape.entries()) header.writeUInt32BE(size, 4 + 4 * i);
  return gzipSync(Buffer.concat([header, Buffer.from(values)]));
}

describe('datasets by name', () => {
  it('fetch Fashion-MNIST into the cache, and refuse another MNIST', async () => {
    for (const part of ['train', 't10k']) {
      files.set(`/${part}-images-idx3-ubyte.gz`, idx([2, 1, 1], [7, 8]));
      files.set(`/${part}-labels-idx1-ubyte.gz`, idx([2], [9, 0]));
    }
    const { train, test } = await datasets.fashionMnist({ url: base });
    expect([train.images.toArray(), test.labels.toArray()]).toEqual([
      [[[7]], [[8]]],
      [9, 0],
    ]);
    await datasets.fashionMnist({ url: base });
    expect(requests).toHaveLength(4);
    await expect(datasets.mnist({ url: base })).rejects.toThrow(
      /datasets.mnist: .*train-images-idx3-ubyte.gz must have SHA-256 ba89.* unpacked, got [0-9a-f]+$/,
    );
    await writeFile(
      path.join(folder, 'fashion-mnist/train-labels-idx1-ubyte.gz'),
      idx([2], [1, 12]),
    );
    await expect(datasets.fashionMnist({ url: base })).rejects.toThrow(
      /train-labels-idx1-ubyte.gz must hold labels in \[0,10\), got 12 at 1/,
    );
    await expect(
      datasets.fashionMnist({ url: 'http://127.0.0.1:9', dir: '/none' }),
    ).rejects.toThrow(/\/none must have the file/);
    await rm(path.join(folder, 'fashion-mnist'), { recursive: true });
    await expect(datasets.fashionMnist({ url: 'http://127.0.0.1:9' })).rejects.toThrow(
      /cannot be reached .*: without a network, give the folder of .* as `dir` \(--data DIR/,
    );
    await expect(datasets.mnist({ progress: 3 as never })).rejects.toThrow(
      /progress must be a func/,
    );
  });

  it('fetch IMDB, unpack it and read it as a stream and by batches', async () => {
    const pack = tar.pack();
    for (const part of ['train', 'test']) {
      for (const [name, text] of [
        ['pos/0_9.txt', `${part} great film`],
        ['pos/1_10.txt', 'great fun'],
        ['neg/0_1.txt', 'poor film'],
        ['unsup/0_0.txt', 'who knows'],
      ] as const) {
        pack.entry({ name: `aclImdb/${part}/${name}` }, text);
      }
    }
    pack.entry({ name: 'aclImdb/../../evil.txt' }, 'no');
    pack.finalize();
    const chunks: Buffer[] = [];
    for await (const chunk of pack) chunks.push(chunk as Buffer);
    const packed = gzipSync(Buffer.concat(chunks));
    files.set('/imdb', packed.subarray(0, packed.length - 60));
    await expect(datasets.imdb({ url: `${base}/imdb` })).rejects.toThrow(
      /aclImdb_v1.tar.gz is damaged: /,
    );
    expect(await readdir(path.join(folder, 'imdb'))).toEqual(['aclImdb_v1.tar.gz']);
    await rm(path.join(folder, 'imdb'), { recursive: true });
    files.set('/imdb', packed);
    const both = [1, 2].map(() => datasets.imdb({ url: `${base}/imdb` })); // one unpacks
    const [{ train, test }] = (await Promise.all(both)) as [Awaited<(typeof both)[0]>];
    expect([train.length, train.classes, train.labels]).toEqual([3, ['neg', 'pos'], [0, 1, 1]]);
    expect(await test.stream().toArray()).toEqual([
      { text: 'poor film', label: 0 },
      { text: 'test great film', label: 1 },
      { text: 'great fun', label: 1 },
    ]);
    const words = await Vocabulary.build(train.stream().map(({ text }) => tokenize(text)));
    expect(words.words.slice(2)).toEqual(['film', 'great', 'fun', 'poor', 'train']);
    for await (const { text, label } of new DataLoader(train, { batchSize: 3 })) {
      expect([text[2], label.dtype, label.toArray()]).toEqual(['great fun', 'int64', [0, 1, 1]]);
    }
    const again = await datasets.imdb({ dir: path.join(folder, 'imdb/aclImdb') });
    expect(again.train.files).toEqual(train.files);
    await expect(datasets.imdb({ dir: folder })).rejects.toThrow(/must have \{train,test\}/);
    expect(() => new TextFolder(path.join(folder, 'none'))).toThrow(/cannot read .*none/);
    expect(() => new TextFolder(path.join(folder, 'imdb'))).toThrow(
      /the class .*aclImdb must have .txt files, got none/,
    );
  });

  it('read GloVe from a folder', async () => {
    const vocabulary = new Vocabulary(['film']);
    await writeFile(path.join(folder, 'glove.6B.50d.txt.gz'), gzipSync(`film${' 1'.repeat(50)}\n`));
    const { weight, found } = await datasets.glove(vocabulary, { dir: folder, width: 50 });
    expect([weight.shape, found, weight.sum().item()]).toEqual([[1, 50], 1, 50]);
    await expect(datasets.glove(vocabulary, { dir: folder })).rejects.toThrow(
      /must have one of the files glove.6B.100d.txt, glove.6B.100d.txt.gz, glove.6B.zip/,
    );
    await expect(datasets.glove(vocabulary, { width: 64 })).rejects.toThrow(/width must be one of/);
  });
});
