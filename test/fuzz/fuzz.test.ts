import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { catalogue } from './catalogue.js';
import { Fuzzer, unclear } from './fuzzer.js';

const seed = 20240131;

/** Public functions that the catalogue leaves out, with the reason. */
const elsewhere: Record<string, string> = {
  readIdx: 'reads files: test/data',
  'datasets.mnist': 'reads files: test/data',
  'datasets.fashionMnist': 'reads files: test/data',
  'datasets.imdb': 'reads files: test/data',
  'datasets.glove': 'reads files: test/data',
  readCsv: 'reads files: test/data',
  CsvDataset: 'reads files: test/data',
  CsvTable: 'made by readCsv: test/data',
  ImageFolder: 'reads files: test/data',
  TextFolder: 'reads files: test/data',
  loadVectors: 'reads files: test/data',
  WorkerDataset: 'starts threads: test/data',
  serveDataset: 'runs in a worker thread: test/data',
  loadSafetensors: 'reads files: test/io',
  saveSafetensors: 'writes files: test/io',
  saveImages: 'writes files: test/data',
  loadCheckpoint: 'reads files: test/io',
  saveCheckpoint: 'writes files: test/io',
  'optim.Optimizer': 'abstract: SGD, Adam and AdamW stand for it',
  'optim.Schedule': 'abstract: StepLR and others stand for it',
  Tensor: 'has no public constructor',
  EventWriter: 'writes files: test/train',
  ProgressBar: 'writes lines: test/train',
  History: 'takes no arguments: test/train',
  'metrics.Metric': 'abstract: Accuracy and others stand for it',
};
const internal = new Set([
  ...['constructor', 'persist', 'moveTo', 'detachHandle', 'hold', 'unhold', 'revive', 'retire'],
  ...['widened', 'finalize', 'stopFinalizer', 'state', 'initialSeed'],
]);

const namespaces = new Set([
  ...['nn', 'optim', 'memory', 'models', 'datasets', 'layers', 'metrics', 'transforms'],
]);

function publicNames(): string[] {
  const names: string[] = [];
  const visit = (prefix: string, namespace: object): void => {
    for (const [name, value] of Object.entries(namespace)) {
      if (typeof value === 'function') names.push(prefix + name);
    }
  };
  visit('', ng);
  for (const [name, value] of Object.entries(ng)) {
    if (namespaces.has(name)) visit(`${name}.`, value);
  }
  visit('nn.init.', ng.nn.init);
  for (const [name, prototype] of [
    ['Tensor', ng.Tensor.prototype],
    ['Generator', ng.Generator.prototype],
  ] as const) {
    for (const member of Object.getOwnPropertyNames(prototype)) {
      if (!internal.has(member)) names.push(`${name}.${member}`);
    }
  }
  return names;
}

describe('the catalogue of the fuzzer', () => {
  it('has every public function, method and class', () => {
    const known = new Set([...catalogue.map(({ name }) => name), ...Object.keys(elsewhere)]);
    expect(publicNames().filter((name) => !known.has(name))).toEqual([]);
  });

  it('reaches every op', () => {
    const ops = new Set(catalogue.map(({ op }) => op));
    expect(Object.keys(ng.opTable).filter((op) => !ops.has(op))).toEqual([]);
  });
});

describe('a clear error', () => {
  it('is one sentence of the function that was called', () => {
    expect(unclear(new Error('relu: its argument must be a tensor, got 3'))).toBeUndefined();
    expect(unclear(new TypeError("Cannot read properties of null (reading 'h')"))).toMatch(
      'unclear',
    );
    expect(unclear(new Error('fromBytes: argument 1 must be an integer'))).toMatch('unclear');
    expect(unclear(new Error('relu: one\ntwo'))).toMatch('not one sentence');
    expect(unclear('relu: no')).toMatch('no Error');
  });
});

describe.each(devices)('garbage on $name', (device) => {
  it('gives a result or one clear sentence', { timeout: 120_000 }, async () => {
    const calls = fc.array(fc.tuple(fc.nat(2 ** 31 - 1), fc.nat(2 ** 31 - 1)), {
      minLength: 20,
      maxLength: 60,
      size: 'max',
    });
    const counts = { all: 0, valid: 0 };
    await fc.assert(
      fc.asyncProperty(calls, async (sequence) => {
        const fuzzer = new Fuzzer(device, seed);
        try {
          for (const [choice, argumentSeed] of sequence) {
            let text = '';
            const outcome = await fuzzer.call(choice, argumentSeed, (t) => {
              text = t;
            });
            ++counts.all;
            if (outcome.valid) ++counts.valid;
            if (outcome.defect) throw new Error(`${text} ${outcome.defect}`);
          }
        } finally {
          fuzzer.dispose();
        }
      }),
      { numRuns: device.type === 'emulated' ? 20 : 100, seed },
    );
    expect(counts.valid / counts.all).toBeGreaterThan(0.3);
  });
});
