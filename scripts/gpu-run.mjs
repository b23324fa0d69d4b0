// How gpu.mjs runs programs: within a limit of time, at the end of which they go with all that they
// started; what they print goes to the console and whole into a file, and what matters of it is kept
// for the summary.
import { spawn } from 'node:child_process';
import { stripVTControlCharacters } from 'node:util';

const grace = 10_000; // ms from SIGTERM to SIGKILL
const widest = 300; // columns of the console; the file has whole lines
/** What tells why a stage failed, and what is worth a line of the summary even where it did not. */
const bad = /WRONG|FAIL|Error\b|error:|missing|crashed|went wrong|not reached|stopped after/;
const good = /^\s*(Test Files|Tests) |ERROR SUMMARY|RACECHECK SUMMARY|^fuzz: \d+ calls, |saved to /;
const mostBad = 20;
const running = new Set();

function endGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    for (const child of running) endGroup(child, 'SIGKILL');
    process.exit(1);
  });
}

/** Keeps the lines that a stage prints: all in `file`, an open descriptor; some for the summary. */
export class Record {
  bad = [];
  good = [];

  /** @param write takes whole lines for the file */
  constructor(write) {
    this.write = write;
  }

  print(text) {
    const line = stripVTControlCharacters(text).trimEnd();
    this.write(`${line}\n`);
    const shown = line.length > widest ? `${line.slice(0, widest)} …` : line;
    console.log(shown);
    if (good.test(line)) this.good.push(shown.trim());
    else if (bad.test(line) && this.bad.length < mostBad) this.bad.push(shown.trim());
  }
}

/** Whole lines of a stream, however it is cut. */
function lines(stream, take) {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop();
    for (const part of parts) take(part);
  });
  stream.on('end', () => {
    if (rest) take(rest);
  });
}

/** Runs a program to its end or to the limit; resolves with whether it ended well. */
export function runLimited([program, ...args], { minutes, record, cwd, env }) {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd,
      env,
      detached: true, // a group of its own, which ends as a whole
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(child);
    let late = false;
    const timers = [
      setTimeout(() => {
        late = true;
        record.print(`gpu: stopped after ${minutes.toFixed(1)} minutes`);
        endGroup(child, 'SIGTERM');
      }, minutes * 60_000),
      setTimeout(() => endGroup(child, 'SIGKILL'), minutes * 60_000 + grace),
    ];
    for (const stream of [child.stdout, child.stderr]) lines(stream, (line) => record.print(line));
    const done = (fine) => {
      for (const timer of timers) clearTimeout(timer);
      running.delete(child);
      resolve(fine && !late);
    };
    child.on('error', (error) => {
      const absent = error.code === 'ENOENT';
      record.print(`gpu: ${absent ? `${program} is missing on this machine` : error.message}`);
      if (child.pid === undefined) done(false);
    });
    // What it left behind would hold the pipes open, and the GPU.
    child.on('exit', () => endGroup(child, 'SIGKILL'));
    child.on('close', (status, signal) => {
      if (signal && !late) record.print(`gpu: ended by ${signal}: crashed, or killed from outside`);
      done(status === 0);
    });
  });
}
