import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { memory, ProgressBar, randn, scope, tensor } from '../../lib/index.js';

function lines(): { output: PassThrough; text: () => string[] } {
  const output = new PassThrough();
  return {
    output,
    text: () =>
      String(output.read() ?? '')
        .split('\n')
        .slice(0, -1),
  };
}

it('writes a line now and then, and the mean of all losses at the end', () => {
  const { output, text } = lines();
  const progress = new ProgressBar('epoch 1/2', 12, { every: 4, output });
  for (let i = 1; i <= 12; ++i) progress.step(8, tensor(i));
  progress.finish();
  const found = text();
  expect(found.slice(0, 3)).toEqual([
    'epoch 1/2 step  4/12: loss 2.500000',
    'epoch 1/2 step  8/12: loss 4.500000',
    'epoch 1/2 step 12/12: loss 6.500000',
  ]);
  expect(found[3]).toMatch(/^epoch 1\/2: mean loss 6.500000, \d+ samples\/s$/);
  expect([progress.done, progress.total, progress.mean]).toEqual([12, 78, 6.5]);
});

it('goes on from a loader in the midst of an epoch, with the losses before or without', () => {
  const { output } = lines();
  const source = { length: 10, position: 4 };
  const all = new ProgressBar('all', source, { total: 20, output });
  const rest = new ProgressBar('rest', source, { output });
  for (const progress of [all, rest]) progress.step(1, 10);
  expect([all.done, all.mean, rest.done, rest.mean]).toEqual([5, 6, 5, 10]);
});

it('keeps its sum past scopes, in float64, and nothing on the device in the end', () => {
  const { output } = lines();
  const progress = new ProgressBar('narrow', 300, { output });
  for (let i = 0; i < 300; ++i) scope(() => progress.step(1, tensor(1, { dtype: 'bfloat16' })));
  expect(progress.total).toBe(300);
  const after = new ProgressBar(
    'long',
    { length: 2 ** 26, position: 2 ** 25 },
    { total: 2 ** 25, output },
  );
  const before = memory.stats().liveTensors;
  for (let i = 0; i < 100; ++i) scope(() => after.step(1, tensor(0.25)));
  expect(after.total).toBe(2 ** 25 + 25);
  for (const bar of [progress, after]) bar.finish();
  expect(memory.stats().liveTensors).toBe(before - 1);
  expect([progress.mean, after.total]).toEqual([1, 2 ** 25 + 25]);
});

it('draws a bar on a terminal and takes it away', () => {
  const output = Object.assign(new PassThrough(), { isTTY: true, columns: 100, rows: 20 });
  const progress = new ProgressBar('epoch 1/1', 2, { every: 1, output });
  for (const loss of [1, 2]) progress.step(4, loss);
  progress.finish();
  const text = String(output.read());
  expect(text).toContain('epoch 1/1 [');
  expect(text).toContain('loss 1.5000');
  expect(text).toMatch(/epoch 1\/1: mean loss 1.500000, \d+ samples\/s\n$/);
});

it('counts the steps of a stream, whose end is not known', () => {
  const { output, text } = lines();
  const progress = new ProgressBar(
    'stream',
    { length: Infinity, position: 0 },
    { every: 2, output },
  );
  for (const loss of [1, 2]) progress.step(4, loss);
  expect(text()).toEqual(['stream step 2: loss 1.500000']);
});

it('refuses losses that are none', () => {
  const progress = new ProgressBar('epoch', 2, { output: new PassThrough() });
  expect(() => progress.step(1, randn([2]))).toThrow(
    'ProgressBar: the loss must be a number or a tensor of one element, got a tensor float32[2]',
  );
  expect(() => new ProgressBar('epoch', -1)).toThrow('ProgressBar: the number of steps must be');
  expect(() => new ProgressBar('epoch', { length: 4 } as never)).toThrow(
    'ProgressBar: position must be an integer',
  );
  expect(() => new ProgressBar('epoch', 4, { total: 50 })).toThrow(
    'ProgressBar: total must be 0 before the first step, got 50',
  );
});
