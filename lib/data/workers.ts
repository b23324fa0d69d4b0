/**
 * Datasets in worker threads, for batches that take JavaScript time to make. A worker's program calls
 * {@link serveDataset}; {@link WorkerDataset} asks it for batches and takes them over without copying
 * (lib/share.ts). Each worker has an event loop of its own and opens the dataset for itself.
 */
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { describe, expectFunction, expectInteger, expectOptions } from '../check.js';
import { cpu } from '../device.js';
import { to } from '../ops/copy.js';
import { scope } from '../scope.js';
import { receiveTensor, type SharedTensor, shareTensor } from '../share.js';
import { Tensor } from '../tensor.js';
import { type BatchPlace, type Dataset, expectDataset } from './dataset.js';

interface Request {
  id: number;
  indices: Uint32Array;
  place: BatchPlace | undefined;
}

type Reply =
  | { kind: 'ready'; length: number }
  | { kind: 'failed'; message: string }
  | { kind: 'batch'; id: number; batch: unknown }
  | { kind: 'error'; id: number; message: string };

const expires = 3600; // s: how long a batch may wait for the main thread to take it

function packed(value: unknown): unknown {
  if (value instanceof Tensor) return shareTensor(to(value, cpu), { expires });
  if (Array.isArray(value)) return value.map(packed);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, packed(part)]));
}

function unpacked(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unpacked);
  if (value === null || typeof value !== 'object') return value;
  if ((value as Partial<SharedTensor>).kind === 'nodegrad.tensor') {
    return receiveTensor(value as SharedTensor);
  }
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, unpacked(part)]));
}

/**
 * What a worker's program calls: opens the dataset and answers for it.
 * @param open is given the `data` of {@link WorkerDataset.start}
 * @example
 * // worker.js
 * import { serveDataset } from 'nodegrad';
 * serveDataset(({ dir }) => new MyDataset(dir));
 */
export function serveDataset<D>(
  open: (data: D) => Dataset<unknown> | Promise<Dataset<unknown>>,
): void {
  const op = 'serveDataset';
  expectFunction(op, 'its argument', open);
  const port = parentPort;
  if (!port) throw new Error(`${op}: must be called in a worker thread, got the main thread`);
  const reply = (message: Reply) => port.postMessage(message);
  const opened = (async () => expectDataset(op, await open(workerData as D)))();
  opened.then(
    ({ length }) => reply({ kind: 'ready', length }),
    (error) => reply({ kind: 'failed', message: String(error?.message ?? error) }),
  );
  port.on('message', ({ id, indices, place }: Request) => {
    scope(async () => {
      const dataset = await opened;
      reply({ kind: 'batch', id, batch: packed(await dataset.batch(indices, place)) });
    }).catch((error) => reply({ kind: 'error', id, message: String(error?.message ?? error) }));
  });
}

interface Waiting {
  resolve(batch: unknown): void;
  reject(error: Error): void;
}

/** One worker, started again when it is needed after its end. */
class Lane {
  readonly waiting = new Map<number, Waiting>();
  private worker: Worker | null = null;
  private length: Promise<number> | null = null;

  constructor(
    private readonly program: string | URL,
    private readonly data: unknown,
    private readonly name: string,
  ) {}

  start(): Promise<number> {
    this.length ??= new Promise((resolve, reject) => {
      const worker = new Worker(this.program, { workerData: this.data });
      this.worker = worker;
      let failure: Error | null = null;
      worker.on('message', (reply: Reply) => {
        if (reply.kind === 'ready') resolve(reply.length);
        else if (reply.kind === 'failed') reject(new Error(`WorkerDataset: ${reply.message}`));
        else this.settle(reply);
      });
      worker.on('error', (error) => {
        failure = error instanceof Error ? error : new Error(String(error));
      });
      worker.on('exit', (code) => {
        const why = failure ? failure.message.split('\n')[0] : `exit code ${code}`;
        const ended = new Error(`WorkerDataset: ${this.name} ended (${why})`, { cause: failure });
        this.worker = null;
        this.length = null;
        reject(ended);
        for (const { reject: give } of this.waiting.values()) give(ended);
        this.waiting.clear();
      });
    });
    return this.length;
  }

  async ask(request: Request): Promise<unknown> {
    await this.start();
    return new Promise((resolve, reject) => {
      if (!this.worker) {
        reject(new Error(`WorkerDataset: ${this.name} ended`));
        return;
      }
      this.worker.ref();
      this.waiting.set(request.id, { resolve, reject });
      this.worker.postMessage(request);
    });
  }

  /** Lets the process end while nothing is asked for. */
  rest(): void {
    if (this.waiting.size === 0) this.worker?.unref();
  }

  async stop(): Promise<void> {
    await this.worker?.terminate();
  }

  private settle(reply: Extract<Reply, { id: number }>): void {
    const found = this.waiting.get(reply.id);
    this.waiting.delete(reply.id);
    if (reply.kind === 'batch') found?.resolve(reply.batch);
    else found?.reject(new Error(reply.message));
    this.rest();
  }
}

export interface WorkerDatasetOptions {
  /** Number of workers; 2 where left out. */
  workers?: number;
  /** What each worker's program is given; anything that can be sent to a thread. */
  data?: unknown;
}

/**
 * A dataset whose batches are made in worker threads. A worker that ends is an error of the batches
 * it was asked for, and is started again for the next; the loader's `stateDict` still says which
 * batch is due.
 * @example
 * const program = new URL('./worker.js', import.meta.url);
 * const data = await WorkerDataset.start<[Tensor, Tensor]>(program, { workers: 4, data: { dir } });
 * const loader = new DataLoader(data, { batchSize: 32, prefetch: 8 });
 */
export class WorkerDataset<B extends object> implements Dataset<B> {
  private count = 0;

  private constructor(
    readonly length: number,
    private readonly lanes: readonly Lane[],
  ) {}

  /** @param program the file of the workers' program, as a path or a URL */
  static async start<B extends object>(
    program: string | URL,
    options: WorkerDatasetOptions = {},
  ): Promise<WorkerDataset<B>> {
    const op = 'WorkerDataset';
    if (typeof program !== 'string' && !(program instanceof URL)) {
      throw new TypeError(`${op}: the program must be a path or a URL, got ${describe(program)}`);
    }
    const { workers = 2, data } = expectOptions(op, options, ['workers', 'data']);
    expectInteger(op, 'workers', workers, 1, 256);
    const lanes = Array.from({ length: workers }, (_, i) => {
      return new Lane(program, data, `worker ${i + 1} of ${workers}`);
    });
    try {
      const lengths = await Promise.all(lanes.map((lane) => lane.start()));
      for (const lane of lanes) lane.rest();
      return new WorkerDataset<B>(lengths[0] as number, lanes);
    } catch (error) {
      await Promise.allSettled(lanes.map((lane) => lane.stop()));
      throw error;
    }
  }

  async batch(indices: Uint32Array, place?: BatchPlace): Promise<B> {
    const lane = this.lanes.reduce((a, b) => (b.waiting.size < a.waiting.size ? b : a));
    return unpacked(await lane.ask({ id: this.count++, indices, place })) as B;
  }

  /** Ends the workers. */
  async close(): Promise<void> {
    await Promise.all(this.lanes.map((lane) => lane.stop()));
  }
}
