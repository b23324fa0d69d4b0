/**
 * GradScaler: losses are multiplied by a scale so that small gradients survive float16, gradients
 * are divided by it again before the update. A step whose gradients are not all finite is skipped
 * and the scale made smaller; after many good steps it is made larger. As torch.cuda.amp.GradScaler
 * has it, but scale, check and decision stay on the device: nothing is read, so that it works in
 * captured steps. Source: Micikevicius et al. 2018.
 *
 * The optimizer's kernels read the flag and change nothing where it is set. Cost: a pass over the
 * gradients, one launch per device and dtype; one to clear each flag, one for the scale.
 */
import {
  describe,
  expectBoolean,
  expectInteger,
  expectOptions,
  expectRange,
  expectTensor,
  expectTensorMap,
} from '../check.js';
import { noGrad } from '../context.js';
import type { Device } from '../device.js';
import { observe } from '../guards.js';
import { native } from '../native.js';
import { maximum, mul } from '../ops/binary.js';
import { copyInto, to } from '../ops/copy.js';
import { full } from '../ops/fill.js';
import type { Tensor } from '../tensor.js';
import { Optimizer } from './optimizer.js';
import { handles } from './rules.js';

declare module '../native.js' {
  interface NativeKernels {
    unscaleGradients(grads: Numbers, scale: Handle, found: Handle): void;
    updateScale(
      scale: Handle,
      growthTracker: Handle,
      found: Handle,
      growthFactor: number,
      backoffFactor: number,
      growthInterval: number,
    ): void;
  }
}

export interface GradScalerOptions {
  /** The scale at first; 65536 where left out. */
  initScale?: number;
  /** What the scale is multiplied by after `growthInterval` good steps; 2 where left out. */
  growthFactor?: number;
  /** What it is multiplied by after a skipped step; 0.5 where left out. */
  backoffFactor?: number;
  /** 2000 where left out. */
  growthInterval?: number;
  /** False makes every method pass things through. */
  enabled?: boolean;
}

/** How far an optimizer is in its step; on the host, so a captured step watches it. */
interface Progress {
  stage: 'ready' | 'unscaled' | 'stepped';
  /** Per device of its parameters, whether a gradient was not finite: of any device, once unscaled. */
  readonly found: Map<Device, Tensor>;
}

/** Whether one of several flags is set, on the device of the first. */
function foundAnywhere(flags: readonly Tensor[]): Tensor {
  const { device } = flags[0] as Tensor;
  return noGrad(() => flags.reduce((a, b) => maximum(a, to(b, device))));
}

// biome-ignore lint/suspicious/noExplicitAny: any optimizer will do
type AnyOptimizer = Optimizer<any>;

/**
 * Multiplies losses by a scale that keeps small gradients of float16 from vanishing, divides the
 * gradients by it before a step, and skips steps whose gradients are not all finite.
 * @example
 * const scaler = new GradScaler();
 * const loss = autocast({ dtype: 'float16' }, () => criterion.forward(model.forward(x), y));
 * scaler.scale(loss).backward();
 * scaler.step(optimizer);
 * scaler.update();
 */
export class GradScaler {
  private readonly options: Required<GradScalerOptions>;
  private readonly progress = new Map<AnyOptimizer, Progress>();
  private state: { scale: Tensor; growthTracker: Tensor } | null = null;

  constructor(options: GradScalerOptions = {}) {
    this.options = {
      initScale: 65536,
      growthFactor: 2,
      backoffFactor: 0.5,
      growthInterval: 2000,
      enabled: true,
      ...expectOptions('GradScaler', options, [
        'initScale',
        'growthFactor',
        'backoffFactor',
        'growthInterval',
        'enabled',
      ]),
    };
    const { initScale, growthFactor, backoffFactor, growthInterval, enabled } = this.options;
    expectRange('GradScaler', 'initScale', initScale, Number.MIN_VALUE);
    expectRange('GradScaler', 'growthFactor', growthFactor, 1);
    expectRange('GradScaler', 'backoffFactor', backoffFactor, Number.MIN_VALUE, 1, true);
    expectInteger('GradScaler', 'growthInterval', growthInterval, 1, 2 ** 31 - 1);
    expectBoolean('GradScaler', 'enabled', enabled);
  }

  /** Scale and count, which stay on the device of their first use. */
  private on(device: Device): { scale: Tensor; growthTracker: Tensor } {
    this.state ??= noGrad(() => ({
      scale: full([], this.options.initScale, { device }).persist(),
      growthTracker: full([], 0, { device, dtype: 'int32' }).persist(),
    }));
    return this.state;
  }

