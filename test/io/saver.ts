/** Saves one file over and over until it is killed; save number i holds i everywhere. */
import { nn, optim, saveCheckpoint, tensor, zeros } from '../../lib/index.js';

const [file, elements] = process.argv.slice(2) as [string, string];
const model = new nn.Linear(Number(elements), 1, { bias: false });
const optimizer = new optim.SGD(model.parameters(), { lr: 1, momentum: 0.5 });
const shape = model.weight.shape;

for (let i = 1; ; ++i) {
  nn.init.constant(model.weight, i);
  if (i === 1) optimizer.apply([zeros(shape)]);
  for (const [name, state] of optimizer.stateDict()) {
    if (name.endsWith('momentum')) state.copyFrom(tensor(i));
  }
  await saveCheckpoint(file, { model, optimizer, extra: { i } });
  process.send?.(i);
}
