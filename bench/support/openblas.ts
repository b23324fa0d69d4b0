/**
 * OpenBLAS chooses its kernels by the CPU's model and takes SSE3 ones for a model that is newer
 * than itself (0.3.21 does so on Emerald Rapids), three times as slow. A rival deserves better.
 */
import { measureFloor } from './floor.js';

const cores: Readonly<Record<string, string>> = { 'AVX-512': 'SkylakeX', AVX2: 'Haswell' };

/** Environment that makes OpenBLAS use the machine's instruction set; the user's own choice stays. */
export function openblasEnvironment(): Record<string, string> {
  const core = process.env.OPENBLAS_CORETYPE ?? cores[measureFloor(1, 0.03).instructionSet];
  return core === undefined ? {} : { OPENBLAS_CORETYPE: core };
}
