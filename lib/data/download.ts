/**
 * Files from the network, kept in a cache folder. A download goes to `FILE.part` and takes its name
 * only when it is whole; one that broke off goes on where it stopped (HTTP ranges), if the server
 * still has the same file (If-Range). Who asks for a file that another is fetching waits for it.
 */
import { existsSync } from 'node:fs';
import { open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { SingleBar } from 'cli-progress';
import { type AllNames, expectFunction, expectNames, expectSignal, type NameOf } from '../check.js';
import { makeOnce } from '../io/lock.js';
import { sleep } from '../io/sleep.js';

/** Bytes done and bytes in all; null where the server does not say. */
export type DownloadProgress = (done: number, total: number | null) => void;

export interface DownloadOptions {
  /** Ends the download; what is there is kept for the next. */
  signal?: AbortSignal;
  /** Called as bytes come in; true draws a bar on a terminal. */
  progress?: boolean | DownloadProgress;
}

/** What a dataset adds to the options. */
export interface DownloadPlan extends DownloadOptions {
  /** Who asks, for errors. */
  op: string;
  /** What to do where there is no network, for errors. */
  instead: string;
  /** Throws where the whole file is not what it must be; it is removed then. */
  check?: (file: string) => Promise<void>;
}

/** NODEGRAD_CACHE, else XDG_CACHE_HOME/nodegrad, else ~/.cache/nodegrad. */
export function cacheFolder(): string {
  const { NODEGRAD_CACHE, XDG_CACHE_HOME } = process.env;
  if (NODEGRAD_CACHE) return path.resolve(NODEGRAD_CACHE);
  return path.join(XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'nodegrad');
}

export function expectDownloadOptions<
  T extends DownloadOptions,
  const Known extends readonly NameOf<T>[],
>(op: string, options: T, known: AllNames<T, Known>): T {
  const { signal, progress } = expectNames(op, options, known);
  expectSignal(op, signal);
  if (progress !== undefined && typeof progress !== 'boolean') {
    expectFunction(op, 'progress', progress);
  }
  return options;
}

function bar(name: string): { show: DownloadProgress; stop(): void } {
  const format = `${name} [{bar}] {percentage}% | {megabytes} MB | {eta_formatted}`;
  const drawn = new SingleBar({ format, hideCursor: true, clearOnComplete: true });
  let started = false;
  return {
    show(done, total) {
      if (total === null) return;
      const megabytes = (done / 1e6).toFixed(1);
      if (!started) drawn.start(total, done, { megabytes });
      else drawn.update(done, { megabytes });
      started = true;
    },
    stop: () => drawn.stop(),
  };
}

/** The system's word for what went wrong, as ENOTFOUND. */
function reason(error: unknown): string {
  const { cause, message } = error as Error & { cause?: { code?: string; message?: string } };
  return cause?.code ?? cause?.message ?? message;
}

class Refused extends Error {}

/** Whether the file could not be written, rather than fetched. */
function isOfDisk(error: unknown): boolean {
  const { syscall, path: file } = error as NodeJS.ErrnoException;
  return syscall === 'write' || syscall === 'fsync' || file !== undefined;
}

const attempts = 4;
const pause = 200; // ms, doubled at each attempt that brought nothing

/**
 * Downloads a file unless it is there.
 * @returns its path
 * @throws Error in one sentence that says what to do: offline, refused, broken off, not the file
 */
export async function download(url: string, file: string, plan: DownloadPlan): Promise<string> {
  const isThere = () => existsSync(file);
  await makeOnce(plan.op, file, plan.signal, isThere, () => fetchWhole(url, file, plan));
  return file;
}

/** Fetches a file, in as many requests as it takes. */
async function fetchWhole(url: string, file: string, plan: DownloadPlan): Promise<void> {
  const { op, instead, progress, check } = plan;
  const drawn = progress === true && process.stderr.isTTY ? bar(path.basename(file)) : null;
  const show = typeof progress === 'function' ? progress : (drawn?.show ?? (() => {}));
  const part = `${file}.part`;
  let most = await sizeOf(part);
  try {
    for (let attempt = 1; ; ++attempt) {
      try {
        await fetchRest(url, part, plan, show);
        break;
      } catch (error) {
        plan.signal?.throwIfAborted();
        if (error instanceof Refused || isOfDisk(error)) throw error;
        const done = await sizeOf(part);
        if (done > most) attempt = 0;
        most = Math.max(most, done);
        if (attempt >= attempts || (done === 0 && attempt > 1)) {
          const what = done > 0 ? `broke off after ${done} bytes` : 'cannot be reached';
          const next = done > 0 ? 'run it again to go on from there, or ' : '';
          throw new Error(`${op}: ${url} ${what} (${reason(error)}): ${next}${instead}`, {
            cause: error,
          });
        }
        await sleep(pause * 2 ** attempt, plan.signal);
      }
    }
  } finally {
    drawn?.stop();
  }
  try {
    await check?.(part);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
  await rename(part, file);
  await rm(tagOf(part), { force: true });
}

async function sizeOf(file: string): Promise<number> {
  return stat(file).then(
    ({ size }) => size,
    () => 0,
  );
}

const tagOf = (part: string) => `${part}.tag`;

/** One request: for the rest of the file where a part of it is there. */
async function fetchRest(
  url: string,
  part: string,
  { op, instead, signal }: DownloadPlan,
  show: DownloadProgress,
): Promise<void> {
  let start = await sizeOf(part);
  const tag = start > 0 ? await readFile(tagOf(part), 'utf8').catch(() => '') : '';
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (tag) Object.assign(headers, { range: `bytes=${start}-`, 'if-range': tag });
  const response = await fetch(url, { headers, ...(signal && { signal }) });
  if (response.status === 416) {
    await rm(part, { force: true });
    throw new Error('the part is longer than the file');
  }
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    const answer = `${response.status} ${response.statusText}`.trim();
    if (response.status >= 500 || response.status === 429) throw new Error(answer);
    throw new Refused(`${op}: ${url} is refused by its server (${answer}): ${instead}`);
  }
  const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '');
  const appends = response.status === 206 && range !== null && Number(range[1]) === start;
  if (!appends) start = 0;
  const length = response.headers.get('content-length');
  const encoded = response.headers.get('content-encoding') !== null;
  const total = length === null || encoded ? null : start + Number(length);
  const etag = response.headers.get('etag');
  const strong = etag?.startsWith('W/') ? null : etag;
  await writeFile(tagOf(part), strong ?? response.headers.get('last-modified') ?? '');
  let done = start;
  // Chunk by chunk, not by a pipeline, which would drop what it holds when the connection breaks.
  const handle = await open(part, appends ? 'a' : 'w');
  let size: number;
  try {
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      await handle.writeFile(chunk);
      done += chunk.length;
      show(done, total);
    }
    await handle.sync();
    ({ size } = await handle.stat());
  } finally {
    await handle.close();
  }
  if (total !== null && size !== total) throw new Error(`${total} bytes were announced`);
}
