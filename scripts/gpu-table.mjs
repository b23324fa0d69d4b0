// The results of GPUs that benchmarks saved, as Markdown: printTables(), for gpu.mjs.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './build.mjs';

/** The least median among the rivals that are not ours. */
function bestRival(times) {
  const found = Object.entries(times).filter(([name]) => !name.startsWith('nodegrad'));
  return found.sort(([, a], [, b]) => a - b)[0];
}

function markdown(title, head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const lines = [line(head), line(head.map(() => '---')), ...rows.map(line)];
  console.log(`\n${title}\n\n${lines.join('\n')}`);
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
  const [who = '', best = Number.NaN] = bestRival(times) ?? [];
  const wrong = error > tolerance ? ' WRONG' : '';
  const shown = error === undefined ? '' : `${error.toExponential(1)}${wrong}`;
  return [name, own.toFixed(1), rate, shown, who, (best / own).toFixed(2)];
}

function modelRow({ title, precision, rivals }) {
  const times = Object.fromEntries(rivals.map((r) => [r.name, r.milliseconds.median]));
  const own = Math.min(times['nodegrad eager'], times['nodegrad captured'] ?? Infinity);
  const [who = '', best = Number.NaN] = bestRival(times) ?? [];
  return [`${title}, ${precision}`, own.toFixed(3), who, (best / own).toFixed(2)];
}

export function printTables() {
  const folder = path.join(root, 'bench/results');
  const files = readdirSync(folder).filter((n) => n.endsWith('.json') && !n.startsWith('cpu-'));
  for (const file of files) {
    const groups = Object.entries(JSON.parse(readFileSync(path.join(folder, file), 'utf8')));
    console.log(`\n## ${groups[0]?.[1].device ?? file}`);
    const of = (kind) => groups.filter(([name]) => name.startsWith(kind)).map(([, g]) => g.values);
    const kernels = of('kernels/').flatMap((values) => values.kernels.map(kernelRow));
    const head = ['µs', 'rate', 'error', 'best rival', 'its time over ours'];
    if (kernels.length > 0) markdown('Kernels', ['kernel', ...head], kernels);
    const models = of('models/').flat().map(modelRow);
    if (models.length > 0) {
      markdown('Training steps', ['step', 'ms', 'best rival', 'its time over ours'], models);
    }
  }
  return true;
}
