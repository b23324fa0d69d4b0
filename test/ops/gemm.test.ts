import { devices, hopper } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { gemmRows } from './rows/gemm.js';

testOps(gemmRows, [...devices, ...hopper]);
