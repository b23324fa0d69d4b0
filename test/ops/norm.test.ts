import { testOps } from '../support/op.js';
import { normRows } from './rows/norm.js';

testOps(normRows);
