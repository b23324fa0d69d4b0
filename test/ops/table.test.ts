import { readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { isFloating } from '../../lib/dtype.js';
import { type DType, dtypes, noGrad, opTable, scope, Tensor, zeros } from '../../lib/index.js';
import { native } from '../../lib/native.js';
import type { OpRow as Row } from '../support/op.js';
import { allSkips } from '../support/skips.js';
import { attentionRows } from './rows/attention.js';
import { binaryRows, whereRows } from './rows/binary.js';
import { convRows, convTransposeRows } from './rows/conv.js';
import { copyRows } from './rows/copy.js';
import { dropoutRows } from './rows/dropout.js';
import { embeddingRows } from './rows/embedding.js';
import { gatherRows } from './rows/gather.js';
import { gemmRows } from './rows/gemm.js';
import { indexRows } from './rows/index.js';
import { lossRows, softCrossEntropyRows } from './rows/loss.js';
import { movementRows } from './rows/movement.js';
import { normRows } from './rows/norm.js';
import { avgPoolRows, maxPoolRows } from './rows/pool.js';
import { argReduceRows, reduceRows } from './rows/reduce.js';
import { rnnRows } from './rows/rnn.js';
import { rotaryRows } from './rows/rotary.js';
import { scanRows } from './rows/scan.js';
import { softmaxRowsAll } from './rows/softmax.js';
import { sortRows } from './rows/sort.js';
import { unaryRows } from './rows/unary.js';
import { varianceRows } from './rows/variance.js';
import { viewRows } from './rows/view.js';

const root = path.resolve(import.meta.dirname, '../..');
const rows = [
  ...unaryRows,
  ...binaryRows,
  ...whereRows,
  ...reduceRows,
  ...argReduceRows,
  ...varianceRows,
  ...scanRows,
  ...sortRows,
  ...gemmRows,
  ...convRows,
  ...convTransposeRows,
  ...maxPoolRows,
  ...avgPoolRows,
  ...softmaxRowsAll,
  ...normRows,
  ...dropoutRows,
  ...attentionRows,
  ...rotaryRows,
  ...rnnRows,
  ...lossRows,
  ...softCrossEntropyRows,
  ...indexRows,
  ...embeddingRows,
  ...gatherRows,
  ...movementRows,
  ...viewRows,
  ...copyRows,
];
// Ops without an input to differentiate by have tests of their own.
const elsewhere: Record<string, string> = {
  full: 'fill.test.ts',
  arange: 'fill.test.ts',
  uniform: 'random.test.ts',
  normal: 'random.test.ts',
  bernoulli: 'random.test.ts',
  randperm: 'sample.test.ts',
  multinomial: 'sample.test.ts',
  bernoulliEach: 'sample.test.ts',
  truncatedNormal: 'sample.test.ts',
};

/** What becomes of a dtype: 'kept', 'converted' to a floating one, or 'refused'. */
function outcome(row: Row, dtype: DType): string {
  return scope(() => {
    const n = row.sizes?.find((size) => size > 0) ?? 3;
    const inputs = row.inputs.map(({ shape, dtype: own }) =>
      zeros(shape(n), { dtype: own ?? dtype }),
    );
    try {
      const result = noGrad(() => row.fn(...inputs));
      return isFloating(dtype) || !isFloating(result.dtype) ? 'kept' : 'converted';
    } catch {
      return 'refused';
    }
  });
}

function expectedOutcome(said: string, dtype: DType): string {
  if (isFloating(dtype) || said === 'any') return 'kept';
  if (said === 'floating') return 'refused';
  if (said === 'numeric') return dtype === 'bool' ? 'refused' : 'kept';
  return said;
}

describe('the op table', () => {
  it('has a test row for every op', () => {
    const tested = new Set([...rows.map(({ op }) => op as string), ...Object.keys(elsewhere)]);
    expect(Object.keys(opTable).filter((op) => !tested.has(op))).toEqual([]);
    expect([...tested].filter((op) => !(op in opTable))).toEqual([]);
  });

  it('gives all its rows to the helper', () => {
    const files = ts.sys.readDirectory(import.meta.dirname, ['.test.ts'], undefined, ['*']);
    const text = files.map((file) => readFileSync(file, 'utf8')).join('\n');
    const calls = [...text.matchAll(/^testOps\(([^)]*)\)/gm)].map(([, given]) => given).join();
    const own = readFileSync(path.join(import.meta.dirname, 'table.test.ts'), 'utf8');
    const names = [...own.matchAll(/^ {2}\.\.\.(\w+),$/gm)].map(([, name]) => name as string);
    expect(names.length).toBeGreaterThan(20);
    expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(calls))).toEqual([]);
  });

  it('tests those without a row where it says', () => {
    for (const [op, file] of Object.entries(elsewhere)) {
      expect(readFileSync(path.join(import.meta.dirname, file), 'utf8')).toContain(`${op}(`);
    }
  });

  it('says of a row that it is differentiable where its op is', () => {
    for (const { op, variant, differentiable } of rows) {
      const has = typeof opTable[op].gradient === 'function';
      expect([op, variant, differentiable ?? true]).toEqual([op, variant, has]);
    }
  });

  it('says of every dtype whether an op takes it', () => {
    // One way to call an op may refuse (all count), or be of another dtype by an operand of its own.
    const order = ['refused', 'kept', 'converted'];
    const byOp = new Map<keyof typeof opTable, Row[]>();
    for (const row of rows) byOp.set(row.op, [...(byOp.get(row.op) ?? []), row]);
    for (const [op, own] of byOp) {
      for (const dtype of dtypes) {
        const found = new Set(own.map((row) => outcome(row, dtype)));
        const worst = order.find((word) => found.has(word));
        // uint8 has no -1 to limit to, which PyTorch refuses, too.
        const refused = op === 'hardtanh' && dtype === 'uint8';
        const expected = refused ? 'refused' : expectedOutcome(opTable[op].dtypes, dtype);
        expect([op, dtype, worst]).toEqual([op, dtype, expected]);
      }
    }
  });

  it('tests every op in all floating dtypes on every device', () => {
    expect(rows.filter((row) => row.dtypes).map(({ op }) => op)).toEqual([]);
  });

  it('has no two rows of one name', () => {
    const names = rows.map(({ op, variant }) => `${op} ${variant ?? ''}`);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  it('gives every op a one-line summary and a method or function', () => {
    for (const { summary, family } of Object.values(opTable)) {
      expect(summary).toMatch(/^[^\n]+$/);
      expect(family).toMatch(/^[a-z]+$/);
    }
    for (const name of ['relu', 'add', 'sum', 'matmul', 'softmax', 'reshape', 'indexSelect']) {
      expect(typeof (Tensor.prototype as unknown as Record<string, unknown>)[name]).toBe(
        'function',
      );
    }
  });
});

