/** Before all tests: what examples and benchmarks import by the package's name is compiled anew. */
import { buildPackage } from '../../bench/support/build.js';

export default function setup(): void {
  buildPackage();
}
