/** Whole networks. */
export { type CnnOptions, cnn } from './cnn.js';
export { mlp } from './mlp.js';
