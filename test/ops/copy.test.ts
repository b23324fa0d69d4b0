import { testOps } from '../support/op.js';
import { copyRows } from './rows/copy.js';

testOps(copyRows);
