/** One side of the contest of kernels: a process that is warm and answers lines of JSON. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { KernelCase } from './case.js';

/** A line to a rival: make a case ready, or run its step so many times. */
export type Request =
  | {
      item: KernelCase;
      /** How many copies of the inputs take turns, so that they do not stay in the cache. */
      sets: number;
      folder: string;
      /** Whether to compare the results in the folder with the reference. */
      compare: boolean;
      checked?: boolean;
      wanted?: readonly string[];
    }
  | { steps: number };

/** A line back. */
export interface Answer {
  missing?: string;
  details?: string;
  sets?: number;
  checked?: boolean;
  wanted?: readonly string[];
  errors?: { ours?: number; rival?: number };
  seconds?: number;
}

const patience = 150_000; // ms for an answer: compilers may take a minute
/** After such errors a process computes nothing any more, or holds the memory that it lacked. */
const broken = /CUDA error|cuda\w*Error|out of memory|illegal|launch fail/i;

export class Rival {
  /** What it computes with, as it says itself. */
  details = '';
  #child: ChildProcessWithoutNullStreams | null = null;
  #lines: AsyncIterator<string> | null = null;

  constructor(
    readonly name: string,
    readonly command: readonly string[],
  ) {}

  /** Starts the process; why it is not there, if it is not. */
  async start(): Promise<string | null> {
    const [program, ...args] = this.command;
    const child = spawn(program as string, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.on('error', () => {}); // its end is told by the missing answer
    this.#child = child as unknown as ChildProcessWithoutNullStreams;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const failed = new Promise<Answer>((resolve) => {
      child.once('error', (error) => resolve({ missing: error.message }));
    });
    const { missing, details = '' } = await Promise.race([this.#answer(), failed]);
    this.details ||= details;
    if (missing !== undefined) this.#kill();
    return missing ?? null;
  }

  /** The answer to a request; of a process that was lost or broke, a new one takes the next case. */
  async ask(request: Request): Promise<Answer> {
    if (!this.#child) {
      if (!('item' in request)) return { missing: `${this.name} has ended` };
      const missing = await this.start();
      if (missing !== null) return { missing };
    }
    this.#child?.stdin.write(`${JSON.stringify(request)}\n`);
    const answer = await this.#answer();
    if (answer.missing !== undefined && broken.test(answer.missing)) this.#kill();
    return answer;
  }

  end(): void {
    this.#child?.stdin.end();
  }

  #kill(): void {
    this.#child?.kill('SIGKILL');
    this.#child = null;
  }

  async #answer(): Promise<Answer> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), patience);
    });
    const line = await Promise.race([(this.#lines as AsyncIterator<string>).next(), late]);
    clearTimeout(timer);
    if (line !== 'late' && !line.done) return JSON.parse(line.value) as Answer;
    this.#kill();
    const why = line === 'late' ? `gave no answer in ${patience / 1000} s` : 'ended';
    return { missing: `${this.name} ${why}` };
  }
}
