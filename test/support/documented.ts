import { readFileSync } from 'node:fs';

export interface DocumentedOp {
  name: string;
  differentiable: boolean;
  /** Whether its gradient is differentiable, too. */
  again: boolean;
}

/** The public ops of docs/ops.md, which a test holds to what is exported. */
export function documentedOps(): DocumentedOp[] {
  const page = readFileSync(new URL('../../docs/ops.md', import.meta.url), 'utf8');
  const [first = ''] = page.split('## Native ops');
  const rows = first.matchAll(/^\| [a-z]+ \| `(?:nn\.)?(\w+)` \|.*\| (again|once|no: [^|]*) \|$/gm);
  return [...rows].map(([, name = '', gradient = '']) => ({
    name,
    differentiable: !gradient.startsWith('no'),
    again: gradient === 'again',
  }));
}
