// Formats the native code with clang-format, or checks it: `node scripts/format-cpp.mjs [--check]`.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { root } from './build.mjs';

const clangFormat = createRequire(import.meta.url).resolve('clang-format/index.js');
const endings = ['.h', '.cc', '.cu'];
const folders = ['native', 'bench', 'test'];

function sources(folder) {
  return readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && endings.includes(path.extname(entry.name)))
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
}

const check = process.argv.includes('--check');
const files = folders.flatMap(sources);
const args = check ? ['--dry-run', '--Werror'] : ['-i'];
const result = spawnSync(process.execPath, [clangFormat, ...args, ...files], { stdio: 'inherit' });
process.exitCode = result.status ?? 1;
