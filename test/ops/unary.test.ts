import { testOps } from '../support/op.js';
import { unaryRows } from './rows/unary.js';

testOps(unaryRows);