/** The members of the interface Native, as lib/native.ts and the families declare them. */
function declaredNames(): string[] {
  const file = path.join(root, 'lib/native.ts');
  const { config } = ts.readConfigFile(path.join(root, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const program = ts.createProgram([file, path.join(root, 'lib/index.ts')], {
    ...options,
    types: [],
  });
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file) as ts.SourceFile;
  const declaration = source.statements.find(
    (node): node is ts.InterfaceDeclaration =>
      ts.isInterfaceDeclaration(node) && node.name.text === 'Native',
  ) as ts.InterfaceDeclaration;
  return checker
    .getPropertiesOfType(checker.getTypeAtLocation(declaration))
    .map(({ name }) => name);
}

describe('the native binding', () => {
  it('declares exactly what the addon exports', () => {
    // Native code may export things that are no functions, such as the path that bindings adds.
    const exported = Object.keys(native).filter(
      (name) => typeof native[name as keyof typeof native] === 'function',
    );
    expect(exported.sort()).toEqual(declaredNames().sort());
  });
});

describe('skips', () => {
  it('are each given a reason', () => {
    for (const skip of allSkips()) {
      expect(skip.test).toMatch(/\S/);
      expect(skip.reason, skip.test).toMatch(/\S+ \S+/);
    }
  });

  it('go through test/skips.json alone', () => {
    const files = ts.sys.readDirectory(path.join(root, 'test'), ['.ts']);
    const wrong = files.filter((file) => {
      const text = readFileSync(file, 'utf8');
      return /\b(it|test|describe)\.(skip|only|todo|skipIf|runIf|fails)\b/.test(text);
    });
    expect(wrong.filter((file) => !file.endsWith('table.test.ts'))).toEqual([]);
  });
});
