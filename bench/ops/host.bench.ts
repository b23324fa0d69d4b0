/** What an op costs on the host: ops on four numbers, whose kernels take a few nanoseconds. */
import { noGrad, scope, tensor } from 'nodegrad';
import { native, results } from '../../dist/native.js';
import { type Case, micro, type Row } from '../support/micro.js';

const repeats = 200;

function eager(name: string, op: () => unknown): Case {
  return {
    name,
    repeats,
    run: () =>
      scope(() => {
        for (let i = 0; i < repeats; ++i) op();
      }),
  };
}

function unrecorded({ name, run }: Case): Case {
  return { name, repeats, run: () => noGrad(run) };
}

export default async function host(): Promise<Row[]> {
  const x = tensor([1, -2, 3, -4]).keep();
  const m = tensor([
    [1, 2],
    [3, 4],
  ]).keep();
  const w = tensor([4, 3, 2, 1]).keep().requireGrad();
  const v = tensor([
    [4, 3],
    [2, 1],
  ])
    .keep()
    .requireGrad();
  const rows = await micro('native calls, without TypeScript', [
    eager('native.nothing', () => native.nothing()),
    eager('native.relu and its release', () => {
      native.relu(x.h);
      native.release(results[0] as number);
    }),
    eager('native.matmul 2x2 and its release', () => {
      native.matmul(m.h, m.h, 1, 0, 0);
      native.release(results[0] as number);
    }),
  ]);
  rows.push(
    ...(await micro('eager ops on four numbers, no gradients', [
      unrecorded(eager('relu', () => x.relu())),
      unrecorded(eager('add', () => x.add(x))),
      unrecorded(eager('matmul', () => m.matmul(m))),
      unrecorded(eager('sum', () => x.sum())),
    ])),
    ...(await micro('eager ops on four numbers, gradients recorded', [
      eager('relu, recorded', () => w.relu()),
      eager('add, recorded', () => w.add(x)),
      eager('matmul, recorded', () => v.matmul(m)),
      eager('sum, recorded', () => w.sum()),
      eager('mul, relu, sum and backward', () => w.mul(x).relu().sum().backward()),
    ])),
  );
  return rows;
}
