/** Trains in the natural loop and prints the memory held after two numbers of steps. */
import { crossEntropy, memory, nn, optim, steps, tensor, zeros } from '../../lib/index.js';

const [device = 'cpu', early = '1000', late = '10000'] = process.argv.slice(2);
const model = new nn.Sequential(
  new nn.Linear(16, 32, { device }),
  new nn.ReLU(),
  new nn.Linear(32, 4, { device }),
);
const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
const data = tensor(
  Float32Array.from({ length: 64 * 16 }, (_, i) => Math.sin(i)),
  [64, 16],
  {
    device,
  },
);
const labels = tensor(
  BigInt64Array.from({ length: 64 }, (_, i) => BigInt(i % 4)),
  { device },
);

function held() {
  total.item(); // waits for what is enqueued
  global.gc?.();
  global.gc?.();
  return {
    device: memory.stats(device).allocated,
    resident: process.memoryUsage().rss,
  };
}

let total = zeros([], { device });
let before: ReturnType<typeof held> | undefined;
let after: ReturnType<typeof held> | undefined;
for (const i of steps(Number(late) + 1)) {
  const rows = 8 + (i % 5) * 4;
  for (const part of steps(2)) {
    if (part === 1 && i % 4 === 0) break;
    optimizer.zeroGrad();
    const loss = crossEntropy(model.forward(data.slice(0, 0, rows)), labels.slice(0, 0, rows));
    total = total.add(loss);
    loss.backward();
    optimizer.step();
  }
  if (i === Number(early)) before = held();
  if (i === Number(late)) after = held();
}
if (!Number.isFinite(total.item() as number)) throw new Error('the sum of losses is not finite');
console.log(JSON.stringify({ before, after }));
