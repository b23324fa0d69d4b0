/**
 * Fuzzes the public API: `npx tsx test/fuzz/run.ts --calls 1000000 --seed 1 [--device cpu]
 * [--trace CALL] [--minutes M] [--slow]`. The calls run in a child process, so that a crash is reported
 * with the call that made it; --trace prints every call from that number on, --minutes ends the run
 * after that time. Fails unless every op was reached, at least 30% of the calls were valid, and each of
 * the others threw one clear sentence. --slow is for runs under a tool that makes everything slow: no
 * call is too long then, and few calls may leave ops out.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: options } = parseArgs({
  options: {
    calls: { type: 'string', default: '100000' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    device: { type: 'string', default: 'cpu' },
    trace: { type: 'string' },
    minutes: { type: 'string', default: 'Infinity' },
    slow: { type: 'boolean', default: false },
    child: { type: 'string' },
  },
});
const calls = Number(options.calls);
const seed = Number(options.seed);
const leastValid = 0.3;
const mostDefects = 400;

function parent(): number {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'nodegrad-fuzz-'));
  const last = path.join(folder, 'last');
  const given = ['--calls', String(calls), '--seed', String(seed), '--device', options.device];
  if (options.trace) given.push('--trace', options.trace);
  if (options.slow) given.push('--slow');
  given.push('--minutes', options.minutes);
  const result = spawnSync(
    process.execPath,
    [...process.execArgv, '--expose-gc', fileURLToPath(import.meta.url), ...given, '--child', last],
    { stdio: 'inherit' },
  );
  const crashed = result.signal !== null || (result.status !== 0 && result.status !== 1);
  if (crashed) {
    const call = readFileSync(last, 'utf8').trim();
    console.error(`fuzz: crashed (${result.signal ?? `exit ${result.status}`}) in call ${call}`);
    console.error(
      `fuzz: see it with --calls ${Number.parseInt(call, 10) + 1} --seed ${seed} --trace ${Math.max(0, Number.parseInt(call, 10) - 20)}`,
    );
  }
  rmSync(folder, { recursive: true, force: true });
  return crashed ? 1 : (result.status ?? 1);
}

async function child(last: string): Promise<number> {
  const { device, opTable } = await import('../../lib/index.js');
  const { Random } = await import('../support/random.js');
  const { Fuzzer } = await import('./fuzzer.js');
  const random = new Random(seed);
  const longest = options.slow ? Number.POSITIVE_INFINITY : undefined;
  const fuzzer = new Fuzzer(device(options.device), seed, longest);
  const log = openSync(last, 'w');
  const reached = new Map<string, number>();
  const defects = new Map<string, number>();
  const traceFrom = options.trace === undefined ? Number.POSITIVE_INFINITY : Number(options.trace);
  let valid = 0;
  const began = performance.now();
  const end = began + Number(options.minutes) * 60_000;
  let made = 0;
  console.log(`fuzz: ${calls} calls on ${options.device}, seed ${seed}`);
  for (let i = 0; i < calls && performance.now() < end; ++i) {
    ++made;
    const [choice, argumentSeed] = [random.bits(), random.bits()];
    writeSync(log, `${i}`.padEnd(16), 0);
    const trace = i >= traceFrom ? (text: string) => console.log(`${i} ${text}`) : undefined;
    const { entry, valid: returned, defect } = await fuzzer.call(choice, argumentSeed, trace);
    if (returned) {
      ++valid;
      if (entry.op) reached.set(entry.op, (reached.get(entry.op) ?? 0) + 1);
    }
    if (defect) {
      const text = `${entry.name} ${defect}`;
      if (!defects.has(text)) console.error(`fuzz: call ${i}: ${text}`);
      defects.set(text, (defects.get(text) ?? 0) + 1);
      if (defects.size >= mostDefects) break;
    }
    // Finalizers free what was left to the garbage collector, and run between tasks only.
    if (i % 2000 === 1999) {
      globalThis.gc?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  fuzzer.dispose();
  closeSync(log);
  const seconds = (performance.now() - began) / 1000;
  const share = valid / made;
  const missing = Object.keys(opTable).filter((op) => !reached.has(op));
  const counts = Object.keys(opTable).map((op) => `${op} ${reached.get(op) ?? 0}`);
  console.log(
    `fuzz: ${made} calls, ${seconds.toFixed(0)} s, ${(share * 100).toFixed(1)}% valid, seed ${seed}`,
  );
  console.log(`fuzz: valid calls per op: ${counts.join(', ')}`);
  if (missing.length > 0) console.error(`fuzz: ops never reached: ${missing.join(', ')}`);
  if (share < leastValid)
    console.error(`fuzz: less than ${leastValid * 100}% of the calls were valid`);
  if (defects.size > 0) console.error(`fuzz: ${defects.size} kinds of defects`);
  const enough = options.slow || (missing.length === 0 && share >= leastValid);
  return !enough || defects.size > 0 ? 1 : 0;
}

if (!(calls >= 1) || !Number.isInteger(seed) || !(Number(options.minutes) > 0)) {
  console.error('fuzz: --calls must be 1 or more, --minutes above 0 and --seed an integer');
  process.exitCode = 1;
} else {
  process.exitCode = options.child === undefined ? parent() : await child(options.child);
}
