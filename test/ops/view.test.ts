import { testOps } from '../support/op.js';
import { viewRows } from './rows/view.js';

testOps(viewRows);
