/** How late a timer of 10 ms is while captured training steps run back to back. */
import { capture, crossEntropy, models, optim, rand, steps, type Tensor, zeros } from 'nodegrad';
import { digits, quantile } from '../support/statistics.js';
import { printTable } from '../support/table.js';

const period = 10; // ms
const seconds = 5;

export default async function loop(): Promise<unknown> {
  const model = models.mlp([784, 256, 128, 10]);
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
  const step = capture((x: Tensor, y: Tensor) => {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.forward(x), y);
    loss.backward();
    optimizer.step();
    return loss;
  });
  const x = rand([100, 784]).keep();
  const y = zeros([100], { dtype: 'int64' }).keep();
  const late: number[] = [];
  let due = performance.now() + period;
  const timer = setInterval(() => {
    const now = performance.now();
    late.push(Math.max(0, now - due));
    due = now + period;
  }, period);
  const until = performance.now() + 1000 * seconds;
  let count = 0;
  for (const _ of steps(Number.MAX_SAFE_INTEGER)) {
    await step(x, y);
    ++count;
    if (performance.now() > until) break;
  }
  clearInterval(timer);
  step.dispose();
  late.sort((a, b) => a - b);
  const [median, high, most] = [quantile(late, 0.5), quantile(late, 0.99), quantile(late, 1)];
  console.log(`a timer of ${period} ms while ${Math.round(count / seconds)} steps a second run`);
  printTable(
    ['ticks', 'median ms late', '99th percentile', 'most'],
    [[String(late.length), digits(median), digits(high), digits(most)]],
  );
  return { ticks: late.length, stepsPerSecond: count / seconds, median, high, most };
}
