/** Whole networks. */
export { mlp } from './mlp.js';
