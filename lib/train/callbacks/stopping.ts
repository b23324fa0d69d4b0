/** Ends a run that no longer gets better. */
import { expectBoolean, expectInteger, expectOptions } from '../../check.js';
import { noGrad } from '../../context.js';
import type { Module } from '../../nn/module.js';
import { copyInto } from '../../ops/copy.js';
import { scope } from '../../scope.js';
import type { Tensor } from '../../tensor.js';
import type { Callback, Run } from '../callback.js';
import type { Stateful } from '../checkpoint.js';
import type { Logs } from '../history.js';
import { Monitor, type MonitorOptions } from './monitor.js';

export interface EarlyStoppingOptions extends MonitorOptions {
  /** How many epochs in a row may pass without getting better; 0 where left out. */
  patience?: number;
  /** Whether the model ends with the weights of its best epoch; false where left out. */
  restoreBestWeights?: boolean;
}

/** A copy of a model's tensors, on their devices. */
class Weights implements Stateful {
  private kept = new Map<string, Tensor>();

  take(model: Module): void {
    for (const [name, source] of model.stateDict()) {
      const own = this.kept.get(name);
      if (own?.device === source.device) copyInto(own, source);
      else
        this.set(
          name,
          noGrad(() => scope(() => source.detach().clone())),
        );
    }
  }

  giveBack(model: Module): void {
    if (this.kept.size > 0) model.loadStateDict(this.kept);
  }

  stateDict(): Map<string, Tensor> {
    return this.kept;
  }

  loadStateDict(state: Map<string, Tensor>): void {
    this.dispose();
    for (const [name, source] of state) this.set(name, source.clone());
  }

  dispose(): void {
    for (const tensor of this.kept.values()) tensor.dispose();
    this.kept = new Map();
  }

  private set(name: string, tensor: Tensor): void {
    this.kept.get(name)?.dispose();
    tensor.keep();
    tensor.persistent = true;
    this.kept.set(name, tensor);
  }
}

/**
 * Ends the run once a number has not got better for `patience` epochs, as Keras's callback does. A run
 * that it has ended is not resumed but with more patience.
 * @example new EarlyStopping({ monitor: 'valLoss', patience: 3, restoreBestWeights: true })
 */
export class EarlyStopping implements Callback {
  readonly leavesLogs = true;
  readonly tensors?: Stateful;
  private readonly monitor: Monitor;
  private readonly patience: number;
  private readonly weights: Weights | null;
  private waited = 0;
  private resumed = false;

  constructor(options: EarlyStoppingOptions = {}) {
    const { patience = 0, restoreBestWeights = false } = expectOptions('EarlyStopping', options, [
      'patience',
      'restoreBestWeights',
      'monitor',
      'mode',
      'minDelta',
    ]);
    this.monitor = new Monitor('EarlyStopping', options);
    this.patience = expectInteger('EarlyStopping', 'patience', patience, 0);
    expectBoolean('EarlyStopping', 'restoreBestWeights', restoreBestWeights);
    this.weights = restoreBestWeights ? new Weights() : null;
    if (this.weights) this.tensors = this.weights;
  }

  /** The best number so far; null before the first epoch. */
  get best(): number | null {
    return this.monitor.best;
  }

  onTrainBegin(run: Run): void {
    this.monitor.begin(run);
    if (!this.resumed) {
      this.waited = 0;
      this.monitor.best = null;
      this.weights?.dispose();
    }
    this.resumed = false;
    if (this.waitedEnough) run.stop();
  }

  private get waitedEnough(): boolean {
    return this.waited >= Math.max(1, this.patience);
  }

  onEpochEnd(_: number, logs: Logs, run: Run): void {
    if (this.monitor.improves(this.monitor.in(logs))) {
      this.waited = 0;
      this.weights?.take(run.model);
    } else {
      ++this.waited;
      if (this.waitedEnough) run.stop();
    }
  }

  onTrainEnd(run: Run): void {
    // A run that a signal or an error ended goes on from its last weights, and needs the best ones, too.
    if (run.stopped === 'signal' || run.error !== null) return;
    this.weights?.giveBack(run.model);
    this.weights?.dispose();
  }

  stateDict() {
    return { waited: this.waited, best: this.monitor.best };
  }

  loadStateDict({ waited, best }: { waited: number; best: number | null }): void {
    this.waited = expectInteger('EarlyStopping', 'waited', waited, 0);
    this.monitor.best = best;
    this.resumed = true;
  }
}
