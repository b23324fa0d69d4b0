/** What a captured step costs when its kernels cost nothing, beside the same step run eagerly. */
import { capture, nn, optim, rand, scope, steps, type Tensor } from 'nodegrad';
import { type Case, micro, type Row } from '../support/micro.js';

const repeats = 200;

type Step = (x: Tensor, y: Tensor) => Tensor | Promise<Tensor>;

// benny tries every case before it times the first, all at once: here they queue.
let last: Promise<void> = Promise.resolve();

/** Runs a step `repeats` times, each an iteration of its own, and waits for the last. */
function repeated(name: string, step: Step, x: Tensor, y: Tensor): Case {
  const loop = async (): Promise<void> => {
    for (const i of steps(repeats)) {
      const result = await step(x, y);
      if (i === repeats - 1) await result.read();
    }
  };
  return {
    name,
    repeats,
    run: () => {
      last = last.then(() => scope(loop));
      return last;
    },
  };
}

export default async function captured(): Promise<Row[]> {
  const x = rand([4, 4]).keep();
  const y = rand([4, 4]).keep();
  const model = new nn.Sequential(new nn.Linear(4, 4), new nn.ReLU(), new nn.Linear(4, 4));
  const criterion = new nn.MSELoss();
  const optimizer = new optim.SGD(model.parameters(), { lr: 1e-4, momentum: 0.9 });
  const train = (input: Tensor, target: Tensor): Tensor => {
    optimizer.zeroGrad();
    const loss = criterion.forward(model.forward(input), target);
    loss.backward();
    optimizer.step();
    return loss;
  };
  const one = capture((a: Tensor, b: Tensor) => a.add(b));
  const whole = capture(train);
  const rows = await micro('captured steps, each awaited', [
    repeated('one op: 4x4 add, eager', (a, b) => a.add(b), x, y),
    repeated('one op: 4x4 add, captured', one, x, y),
    repeated('training step of a 4-4-4 network, eager', train, x, y),
    repeated('training step of a 4-4-4 network, captured', whole, x, y),
  ]);
  one.dispose();
  whole.dispose();
  return rows;
}
