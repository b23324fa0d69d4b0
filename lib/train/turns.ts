/** Whose turn it is to run a model: one call at a time, and another while a callback of `fit` runs. */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Module } from '../nn/module.js';

/** Runs work and leaves what it came between as it was. */
export type Aside = <T>(work: () => Promise<T>) => Promise<T>;

export class Turns {
  private running = false;
  /** How another call may run beside the one that is running; null while none may. */
  private aside: Aside | null = null;
  /** Whether the running code was called by a callback. */
  private readonly inCallback = new AsyncLocalStorage<boolean>();
  /** What runs beside. */
  private guest: Promise<unknown> | null = null;

  constructor(private readonly model: Module) {}

  expectIdle(op: string): void {
    if (this.running) throw new Error(`${op}: this model is at work; await what runs before`);
  }

  /** Nothing else runs on this model meanwhile; the modes of its modules are as before. */
  async alone<T>(op: string, work: () => Promise<T>): Promise<T> {
    this.expectIdle(op);
    this.running = true;
    try {
      return await this.inModes(work);
    } finally {
      this.running = false;
    }
  }

  /** The same, but that it may also run while a callback of `fit` does. */
  async beside<T>(op: string, work: () => Promise<T>): Promise<T> {
    const { aside } = this;
    if (!aside || this.guest || !this.inCallback.getStore()) return this.alone(op, work);
    const guest = aside(() => this.inModes(work));
    this.guest = guest;
    try {
      return await guest;
    } finally {
      this.guest = null;
    }
  }

  /** Calls a callback, beside which one call at a time may run; ends when that has ended too. */
  async lend(callback: () => unknown, aside: Aside): Promise<void> {
    this.aside = aside;
    try {
      await this.inCallback.run(true, callback);
    } finally {
      while (this.guest) await this.guest.catch(() => {});
      this.aside = null;
    }
  }

  private async inModes<T>(work: () => Promise<T>): Promise<T> {
    const modes = [...this.model.namedModules()].map(([, m]) => [m, m.training] as const);
    try {
      return await work();
    } finally {
      const [, mode] = modes[0] as (typeof modes)[0];
      this.model.train(mode);
      for (const [module, own] of modes) if (module.training !== own) module.train(own);
    }
  }
}
