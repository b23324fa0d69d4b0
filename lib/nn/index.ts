/** Layers, losses and initialisers. */
export * from './activation.js';
export * as init from './init.js';
export { Linear, type LinearOptions } from './linear.js';
export * from './loss/index.js';
export { buffer, Module, parameter, type StateDict } from './module.js';
export { type Layer, Sequential } from './sequential.js';
