import { testOps } from '../support/op.js';
import { indexRows } from './rows/index.js';

testOps(indexRows);
