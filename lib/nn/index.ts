/** Layers, losses and initialisers. */
export * from './activation.js';
export type { BackwardHook, ForwardHook, ForwardPreHook } from './hooks.js';
export * as init from './init.js';
export { Linear, type LinearOptions } from './linear.js';
export { CrossEntropyLoss, MSELoss, mseLoss } from './loss.js';
export { buffer, Module, parameter, type StateDict } from './module.js';
export { type Layer, Sequential } from './sequential.js';
