/**
 * The op table: every native op with its family, its dtypes and its gradient rule. The type makes
 * an op without a row, or a row without a rule, a compile error; the reason for having none is written
 * out. docs/ops.md is generated from it.
 */
import { attentionOps } from './attention.js';
import { binaryOps } from './binary.js';
import { convOps } from './conv.js';
import { convTransposeOps } from './convTranspose.js';
import { copyOps } from './copy.js';
import type { OpName, OpRow } from './define.js';
import { dropoutOps } from './dropout.js';
import { embeddingOps } from './embedding.js';
import { fillOps } from './fill.js';
import { gatherOps } from './gather.js';
import { gemmOps } from './gemm.js';
import { indexOps } from './index.js';
import { lossOps } from './loss.js';
import { movementOps } from './movement.js';
import { normOps } from './norm.js';
import { poolOps } from './pool.js';
import { randomOps } from './random.js';
import { reduceOps } from './reduce.js';
import { rnnOps } from './rnn.js';
import { rotaryOps } from './rotary.js';
import { sampleOps } from './sample.js';
import { scanOps } from './scan.js';
import { softmaxOps } from './softmax.js';
import { sortOps } from './sort.js';
import { statisticsOps } from './statistics.js';
import { unaryOps } from './unary.js';
import { viewOps } from './view.js';

export const opTable: { readonly [Name in OpName]: OpRow } = {
  ...fillOps,
  ...randomOps,
  ...sampleOps,
  ...copyOps,
  ...movementOps,
  ...viewOps,
  ...unaryOps,
  ...binaryOps,
  ...reduceOps,
  ...statisticsOps,
  ...scanOps,
  ...sortOps,
  ...gemmOps,
  ...convOps,
  ...convTransposeOps,
  ...poolOps,
  ...softmaxOps,
  ...normOps,
  ...dropoutOps,
  ...rotaryOps,
  ...attentionOps,
  ...rnnOps,
  ...lossOps,
  ...indexOps,
  ...embeddingOps,
  ...gatherOps,
};
