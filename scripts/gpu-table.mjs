// The results of GPUs that benchmarks saved, as Markdown: tables(), for gpu.mjs.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** The least median among the rivals that are not ours. */
function bestRival(times) {
  const found = Object.entries(times).filter(([name]) => !name.startsWith('nodegrad'));
  return found.sort(([, a], [, b]) => a - b)[0];
}

function markdown(title, head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const lines = [line(head), line(head.map(() => '---')), ...rows.map(line)];
  return `\n${title}\n\n${lines.join('\n')}\n`;
}

function kernelRow({ name, flops, bytes, error, tolerance, rivals }) {
  const times = Object.fromEntries(
    Object.entries(rivals).flatMap(([who, found]) =>
      found.microseconds ? [[who, found.microseconds.median]] : [],
    ),
  );
  const { nodegrad: own } = times;
  if (own === undefined) return [name, rivals.nodegrad?.missing ?? 'missing', '', '', '', ''];
  const rate =
    flops / bytes > 100
      ? `${(flops / own / 1e6).toFixed(0)} TFLOP/s`
      : `${(bytes / own / 1e3).toFixed(0)} GB/s`;
  const [who = 'none', best] = bestRival(times) ?? [];
  const wrong = error > tolerance ? ' WRONG' : '';
  const shown = error === undefined ? '' : `${error.toExponential(1)}${wrong}`;
  return [
    name,
    own.toFixed(1),
    rate,
    shown,
    who,
    best === undefined ? '' : (best / own).toFixed(2),
  ];
}

function modelRow({ title, precision, rivals }) {
  const times = Object.fromEntries(rivals.map((r) => [r.name, r.milliseconds.median]));
  const own = Math.min(times['nodegrad eager'], times['nodegrad captured'] ?? Infinity);
  const [who = 'none', best] = bestRival(times) ?? [];
  return [
    `${title}, ${precision}`,
    own.toFixed(3),
    who,
    best === undefined ? '' : (best / own).toFixed(2),
  ];
}

/** Of all files of `folder` that are not a CPU's. */
export function tables(folder) {
  const files = readdirSync(folder).filter((n) => n.endsWith('.json') && !n.startsWith('cpu-'));
  if (files.length === 0) return 'no results of a GPU are kept';
  return files.map((file) => tablesOf(file, path.join(folder, file))).join('\n');
}

function tablesOf(name, file) {
  const groups = Object.entries(JSON.parse(readFileSync(file, 'utf8')));
  const of = (kind) => groups.filter(([group]) => group.startsWith(kind)).map(([, g]) => g.values);
  const kernels = of('kernels/').flatMap((values) => values.kernels.map(kernelRow));
  const models = of('models/').flat().map(modelRow);
  const head = ['best rival', 'its time over ours'];
  const parts = [`## ${groups[0]?.[1].device ?? name}\n`];
  if (kernels.length > 0) {
    parts.push(markdown('Kernels', ['kernel', 'µs', 'rate', 'error', ...head], kernels));
  }
  if (models.length > 0) parts.push(markdown('Training steps', ['step', 'ms', ...head], models));
  return parts.join('');
}
