/** Writes docs/ops.md from the op table; `--check` only compares. */
import { readFileSync, writeFileSync } from 'node:fs';
import { opTable } from '../lib/index.js';

const file = new URL('../docs/ops.md', import.meta.url);

export function opsDocument(): string {
  const rows = Object.entries(opTable)
    .map(([name, row]) => ({ name, ...row }))
    .sort((a, b) => a.family.localeCompare(b.family) || a.name.localeCompare(b.name))
    .map(({ name, family, dtypes, summary, gradient }) => {
      const differentiable = typeof gradient === 'string' ? 'no' : 'yes';
      return `| ${family} | \`${name}\` | ${summary.replaceAll('|', '\\|')} | ${dtypes} | ${differentiable} |`;
    });
  return [
    '# Ops',
    '',
    'Made from the op table by `npm run docs:ops`. Every op runs on `cpu`, `cuda` and, in test builds,',
    '`emulated`. "any" stands for all dtypes, "floating" for float32, float64, bfloat16 and float16',
    '(integers are converted to float32 first), "numeric" for all but bool.',
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
