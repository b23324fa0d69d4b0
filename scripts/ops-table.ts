/** Writes docs/ops.md from the op table; `--check` only compares. */
import { readFileSync, writeFileSync } from 'node:fs';
import { isDifferentiable } from '../lib/autograd.js';
import { opTable } from '../lib/index.js';

const file = new URL('../docs/ops.md', import.meta.url);

export function opsDocument(): string {
  const rows = Object.entries(opTable)
    .map(([name, row]) => ({ name, ...row }))
    .sort((a, b) => a.family.localeCompare(b.family) || a.name.localeCompare(b.name))
    .map(({ name, family, dtypes, summary, gradient }) => {
      const how =
        typeof gradient === 'string' ? gradient : isDifferentiable(gradient) ? 'again' : 'once';
      return `| ${family} | \`${name}\` | ${summary.replaceAll('|', '\\|')} | ${dtypes} | ${how} |`;
    });
  return [
    '# Ops',
    '',
    'Made from the op table by `npm run docs:ops`; a test keeps it so, and others hold every op to its',
    'row. Every op runs in all its dtypes on `cpu`, `cuda` and, in test builds, `emulated`: float64',
    'too, and float16 and bfloat16, which are computed in float32. What is composed of these ops runs',
    'where they do and has their gradients.',
    '',
    '- Dtypes. any: float32, float64, bfloat16, float16, int64, int32, uint8 and bool. numeric: all but',
    '  bool, which has no differences. converted: the results are no integers, so int64, int32, uint8 and',
    '  bool become float32 first, as in PyTorch. floating: the first four; integers are refused, which',
    "  in a layer are a mistake more often than not (`x.to('float32')` converts).",
    '- Gradient. again: with one that can be differentiated in its turn (`grad` with `createGraph`).',
    '  once: its rule is a kernel of its own, which cannot. no: there is none, for the reason given.',
    '',
    '| family | op | what it computes | dtypes | gradient |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

if (process.argv[1]?.endsWith('ops-table.ts')) {
  const made = opsDocument();
  if (process.argv.includes('--check')) {
    if (readFileSync(file, 'utf8') !== made) {
      console.error('docs/ops.md is out of date: run `npm run docs:ops`');
      process.exitCode = 1;
    }
  } else {
    writeFileSync(file, made);
  }
}
