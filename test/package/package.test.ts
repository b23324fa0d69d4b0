/**
 * The package as users get it: prebuilt, packed, installed in an empty folder on a machine with
 * no compiler, no Python and an empty home, and run with the network cut.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const prebuilds = path.join(root, 'prebuilds', `linux-${os.arch()}`);
const temp = mkdtempSync(path.join(os.tmpdir(), 'nodegrad-package-'));
const app = path.join(temp, 'app');
const addon = path.join(prebuilds, 'nodegrad.glibc.node');

/** The newest glibc that a prebuilt addon may ask for; the README states it. */
const oldestGlibc = [2, 35];

/** An environment with node, npm and a shell on the path and nothing else. */
function bareEnvironment(): Record<string, string> {
  const bin = path.join(temp, 'bin');
  const home = path.join(temp, 'home');
  if (!existsSync(bin)) {
    mkdirSync(bin);
    mkdirSync(home);
    for (const program of ['node', 'npm', 'sh']) {
      symlinkSync(
        execFileSync('which', [program], { encoding: 'utf8' }).trim(),
        path.join(bin, program),
      );
    }
  }
  return { PATH: bin, HOME: home };
}

function run(program: string, args: string[], cwd: string, env: Record<string, string>): string {
  const result = spawnSync(program, args, { cwd, env, encoding: 'utf8' });
  expect(result.status, `${program} ${args.join(' ')}\n${result.stdout}\n${result.stderr}`).toBe(0);
  return result.stdout;
}

beforeAll(() => {
  // The architectures of the local build: all that are shipped take long and prove nothing here.
  rmSync(prebuilds, { recursive: true, force: true });
  execFileSync('node', ['scripts/prebuild.mjs', '--archs', '90a'], { cwd: root, stdio: 'ignore' });
  // prebuildify moves the addon out of the build folder; put a build back.
  execFileSync('node', ['scripts/build.mjs', 'release'], { cwd: root, stdio: 'ignore' });
  mkdirSync(app);
  writeFileSync(
    path.join(app, 'package.json'),
    '{ "name": "app", "private": true, "type": "module" }',
  );
});

afterAll(() => {
  rmSync(temp, { recursive: true, force: true });
});

describe('the package', () => {
  it('has one prebuild, tagged by libc, that loads on old systems', () => {
    expect(readdirSync(prebuilds)).toEqual(['nodegrad.glibc.node']);
    const symbols = execFileSync('objdump', ['-T', addon], { encoding: 'utf8' });
    const versions = [...symbols.matchAll(/GLIBC_(\d+)\.(\d+)/g)].map((m) => [
      Number(m[1]),
      Number(m[2]),
    ]);
    const newest = versions.sort((a, b) => a[0]! - b[0]! || a[1]! - b[1]!).at(-1);
    expect(newest![0]! * 1000 + newest![1]!).toBeLessThanOrEqual(
      oldestGlibc[0]! * 1000 + oldestGlibc[1]!,
    );
    const needed = execFileSync('objdump', ['-p', addon], { encoding: 'utf8' });
    const libraries = [...needed.matchAll(/NEEDED\s+(\S+)/g)].map((m) => m[1]);
    for (const library of libraries) {
      expect(library).toMatch(/^(libc|libm|libdl|libpthread|librt|ld-linux-.*)\.so/);
    }
  });

  it('installs without a compiler, Python or a home, and trains with the network cut', () => {
    const packed = execFileSync('npm', ['pack', '--silent', '--pack-destination', temp], {
      cwd: root,
      encoding: 'utf8',
    });
    const tarball = path.join(temp, packed.trim().split('\n').at(-1) as string);
    const env = bareEnvironment();
    run('npm', ['install', '--no-audit', '--no-fund', tarball], app, env);
    const installed = path.join(app, 'node_modules', 'nodegrad');
    expect(existsSync(path.join(installed, 'build'))).toBe(false);
    expect(existsSync(path.join(app, 'node_modules', 'cmake-js'))).toBe(false);
    writeFileSync(
      path.join(app, 'step.js'),
      `import { crossEntropy, nn, ones, optim, tensor } from 'nodegrad';
       const model = new nn.Sequential(new nn.Linear(8, 16), new nn.ReLU(), new nn.Linear(16, 3));
       const optimizer = new optim.AdamW(model.parameters(), { lr: 0.01 });
       const x = ones([4, 8]), y = tensor([0n, 1n, 2n, 0n]);
       const losses = [];
       for (let i = 0; i < 20; ++i) {
         optimizer.zeroGrad();
         const loss = crossEntropy(model.forward(x), y);
         loss.backward();
         optimizer.step();
         losses.push(loss.item());
       }
       if (!(losses.at(-1) < losses[0])) throw new Error('the loss does not fall: ' + losses);
       console.log('trained');`,
    );
    const cut = spawnSync('unshare', ['-rn', 'true']).status === 0;
    const program = path.join(env.PATH as string, 'node');
    const output = cut
      ? run('/usr/bin/unshare', ['-rn', program, 'step.js'], app, { ...env, PREBUILDS_ONLY: '1' })
      : run(program, ['step.js'], app, { ...env, PREBUILDS_ONLY: '1' });
    expect(output).toContain('trained');
  });

  it('ships types that a strict TypeScript program compiles against', () => {
    writeFileSync(
      path.join(app, 'typed.ts'),
      `import { capture, nn, type Tensor, tensor } from 'nodegrad';
       const model = new nn.Linear(2, 2);
       const step = capture((x: Tensor, k: number): { y: Tensor } => ({ y: model.forward(x).mul(k) }));
       const result: Promise<{ y: Tensor }> = step(tensor([[1, 2]]), 3);
       const value: number | bigint = tensor(1).relu().sum().item();
       // @ts-expect-error a shape is an array of numbers
       tensor([1, 2], 'x');
       // @ts-expect-error there is no such dtype
       tensor([1], { dtype: 'float128' });
       console.log(result, value);`,
    );
    const options = [
      '--strict',
      '--noEmit',
      '--module',
      'nodenext',
      '--target',
      'es2022',
      '--lib',
      'es2023,esnext.disposable',
    ];
    const types = ['--types', 'node', '--typeRoots', path.join(root, 'node_modules/@types')];
    run(
      'node',
      [path.join(root, 'node_modules/typescript/bin/tsc'), ...options, ...types, 'typed.ts'],
      app,
      {
        ...(process.env as Record<string, string>),
      },
    );
  });
});
