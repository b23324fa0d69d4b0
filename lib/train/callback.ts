/** What callbacks are, and what they see of the run. */
import type { Module } from '../nn/module.js';
import type { AnyOptimizer } from '../optim/schedule.js';
import type { Tensor } from '../tensor.js';
import type { Stateful } from './checkpoint.js';
import type { History, Logs, Stopped } from './history.js';

/** A training run as its callbacks see it. */
export interface Run {
  readonly model: Module;
  readonly optimizer: AnyOptimizer;
  readonly history: History;
  /** How many epochs there will be. */
  readonly epochs: number;
  /** How many batches an epoch has; null where nobody knows. */
  readonly batches: number | null;
  /**
   * The names of the numbers in the logs; null where callbacks of the user's own may add to them.
   */
  readonly names: readonly string[] | null;
  /**
   * Whether the least value of a number in the logs is the best or the largest: of losses and of what
   * metrics tell of themselves, in training and validation; null of all others.
   */
  modeOf(name: string): 'min' | 'max' | null;
  /** Whether it goes on from a checkpoint. */
  readonly resumed: boolean;
  /** Why the run is ending early; null while it is not. */
  readonly stopped: Stopped;
  /** The error that ends the run; null while there is none. */
  readonly error: unknown;
  /** Ends the run after this epoch; in `onBatchEnd`, after this batch. */
  stop(): void;
  /**
   * Writes a checkpoint from which `fit(…, { resume: file })` goes on to the same bits.
   * @throws Error where a loss or a weight is not finite (but with `allowNaN`): `file` stays as it was
   */
  save(file: string): Promise<void>;
}

type Result = void | Promise<void>;

/** Called as training goes; every method may be left out and may be asynchronous. */
export interface Callback {
  /** Before the first epoch; a callback takes its part of the run here. */
  onTrainBegin?(run: Run): Result;
  /**
   * Before `onTrainEnd`, where the run ends within an epoch: by a stop, the signal, or an error (see
   * `run.error`). The model is as after the last step, so this is the place to save the run.
   */
  onInterrupt?(run: Run): Result;
  /** Also where the run ends early or, by an error, abruptly. */
  onTrainEnd?(run: Run): Result;
  /** Before the first batch of an epoch; not again for one that a resumed run goes on with. */
  onEpochBegin?(epoch: number, run: Run): Result;
  /** `logs` has the numbers of the epoch, validation included; what is added goes to the history. */
  onEpochEnd?(epoch: number, logs: Logs, run: Run): Result;
  /** Before the step of a batch. */
  onBatchBegin?(batch: number, run: Run): Result;
  /** The loss is on the device: reading it (`item`) makes the step wait. */
  onBatchEnd?(batch: number, loss: Tensor, run: Run): Result;
  /** Whether it is called after those that are not. */
  readonly last?: boolean;
  /** Whether its `onEpochEnd` adds no numbers to the logs, so that names can be checked early. */
  readonly leavesLogs?: boolean;
  /** What it needs to go on, as JSON can hold it. */
  stateDict?(): unknown;
  /** Goes on from what `stateDict` gave. */
  loadStateDict?(state: never): void;
  /** Tensors it needs to go on. */
  readonly tensors?: Stateful;
}
