/** Layers, losses and initialisers. */
export * from './activation.js';
export * as init from './init.js';
export { Linear, type LinearOptions } from './linear.js';
export { CrossEntropyLoss, MSELoss, mseLoss } from './loss.js';
export { buffer, Module, parameter, type StateDict } from './module.js';
export {
  GRU,
  GRUCell,
  LSTM,
  LSTMCell,
  type LSTMState,
  type RecurrentCellOptions,
  type RecurrentLayerOptions,
  RNN,
  RNNCell,
  type RNNCellOptions,
  type RNNOptions,
} from './rnn.js';
export {
  PackedSequence,
  type PadOptions,
  packPaddedSequence,
  padPackedSequence,
  padSequence,
  type SequenceOptions,
} from './sequence.js';
export { type Layer, Sequential } from './sequential.js';
