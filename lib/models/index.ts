/** Whole networks. */
export {
  Bert,
  BertClassifier,
  type BertClassifierOptions,
  type BertInputs,
  type BertOptions,
} from './bert.js';
export { type CnnOptions, cnn } from './cnn.js';
export { mlp } from './mlp.js';
