/**
 * The op table: every native op with its family, its dtypes and its gradient rule. The type makes
 * an op without a row, or a row without a rule, a compile error; `not differentiable` is written
 * out. docs/ops.md is generated from it.
 */
import { binaryOps } from './binary.js';
import { copyOps } from './copy.js';
import type { OpName, OpRow } from './define.js';
import { fillOps } from './fill.js';
import { gemmOps } from './gemm.js';
import { indexOps } from './index.js';
import { randomOps } from './random.js';
import { reduceOps } from './reduce.js';
import { scanOps } from './scan.js';
import { softmaxOps } from './softmax.js';
import { sortOps } from './sort.js';
import { statisticsOps } from './statistics.js';
import { unaryOps } from './unary.js';
import { viewOps } from './view.js';

export const opTable: { readonly [Name in OpName]: OpRow } = {
  ...fillOps,
  ...randomOps,
  ...copyOps,
  ...viewOps,
  ...unaryOps,
  ...binaryOps,
  ...reduceOps,
  ...statisticsOps,
  ...scanOps,
  ...sortOps,
  ...gemmOps,
  ...softmaxOps,
  ...indexOps,
};
