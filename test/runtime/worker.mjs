// What the worker tests run: a captured training loop of `steps` steps.
import { parentPort, workerData } from 'node:worker_threads';
import { register } from 'tsx/esm/api';

register();
const { capture, matmul, nn, ones, optim } = await import('../../lib/index.ts');

const model = new nn.Linear(32, 8);
const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 });
const step = capture((x) => {
  optimizer.zeroGrad();
  const loss = model.forward(x).square().mean();
  loss.backward();
  optimizer.step();
  return loss;
});
let last = 0;
parentPort.postMessage('started');
for (let i = 0; i < workerData.steps; ++i) last = (await step(ones([16, 32]))).item();
parentPort.postMessage({
  last,
  sum: matmul(ones([64, 64]), ones([64, 64]))
    .sum()
    .item(),
});
