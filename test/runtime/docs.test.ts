import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { opsDocument } from '../../scripts/ops-table.js';

it('docs/ops.md is what the op table says', () => {
  expect(readFileSync(new URL('../../docs/ops.md', import.meta.url), 'utf8')).toBe(opsDocument());
});