  /** The loss times the scale, at least in float32. Call backward() on it. */
  scale(loss: Tensor): Tensor {
    expectTensor('scale', loss, 'the loss');
    if (!this.options.enabled) return loss;
    const wide = loss.dtype === 'float64' ? loss : loss.to('float32');
    return mul(wide, to(this.on(loss.device).scale, loss.device));
  }

  private progressOf(op: string, optimizer: AnyOptimizer): Progress {
    if (!(optimizer instanceof Optimizer)) {
      throw new TypeError(`${op}: must be given an optimizer, got ${describe(optimizer)}`);
    }
    let progress = this.progress.get(optimizer);
    if (!progress) {
      progress = { stage: 'ready', found: new Map() };
      this.progress.set(optimizer, progress);
    }
    for (const { device } of optimizer.trained()) {
      if (progress.found.has(device)) continue;
      const found = noGrad(() => full([], 0, { device, dtype: 'int32' }).persist());
      progress.found.set(device, found);
    }
    observe(progress, 'stage');
    return progress;
  }

  /**
   * Divides the optimizer's gradients by the scale, as clipping needs it before step(). Once
   * between two updates.
   */
  unscale(optimizer: AnyOptimizer): void {
    if (!this.options.enabled) return;
    const progress = this.progressOf('unscale', optimizer);
    if (progress.stage !== 'ready') {
      throw new Error(
        `unscale: was done already since update(), the optimizer is ${progress.stage}`,
      );
    }
    for (const [device, found] of progress.found) {
      const scale = noGrad(() => to(this.on(device).scale, device));
      const gradients: Tensor[] = [];
      for (const { gradient, device: on } of optimizer.trained()) {
        if (gradient) observe(gradient, 'filled');
        if (on !== device || !gradient?.filled || !gradient.required || !gradient.buffer) continue;
        gradients.push(gradient.buffer);
      }
      native.fillInto(found.h, 0);
      native.unscaleGradients(handles(gradients), scale.h, found.h);
      for (const gradient of gradients) ++gradient.version;
    }
    if (progress.found.size > 1) {
      const any = foundAnywhere([...progress.found.values()]);
      noGrad(() => {
        for (const [device, found] of progress.found) copyInto(found, to(any, device));
      });
    }
    progress.stage = 'unscaled';
  }

  /** The optimizer's step, without effect where a gradient is not finite. */
  step(optimizer: AnyOptimizer): void {
    if (!this.options.enabled) {
      optimizer.step();
      return;
    }
    const progress = this.progressOf('step', optimizer);
    if (progress.stage === 'stepped') {
      throw new Error('step: was done already since update(), call update() between steps');
    }
    if (progress.stage === 'ready') this.unscale(optimizer);
    optimizer.stepUnless(progress.found);
    progress.stage = 'stepped';
  }

  /** Makes the scale smaller after a skipped step, larger after enough good ones. */
  update(): void {
    if (!this.options.enabled || !this.state) return;
    const { scale, growthTracker } = this.state;
    const { growthFactor, backoffFactor, growthInterval } = this.options;
    noGrad(() => {
      const flags: Tensor[] = [];
      for (const progress of this.progress.values()) {
        observe(progress, 'stage');
        if (progress.stage === 'ready') continue;
        const [found] = [...progress.found.values()] as [Tensor];
        flags.push(to(found, scale.device));
        progress.stage = 'ready';
      }
      if (flags.length === 0) throw new Error('update: needs a step() or unscale() before it');
      native.updateScale(
        scale.h,
        growthTracker.h,
        foundAnywhere(flags).h,
        growthFactor,
        backoffFactor,
        growthInterval,
      );
      ++scale.version;
      ++growthTracker.version;
    });
  }

  /** The scale now; waits for the device. */
  getScale(): number {
    if (!this.options.enabled) return 1;
    return this.state ? Number(this.state.scale.item()) : this.options.initScale;
  }

  /** Scale and count of good steps: the tensors themselves; empty before the first use. */
  stateDict(): Map<string, Tensor> {
    return new Map(Object.entries(this.state ?? {}));
  }

  /** Takes over what {@link stateDict} gave. */
  loadStateDict(state: ReadonlyMap<string, Tensor>): void {
    expectTensorMap('GradScaler', state);
    const scale = state.get('scale');
    const growthTracker = state.get('growthTracker');
    if (state.size === 0) return;
    if (!scale || !growthTracker || scale.size !== 1 || growthTracker.size !== 1) {
      throw new Error(
        `GradScaler: the state must have scale and growthTracker, got ${describe([...state.keys()])}`,
      );
    }
    const own = this.on(this.state?.scale.device ?? scale.device);
    copyInto(own.scale, scale.to(own.scale.device));
    copyInto(own.growthTracker, growthTracker.to(own.scale.device));
  }
}
