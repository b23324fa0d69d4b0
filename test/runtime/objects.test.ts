/**
 * Objects compiled per instruction set must define no weak symbol: the linker would keep one copy
 * of it for all, and an AVX-512 one could end up on the path of an older processor.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const build = fileURLToPath(
  new URL(`../../build/${process.env.NODEGRAD_BUILD}/CMakeFiles`, import.meta.url),
);
const folders = existsSync(build)
  ? readdirSync(build).filter((name) => /^kernels_.*\.dir$/.test(name))
  : [];

describe('objects per instruction set', () => {
  it('are there', () => {
    expect(folders.length).toBeGreaterThan(0);
  });

  it.each(folders)('%s define no weak symbol and export one table each', (folder) => {
    const objects = readdirSync(path.join(build, folder), { recursive: true })
      .map(String)
      .filter((name) => name.endsWith('.o'));
    expect(objects.length).toBeGreaterThan(5);
    for (const name of objects) {
      const lines = execFileSync('nm', ['-C', path.join(build, folder, name)], { encoding: 'utf8' })
        .split('\n')
        // What sanitizers add is theirs.
        .filter((line) => !/\b(_?asan|__odr_asan|_ZTI|DW\.ref)/.test(line));
      const weak = lines.filter((line) => / [VWu] /.test(line));
      expect(weak, name).toEqual([]);
      const exported = lines.filter((line) => / [BDRT] /.test(line));
      expect(exported.length, `${name}: ${exported.join()}`).toBe(1);
    }
  });
});
