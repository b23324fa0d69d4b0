/**
 * Every exported function, method and class with arguments that should succeed. A new export needs
 * a line in its part of catalogue/ (fuzz.test.ts says so).
 */
import './catalogue/foundation.js';
import './catalogue/attention.js';
import './catalogue/convolution.js';
import './catalogue/keras.js';
import './catalogue/data.js';
import './catalogue/layers.js';
import './catalogue/movement.js';
import './catalogue/norm.js';
import './catalogue/numeric.js';
import './catalogue/recurrent.js';
import './catalogue/research.js';
import './catalogue/training.js';
import { type Entry, entries } from './entries.js';

export type { Entry };
export const catalogue: readonly Entry[] = entries;
