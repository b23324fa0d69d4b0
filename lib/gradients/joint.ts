/**
 * One tape node for several outputs. The tape knows nodes of one output; so the joint rule belongs
 * to a scalar that is computed from the inputs, and each output hangs on that scalar. A slot keeps
 * the gradient of its output; being older than the slots, the scalar's node is visited after them.
 */
import { differentiable, type Gradient, type Rule, record } from '../autograd.js';
import { currentWalk } from '../backward.js';
import { native } from '../native.js';
import { type Tensor, take } from '../tensor.js';

/** From the gradients of the outputs (null where an output was not used) to those of the inputs. */
export type JointRule = (
  douts: readonly (Tensor | null)[],
  saved: readonly Tensor[],
  needs: readonly boolean[],
) => readonly Gradient[];

interface Gathered {
  walk: object | null;
  readonly douts: Map<number, Tensor>;
}

interface Slot {
  gathered: Gathered;
  at: number;
}

function forget(gathered: Gathered): void {
  for (const dout of gathered.douts.values()) dout.unhold();
  gathered.douts.clear();
}

// The first to arrive makes the scalar's node one to be visited. What a walk that failed left is
// forgotten.
const slotRule: Rule<Slot> = differentiable((dout, [anchor], { gathered, at }) => {
  const walk = currentWalk();
  if (gathered.walk !== walk) forget(gathered);
  gathered.walk = walk;
  dout.hold();
  gathered.douts.set(at, dout);
  return [gathered.douts.size === 1 ? (anchor as Tensor) : null];
});

/**
 * Records `outputs` (fresh tensors, on no tape) as computed from `inputs` together.
 * @param saves what the rule needs, called only if the op is recorded
 */
export function recordJointly(
  name: string,
  rule: JointRule,
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  saves: () => readonly Tensor[],
  recorded = true,
): void {
  const [first] = outputs;
  if (!first) return;
  const gathered: Gathered = { walk: null, douts: new Map() };
  const count = outputs.length;
  const whole: Rule<null> = (_dout, saved, _attributes, needs) => {
    const douts = Array.from({ length: count }, (_, at) => gathered.douts.get(at) ?? null);
    gathered.douts.clear();
    const revived = douts.filter((dout) => dout?.revive());
    try {
      return rule(douts, saved, needs);
    } finally {
      for (const dout of revived) dout?.retire();
      for (const dout of douts) dout?.unhold();
    }
  };
  if (recorded) differentiable(whole);
  native.full(first.device.code, [], 0, 0);
  const anchor = record(name, whole, take(0, first.device), inputs, saves, null);
  for (const [at, output] of outputs.entries()) {
    record(name, slotRule, output, [anchor], () => [anchor], { gathered, at });
  }
}

/** Another tensor over the same memory, on no tape. */
export function fresh(x: Tensor): Tensor {
  native.alias(x.h);
  return take(0, x.device);
}
