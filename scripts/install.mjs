// The package's install step: uses the prebuilt addon where one loads, else builds from source.
import { createRequire } from 'node:module';
import path from 'node:path';
import { build, root } from './build.mjs';

const require = createRequire(import.meta.url);

function prebuildLoads() {
  if (process.env.npm_config_build_from_source === 'true') return false;
  try {
    const load = require('node-gyp-build');
    const file = load.resolve(root);
    if (!file.startsWith(path.join(root, 'prebuilds'))) return false;
    require(file);
    console.log(`nodegrad: using ${path.relative(root, file)}`);
    return true;
  } catch {
    return false;
  }
}

try {
  if (!prebuildLoads()) build('release');
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
