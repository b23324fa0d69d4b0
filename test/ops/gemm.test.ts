import { device, deviceCount } from '../../lib/index.js';
import { devices } from '../support/devices.js';
import { testOps } from '../support/op.js';
import { gemmRows } from './rows/gemm.js';

// The second emulated device has the instructions of sm_90, and other kernels for them.
const hopper = deviceCount('emulated') > 1 ? [device('emulated:1')] : [];
testOps(gemmRows, [...devices, ...hopper]);
