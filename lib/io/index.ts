/** Files of tensors. */
export { loadSafetensors, type SafetensorsFile, saveSafetensors } from './safetensors.js';
