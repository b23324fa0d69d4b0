import { readFileSync } from 'node:fs';

/** The public ops of docs/ops.md, which a test holds to what is exported. */
export function documentedOps(): { name: string; differentiable: boolean }[] {
  const page = readFileSync(new URL('../../docs/ops.md', import.meta.url), 'utf8');
  const [first = ''] = page.split('## Native ops');
  const rows = first.matchAll(/^\| [a-z]+ \| `(?:nn\.)?(\w+)` \|.*\| (again|once|no: [^|]*) \|$/gm);
  return [...rows].map(([, name = '', gradient = '']) => ({
    name,
    differentiable: !gradient.startsWith('no'),
  }));
}
