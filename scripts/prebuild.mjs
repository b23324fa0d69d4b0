#!/usr/bin/env node
// Makes prebuilds/<platform>/nodegrad.<libc>.node with prebuildify: `npm run prebuild`.
// Flags: --archs "80;90a" for fewer CUDA architectures than are shipped.
//
// prebuildify calls node-gyp; it is given this file instead, which goes straight to CMake, so that
// a prebuild needs neither Python nor Node's headers.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { build, root } from './build.mjs';
import { parseFlags } from './flags.mjs';

const shipped = '80;86;89;90a;100;120';
const archsVariable = 'NODEGRAD_PREBUILD_ARCHS';

function asNodeGyp() {
  build('release', { NODEGRAD_CUDA_ARCHS: process.env[archsVariable] ?? shipped });
}

function prebuild() {
  const { values } = parseFlags('prebuild', {
    options: { archs: { type: 'string', default: shipped } },
  });
  process.env[archsVariable] = values.archs;
  const prebuildify = createRequire(import.meta.url)('prebuildify');
  prebuildify(
    {
      cwd: root,
      napi: true,
      strip: true,
      tagLibc: true,
      targets: [{ runtime: 'node', target: process.versions.node }],
      nodeGyp: fileURLToPath(import.meta.url),
    },
    (error) => {
      if (!error) return;
      console.error(`prebuild: ${error.message}`);
      process.exitCode = 1;
    },
  );
}

try {
  if (process.argv[2] === 'rebuild') asNodeGyp();
  else prebuild();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
